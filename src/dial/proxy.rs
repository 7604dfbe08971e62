//! Which proxy a request goes through, and what is spoken with it.
//!
//! In: URLs of proxies, as curl and others take them, and lists of hosts that need none. Out: the [`Route`] of an origin,
//! if it has one. The choice depends on the origin and on nothing else, so that the pool's key, which is the origin, never
//! stands for connections through different proxies, or with different credentials.

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri, uri::Authority};
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, pki_types::CertificateDer};

use super::{
    Target,
    no_proxy::NoProxy,
    tls::{Tls, Trust},
};
use crate::{
    config::ProtocolChoice,
    connection::{ProxyInfo, ProxyScheme},
    error::{Error, Kind, Why},
    phase::Phase,
    redact::Hidden,
};

/// A proxy, and which requests go through it: for [`ClientBuilder::proxy`](crate::ClientBuilder::proxy).
///
/// | URL of the proxy | `http` requests | `https` requests |
/// |---|---|---|
/// | `http://`, `https://` | are passed on by the proxy (RFC 9112 §3.2.2), with `Proxy-Authorization` | through a tunnel (CONNECT, RFC 9110 §9.3.6), in which TLS is the server's |
/// | `socks5://` | through a tunnel (RFC 1928) to the first address of the server, which is looked up here | the same |
/// | `socks5h://` | through a tunnel to the server's name, which the proxy looks up | the same |
///
/// A URL without a scheme is one of `http`. Without a port it is 443 for `https` and 1080 for all others, as with curl. It
/// may have credentials, percent-encoded: sent as Basic (RFC 7617), or as user and password (RFC 1929). HTTP/2 without TLS
/// ([`http2_prior_knowledge`](crate::ClientBuilder::http2_prior_knowledge)) goes through a tunnel as well.
///
/// `dns` and `connect` are those of the proxy, and a proxy that speaks TLS has a `tls` of its own before the server's. Then
/// `tunnel` is told, unless requests are passed on. What fails at a proxy says so: [`Error::is_proxy`].
///
/// ```
/// use httptrace::{Client, dial::Proxy};
///
/// let proxy = Proxy::all("http://user:password@proxy.example:3128")?.no_proxy("localhost,.internal.example,10.0.0.0/8");
/// let client = Client::builder().proxy(proxy).build()?;
/// # Ok::<(), httptrace::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct Proxy {
    scope: Scope,
    scheme: ProxyScheme,
    host: Arc<str>,
    port: u16,
    credentials: Option<Hidden<Credentials>>,
    no_proxy: NoProxy,
    /// Whom to trust as the proxy.
    trust: Trust,
}

/// Which requests a proxy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    All,
    Http,
    Https,
}

#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: String,
    password: String,
}

impl Proxy {
    /// A proxy for every request.
    ///
    /// # Errors
    ///
    /// `invalid_request` if the URL is none, or its scheme is another one. The error does not quote it.
    pub fn all(url: &str) -> Result<Self, Error> {
        Self::parsed(url, Scope::All).map_err(|why| Error::with(Kind::InvalidRequest, Phase::Request, Why::new(why)))
    }

    /// A proxy for requests to `http` URLs.
    ///
    /// # Errors
    ///
    /// As [`all`](Self::all).
    pub fn http(url: &str) -> Result<Self, Error> {
        Self::all(url).map(|proxy| Self { scope: Scope::Http, ..proxy })
    }

    /// A proxy for requests to `https` URLs.
    ///
    /// # Errors
    ///
    /// As [`all`](Self::all).
    pub fn https(url: &str) -> Result<Self, Error> {
        Self::all(url).map(|proxy| Self { scope: Scope::Https, ..proxy })
    }

    /// The proxies that the environment names, by curl's rules: `http_proxy` (never in capitals, since a CGI program has
    /// that variable from whoever asks it) for `http` URLs, `https_proxy` or `HTTPS_PROXY` for `https` URLs, `all_proxy` or
    /// `ALL_PROXY` for what is left; and for all of them `no_proxy` or `NO_PROXY`, as [`no_proxy`](Self::no_proxy) takes it.
    /// An empty variable is none. Nothing of this is read unless you call it.
    ///
    /// ```
    /// # use httptrace::{Client, dial::Proxy};
    /// let client = Client::builder().proxies(Proxy::from_env()?).build()?;
    /// # Ok::<(), httptrace::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `invalid_request` for a variable that is no URL of a proxy; its name is in the [`source`](std::error::Error::source).
    pub fn from_env() -> Result<Vec<Self>, Error> {
        Self::from_variables(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Vec<Self>, Error> {
        let first = |names: &[&'static str]| {
            let mut found = names.iter().filter_map(|name| Some((*name, get(name)?)));
            found.find(|(_, value)| !value.is_empty())
        };
        let no_proxy = NoProxy::new(&first(&["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default());
        let all = [
            (Scope::Http, &["http_proxy"][..]),
            (Scope::Https, &["https_proxy", "HTTPS_PROXY"]),
            (Scope::All, &["all_proxy", "ALL_PROXY"]),
        ];
        let given = all.into_iter().filter_map(|(scope, names)| Some((scope, first(names)?)));
        let proxies = given.map(|(scope, (name, url))| match Self::parsed(&url, scope) {
            Ok(proxy) => Ok(Self { no_proxy: no_proxy.clone(), ..proxy }),
            Err(why) => {
                Err(Error::with(Kind::InvalidRequest, Phase::Request, Why::new(format!("variable {name}: {why}"))))
            }
        });
        proxies.collect()
    }

    fn parsed(url: &str, scope: Scope) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let scheme = match &*scheme.to_ascii_lowercase() {
            "http" => ProxyScheme::Http,
            "https" => ProxyScheme::Https,
            "socks5" => ProxyScheme::Socks5,
            "socks5h" => ProxyScheme::Socks5h,
            _ => return Err(BAD_SCHEME),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, authority),
        };
        let place = Authority::try_from(place).map_err(|_| "the proxy's URL has no usable host")?;
        let host = place.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let digits = place.as_str()[place.host().len()..].strip_prefix(':').filter(|digits| !digits.is_empty());
        let port = match digits.map(str::parse) {
            None if scheme == ProxyScheme::Https => 443,
            None => 1080,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err("the port of the proxy's URL is not a number from 1 to 65535"),
        };
        if host.is_empty() {
            return Err("the proxy's URL has no host");
        }
        let this = Self {
            scope,
            scheme,
            host: host.into(),
            port,
            credentials: None,
            no_proxy: NoProxy::default(),
            trust: Trust::Platform,
        };
        let Some(userinfo) = userinfo else { return Ok(this) };
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|_| "the proxy's credentials are no UTF-8");
        this.with_credentials(decoded(user)?.into_owned(), decoded(password)?.into_owned())
    }

    fn with_credentials(mut self, user: String, password: String) -> Result<Self, &'static str> {
        let fits = |text: &str| (1..=255).contains(&text.len());
        match self.scheme {
            ProxyScheme::Http | ProxyScheme::Https if user.contains(':') => {
                return Err("the proxy's user has a colon, which Basic can't say");
            }
            ProxyScheme::Socks5 | ProxyScheme::Socks5h if !fits(&user) || !fits(&password) => {
                return Err("SOCKS takes a user and a password of 1 to 255 bytes each");
            }
            ProxyScheme::Http | ProxyScheme::Https | ProxyScheme::Socks5 | ProxyScheme::Socks5h => {}
        }
        self.credentials = Some(Hidden::new(Credentials { user, password }));
        Ok(self)
    }

    /// User and password, in place of those that the URL has. Default: the URL's, or none.
    ///
    /// # Errors
    ///
    /// `invalid_request` for what can't be sent: a colon in the user's name to an HTTP proxy (RFC 7617 §2), and to a SOCKS
    /// proxy what is empty or longer than 255 bytes (RFC 1929 §2).
    pub fn credentials(self, user: &str, password: &str) -> Result<Self, Error> {
        self.with_credentials(user.to_owned(), password.to_owned()).map_err(Error::invalid)
    }

    /// Whether it has credentials, of its URL or others.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Hosts that are reached without it, by curl's rules: names, addresses and networks (`10.0.0.0/8`, `fd00::/8`; IPv6
    /// without brackets), separated by commas or blanks. A name stands for itself and all below it, with or without a
    /// leading dot. A `*` that stands alone is every host. Ports can't be told apart. In place of an earlier list; default:
    /// none.
    pub fn no_proxy(mut self, hosts: &str) -> Self {
        self.no_proxy = NoProxy::new(hosts);
        self
    }

    /// Trusts these roots as a proxy that speaks TLS, and no others. Default: the platform's, whomever the client trusts as
    /// servers, since a proxy is somebody else.
    pub fn root_certificates(mut self, roots: Vec<CertificateDer<'static>>) -> Self {
        self.trust = Trust::Roots(roots);
        self
    }

    /// TLS with the proxy by a configuration of your own, with a client's certificate for one. Its ALPN list is not used:
    /// what is spoken with a proxy is HTTP/1.1. Default: the platform's roots, and no certificate of the client's.
    pub fn tls_config(mut self, config: ClientConfig) -> Self {
        self.trust = Trust::Own(Arc::new(config));
        self
    }

    /// Whether any certificate of the proxy is accepted: it, or who takes its place, is given the credentials then. Servers
    /// behind it are verified as ever. Default: no, also where the client accepts any of servers.
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.trust.accept_invalid(accept);
        self
    }

    /// Whether requests to this URL go through it, if none before it is for them.
    #[must_use]
    pub fn is_for(&self, url: &Uri) -> bool {
        let host = url.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        self.covers(url.scheme_str() == Some("https"), host)
    }

    /// Its URL without credentials: `http://proxy.example:3128`.
    #[must_use]
    pub fn url(&self) -> String {
        let Self { scheme, host, port, .. } = self;
        let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{}://{open}{host}{close}:{port}", scheme.as_str())
    }

    fn covers(&self, https: bool, host: &str) -> bool {
        let scheme = match self.scope {
            Scope::All => true,
            Scope::Http => !https,
            Scope::Https => https,
        };
        scheme && !self.no_proxy.has(host)
    }
}

const BAD_SCHEME: &str = "the proxy's scheme is none of http, https, socks5 and socks5h";

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("url", &self.url())
            .field("scope", &self.scope)
            .field("credentials", &self.credentials)
            .field("no_proxy", &self.no_proxy)
            .finish_non_exhaustive()
    }
}

// === the proxies of a client ===

/// The ways of a client's requests, the first that is for an origin being the one it takes.
#[derive(Debug, Default)]
pub(crate) struct Routes(Vec<Route>);

/// A proxy, ready for use.
#[derive(Debug)]
pub(crate) struct Route {
    proxy: Proxy,
    /// How the proxy is spoken to in TLS, if it is.
    pub(super) tls: Option<Tls>,
    /// What a connection says that passes requests on, and one through a tunnel.
    forwarding: Arc<ProxyInfo>,
    tunnelling: Arc<ProxyInfo>,
}

impl Routes {
    pub(crate) fn new(proxies: Vec<Proxy>, log_keys: bool) -> Self {
        Self(proxies.into_iter().map(|proxy| Route::new(proxy, log_keys)).collect())
    }

    pub(super) fn to(&self, target: &Target) -> Option<&Route> {
        self.0.iter().find(|route| route.proxy.covers(target.https, &target.host))
    }

    /// Builds what there is to build of TLS now, so that what can't be used is told now.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let given = self.0.iter().filter(|route| !matches!(route.proxy.trust, Trust::Platform));
        given.filter_map(|route| route.tls.as_ref()).try_for_each(Tls::check)
    }
}

/// What is asked of a proxy.
pub(super) enum Asked<'a> {
    /// To pass requests on: there is nothing to ask before them.
    Nothing,
    /// A tunnel, by CONNECT, with these credentials.
    Connect(Option<&'a HeaderValue>),
    /// A tunnel, by SOCKS5, with this user and password.
    Socks { names: Names, credentials: Option<(&'a str, &'a str)> },
}

/// Who looks names up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Here,
    There,
}

impl Route {
    fn new(proxy: Proxy, log_keys: bool) -> Self {
        let tls = (proxy.scheme == ProxyScheme::Https).then(|| Tls::to_proxy(proxy.trust.clone(), log_keys));
        let info = |forwards: bool| {
            let authorization = proxy.credentials.as_ref().and_then(|credentials| basic(credentials));
            Arc::new(ProxyInfo {
                scheme: proxy.scheme,
                host: Arc::clone(&proxy.host),
                port: proxy.port,
                forwards,
                authorization: Hidden::new(authorization),
                text: proxy.url().into(),
            })
        };
        Self { tls, forwarding: info(true), tunnelling: info(false), proxy }
    }

    pub(super) fn host(&self) -> &Arc<str> {
        &self.proxy.host
    }

    pub(super) fn port(&self) -> u16 {
        self.proxy.port
    }

    pub(super) fn scheme(&self) -> ProxyScheme {
        self.proxy.scheme
    }

    /// What a connection to this target says of it.
    pub(super) fn info(&self, target: &Target, protocol: ProtocolChoice) -> &Arc<ProxyInfo> {
        match self.asked(target, protocol) {
            Asked::Nothing => &self.forwarding,
            Asked::Connect(_) | Asked::Socks { .. } => &self.tunnelling,
        }
    }

    pub(super) fn asked(&self, target: &Target, protocol: ProtocolChoice) -> Asked<'_> {
        let names = match self.proxy.scheme {
            // Passed on are requests of HTTP/1.1 alone.
            ProxyScheme::Http | ProxyScheme::Https
                if target.https || protocol == ProtocolChoice::Http2PriorKnowledge =>
            {
                return Asked::Connect(self.tunnelling.authorization.as_ref());
            }
            ProxyScheme::Http | ProxyScheme::Https => return Asked::Nothing,
            ProxyScheme::Socks5 => Names::Here,
            ProxyScheme::Socks5h => Names::There,
        };
        let credentials = self.proxy.credentials.as_deref();
        Asked::Socks { names, credentials: credentials.map(|it| (it.user.as_str(), it.password.as_str())) }
    }
}

/// Basic authorization (RFC 7617).
fn basic(Credentials { user, password }: &Credentials) -> Option<HeaderValue> {
    let mut value =
        HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(error: &Error) -> String {
        std::error::Error::source(error).expect("a reason").to_string()
    }

    fn target(https: bool, host: &str) -> Target {
        Target { https, host: host.into(), port: 8080, http1_only: false }
    }

    #[test]
    fn a_proxys_url_is_read_as_curl_reads_it() {
        for (given, url, credentials) in [
            ("proxy.test", "http://proxy.test:1080", None),
            ("proxy.test:3128", "http://proxy.test:3128", None),
            ("HTTP://proxy.test:3128/path?query#fragment", "http://proxy.test:3128", None),
            ("https://proxy.test", "https://proxy.test:443", None),
            ("socks5://[::1]", "socks5://[::1]:1080", None),
            ("socks5h://u:p@proxy.test:", "socks5h://proxy.test:1080", Some(("u", "p"))),
            ("http://a%40b:c%3ad@proxy.test", "http://proxy.test:1080", Some(("a@b", "c:d"))),
            ("a:b@c@proxy.test", "http://proxy.test:1080", Some(("a", "b@c"))),
            ("http://user@proxy.test", "http://proxy.test:1080", Some(("user", ""))),
        ] {
            let proxy = Proxy::all(given).expect(given);
            assert_eq!(proxy.url(), url, "{given}");
            let told = proxy.credentials.as_deref().map(|it| (it.user.as_str(), it.password.as_str()));
            assert_eq!(told, credentials, "{given}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_proxy_is_refused_and_not_quoted() {
        for given in [
            "",
            "http://",
            "http://geheim@",
            "ftp://geheim.test",
            "socks4://geheim.test",
            "http://geheim.test:0",
            "http://geheim.test:99999",
            "http://geheim.test:a",
            "http://gehe im.test",
            "http://[::1",
            "socks5://geheim@proxy.test",
            "socks5://:geheim@proxy.test",
            "http://geheim%3a:p@proxy.test",
            "http://geheim%ff:p@proxy.test",
        ] {
            let error = Proxy::all(given).expect_err(given);
            assert!(error.is_invalid_request(), "{given}");
            assert!(!format!("{error} {error:?} {}", why(&error)).contains("geheim"), "{given}: {error:?}");
        }
        let proxy = Proxy::all("socks5://proxy.test").expect("a URL");
        assert!(proxy.clone().credentials("u", &"x".repeat(256)).is_err() && proxy.credentials("u", "p").is_ok());
    }

    #[test]
    fn the_environment_is_read_by_curls_rules() {
        let read = |variables: &[(&str, &str)]| {
            let get = |name: &str| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
            let routes = Routes::new(Proxy::from_variables(get).expect("URLs"), false);
            let of = |https| routes.to(&target(https, "origin.test")).map(|route| route.host().to_string());
            (of(false), of(true))
        };
        let some = |name: &str| Some(name.to_owned());
        for (variables, expected) in [
            (&[][..], (None, None)),
            (&[("http_proxy", "a")], (some("a"), None)),
            // Whoever asks a CGI program can set it.
            (&[("HTTP_PROXY", "a")], (None, None)),
            (&[("https_proxy", "a"), ("HTTPS_PROXY", "b")], (None, some("a"))),
            (&[("https_proxy", ""), ("HTTPS_PROXY", "b")], (None, some("b"))),
            (&[("ALL_PROXY", "a")], (some("a"), some("a"))),
            (&[("all_proxy", "a"), ("http_proxy", "b"), ("ALL_PROXY", "c")], (some("b"), some("a"))),
            (&[("all_proxy", "a"), ("NO_PROXY", "test")], (None, None)),
            (&[("all_proxy", "a"), ("no_proxy", "other"), ("NO_PROXY", "test")], (some("a"), some("a"))),
        ] {
            assert_eq!(read(variables), expected, "{variables:?}");
        }
        let broken = Proxy::from_variables(|name| (name == "ALL_PROXY").then(|| "ftp://geheim@a".to_owned()));
        let why = why(&broken.expect_err("another scheme"));
        assert_eq!(why, format!("variable ALL_PROXY: {BAD_SCHEME}"));
    }

    #[test]
    fn the_first_proxy_that_is_for_a_url_is_taken() {
        let proxies = [
            Proxy::http("a").expect("a URL").no_proxy("direct.test"),
            Proxy::https("b").expect("a URL"),
            Proxy::all("c").expect("a URL").no_proxy("*"),
            Proxy::all("d").expect("a URL"),
        ];
        let uri = |text| Uri::from_static(text);
        assert!(proxies[0].is_for(&uri("http://origin.test/")) && !proxies[0].is_for(&uri("https://origin.test/")));
        assert!(!proxies[2].is_for(&uri("http://[::1]/")) && proxies[3].is_for(&uri("http://[::1]/")));
        let routes = Routes::new(proxies.into(), false);
        for (https, host, proxy) in
            [(false, "origin.test", "a"), (true, "origin.test", "b"), (false, "direct.test", "d")]
        {
            assert_eq!(&**routes.to(&target(https, host)).expect("a proxy").host(), proxy);
        }
    }

    #[test]
    fn no_credentials_are_in_a_debug() {
        let proxy = Proxy::all("https://geheim-user:geheim-pass@proxy.test").expect("a URL");
        let routes = Routes::new(vec![proxy.clone()], false);
        let said = format!("{proxy:?} {proxy:#?} {routes:?}");
        assert!(!said.contains("geheim") && !said.contains("Z2VoZWlt") && said.contains("REDACTED"), "{said}");
    }
}
