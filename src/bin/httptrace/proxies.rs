//! Which proxies the command uses: `-x`, `-U`, `--noproxy` and the environment, by curl's rules.
//!
//! In: the options. Out: proxies for the client, the first that is for a URL being the one; else the refusal with its exit
//! code. No message quotes a URL of a proxy: it may hold a password.

use std::path::Path;

use httptrace::dial::Proxy;
use rustls::pki_types::CertificateDer;

use crate::{
    args::Args,
    exit::{CONNECT, Failure, PROXY_NAME, USAGE},
};

/// The proxies. `roots` reads the file of `--proxy-cacert`.
///
/// # Errors
///
/// Code 5 for what is no URL of a proxy, 7 for another scheme (both as curl's), 2 for `-U` without a colon.
pub(crate) fn proxies(
    args: &Args,
    roots: impl Fn(&Path) -> Result<Vec<CertificateDer<'static>>, Failure>,
) -> Result<Vec<Proxy>, Failure> {
    let given = match args.proxy.as_deref() {
        // The word for none, whatever the environment says.
        Some("") => Vec::new(),
        Some(url) => {
            let proxy = Proxy::all(url).map_err(|error| refusal("option -x: ", &error))?;
            vec![proxy.no_proxy(&variable(&["no_proxy", "NO_PROXY"]))]
        }
        None => Proxy::from_env().map_err(|error| refusal("", &error))?,
    };
    let user = args.proxy_user.as_deref().map(|user| {
        let missing = "option -U has no password: write USER:PASSWORD, or USER: for an empty one";
        user.split_once(':').ok_or_else(|| Failure::new(USAGE, missing))
    });
    let (user, roots) = (user.transpose()?, args.proxy_cacert.as_deref().map(roots).transpose()?);
    given
        .into_iter()
        .map(|mut proxy| {
            if let Some(hosts) = &args.noproxy {
                proxy = proxy.no_proxy(hosts);
            }
            if let (Some((user, password)), false) = (user, proxy.has_credentials()) {
                let set = proxy.credentials(user, password);
                proxy = set.map_err(|error| Failure::new(USAGE, format!("option -U: {}", reason(&error))))?;
            }
            if let Some(roots) = &roots {
                proxy = proxy.root_certificates(roots.clone());
            }
            // As in curl, -k is for servers.
            Ok(if args.proxy_insecure { proxy.danger_accept_invalid_certs(true) } else { proxy })
        })
        .collect()
}

/// The first of these variables that says something.
fn variable(names: &[&str]) -> String {
    let set = names.iter().filter_map(|name| std::env::var(name).ok());
    set.into_iter().find(|value| !value.is_empty()).unwrap_or_default()
}

fn refusal(what: &str, error: &httptrace::Error) -> Failure {
    let reason = reason(error);
    let code = if reason.contains("scheme") { CONNECT } else { PROXY_NAME };
    Failure::new(code, format!("{what}{reason}"))
}

fn reason(error: &httptrace::Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_else(|| error.to_string())
}
