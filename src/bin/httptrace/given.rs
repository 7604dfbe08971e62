//! Options whose values have a form of their own: `--resolve`, `-u`, `--cert` and `--key`.
//!
//! In: their texts. Out: what they mean, checked as far as that can be done without sending anything; else a refusal with
//! its exit code. No message quotes a password.

use std::{fs, net::IpAddr, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderValue;
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};

use crate::exit::{CLIENT_CERTIFICATE, Failure, RESOLVE, USAGE};

/// Addresses that are not looked up; without any, the host is looked up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) addresses: Vec<IpAddr>,
}

/// `[+]HOST:PORT:ADDRESS[,ADDRESS]...`, or `-HOST:PORT`. The `+` would let curl's cache forget it in time; there is no
/// cache here.
///
/// # Errors
///
/// Code 49, as curl's.
pub(crate) fn known(text: &str) -> Result<Known, Failure> {
    let malformed = |why: &str| {
        Failure::new(RESOLVE, format!("option --resolve: {why}: write HOST:PORT:ADDRESS[,ADDRESS] or -HOST:PORT"))
    };
    let removed = text.strip_prefix('-');
    let entry = removed.or_else(|| text.strip_prefix('+')).unwrap_or(text);
    let (host, rest) = match entry.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").ok_or_else(|| malformed("a bracket is missing"))?,
        None => entry.split_once(':').ok_or_else(|| malformed("the port is missing"))?,
    };
    let (port, addresses) = rest.split_once(':').unwrap_or((rest, ""));
    let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| malformed("the port is not a number"))?;
    if host.is_empty() {
        return Err(malformed("the host is missing"));
    }
    let (host, addresses) = (host.to_owned(), addresses.split(',').filter(|_| removed.is_none()));
    let addresses = addresses.map(|address| {
        let plain = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        plain.parse().map_err(|_| malformed("an address is none"))
    });
    Ok(Known { host, port, addresses: addresses.collect::<Result<_, _>>()? })
}

/// `USER:PASSWORD` as Basic authorization (RFC 7617). This command never asks for a password: who runs it at night, or out
/// of a script, has nobody to answer.
///
/// # Errors
///
/// Code 2 without a colon.
pub(crate) fn basic(text: &str) -> Result<HeaderValue, Failure> {
    if !text.contains(':') {
        return Err(Failure::new(USAGE, "option -u has no password: write USER:PASSWORD, or USER: for an empty one"));
    }
    let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(text)));
    let mut value = value.expect("base64 is a header value");
    value.set_sensitive(true);
    Ok(value)
}

/// A client's certificate with its chain, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads PEM files; the key may be in the certificate's.
///
/// # Errors
///
/// Code 58: a file can't be read or used, or they don't belong together.
pub(crate) fn identity(cert: &Path, key: Option<&Path>) -> Result<Identity, Failure> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(cert)?).collect();
    let chain = chain.map_err(|error| refuse(format!("'{}' is not PEM: {error}", cert.display())))?;
    if chain.is_empty() {
        return Err(refuse(format!("'{}' has no certificate in it", cert.display())));
    }
    let place = key.unwrap_or(cert);
    let pem = read(place)?;
    let text = String::from_utf8_lossy(&pem);
    if text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        let name = place.display();
        return Err(refuse(format!("the key in '{name}' is encrypted: decrypt it first (openssl pkey -in '{name}')")));
    }
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| refuse(format!("'{}' has no private key in it", place.display())))?;
    CertifiedKey::from_der(chain.clone(), key.clone_key(), &ring::default_provider())
        .map_err(|error| refuse(format!("the client certificate can't be used: {error}")))?;
    Ok((chain, key))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| refuse(format!("cannot read '{}': {error}", path.display())))
}

fn refuse(message: String) -> Failure {
    Failure::new(CLIENT_CERTIFICATE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_as_curl_takes_them() {
        let entry = |host: &str, port, addresses: &[&str]| Known {
            host: host.to_owned(),
            port,
            addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        };
        for (text, expected) in [
            ("a:80:127.0.0.1", entry("a", 80, &["127.0.0.1"])),
            ("+a:80:127.0.0.1,[::1],::2", entry("a", 80, &["127.0.0.1", "::1", "::2"])),
            ("*:443:[::1]", entry("*", 443, &["::1"])),
            ("-a:80", entry("a", 80, &[])),
            ("-a:80:127.0.0.1", entry("a", 80, &[])),
            ("[::1]:80:127.0.0.1", entry("::1", 80, &["127.0.0.1"])),
        ] {
            assert_eq!(known(text).expect(text), expected);
        }
        for text in
            ["", "a", "a:80", "a:80:", "a:b:127.0.0.1", "a:0:127.0.0.1", ":80:127.0.0.1", "a:80:b", "a:80:1.1.1.1,"]
        {
            assert_eq!(known(text).expect_err(text).code, 49);
        }
    }

    #[test]
    fn a_password_is_never_asked_for() {
        assert_eq!(basic("user:secret").expect("valid"), "Basic dXNlcjpzZWNyZXQ=");
        assert_eq!(basic("user:").expect("valid"), "Basic dXNlcjo=");
        assert!(!basic("secret").expect_err("no colon").message.contains("secret"));
    }
}
