//! What a connection can serve: scheme, host and port.
//!
//! Made from a URI without copying it. Hosts compare without regard to case, and a missing port is the scheme's.

use std::hash::{Hash, Hasher};

use http::{Uri, uri::Authority};

use crate::{error::Error, redact::Hidden};

/// An origin (RFC 9110 §4.3.1).
#[derive(Debug, Clone)]
pub(crate) struct PoolKey {
    pub(crate) https: bool,
    pub(crate) port: u16,
    /// With the credentials, if there are any.
    authority: Hidden<Authority>,
    /// Where the host is in `authority`, brackets included: finding it means two scans, and every checkout compares hosts.
    start: u16,
    end: u16,
}

impl PoolKey {
    /// The origin of an absolute `http` or `https` URI.
    ///
    /// # Errors
    ///
    /// `invalid_request` if the scheme is another one, or there is no host.
    pub(crate) fn from_uri(uri: &Uri) -> Result<Self, Error> {
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) => return Err(Error::invalid("the URL's scheme is neither http nor https")),
            None => return Err(Error::invalid("the URL has no scheme: begin it with https or http")),
        };
        let authority = uri.authority().ok_or_else(|| Error::invalid("the URL has no host"))?.clone();
        let text = authority.as_str();
        // `Authority` has been checked: what follows an address in brackets, or a name, is the port. One pass, on every
        // request's way.
        let (mut start, mut end, mut bracketed) = (0, text.len(), false);
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                b'@' => (start, end, bracketed) = (at + 1, text.len(), false),
                b'[' => bracketed = true,
                b']' => bracketed = false,
                b':' if !bracketed && end == text.len() => end = at,
                _ => {}
            }
        }
        if start == end {
            return Err(Error::invalid("the URL has no host"));
        }
        let port = match text[end..].strip_prefix(':') {
            None | Some("") => default_port(https),
            Some(port) => match port.parse() {
                Ok(0) => return Err(Error::invalid("port 0 can't be connected to")),
                Ok(port) => port,
                Err(_) => return Err(Error::invalid("the URL's port is not a number from 1 to 65535")),
            },
        };
        // A `Uri` is shorter than 64 KiB.
        let (Ok(start), Ok(end)) = (u16::try_from(start), u16::try_from(end)) else {
            return Err(Error::invalid("the URL is too long"));
        };
        Ok(Self { https, port, authority: Hidden::new(authority), start, end })
    }

    /// Whether the URL has credentials.
    pub(crate) fn has_userinfo(&self) -> bool {
        self.start > 0
    }

    /// The host as it stands in the URL, an IPv6 address in its brackets.
    pub(crate) fn bracketed_host(&self) -> &str {
        &self.authority.as_str()[usize::from(self.start)..usize::from(self.end)]
    }

    /// The host, an IPv6 address without its brackets.
    pub(crate) fn host(&self) -> &str {
        let host = self.bracketed_host();
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The host as it stands in a `Host` field: with brackets, and a port unless it is the scheme's. A slice of the URI:
    /// it is wanted for every request.
    pub(crate) fn host_field(&self) -> &str {
        let text = &self.authority.as_str()[usize::from(self.start)..];
        if self.port == default_port(self.https) { &text[..usize::from(self.end - self.start)] } else { text }
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

impl PartialEq for PoolKey {
    fn eq(&self, other: &Self) -> bool {
        self.https == other.https && self.port == other.port && {
            let (host, other) = (self.bracketed_host().as_bytes(), other.bracketed_host().as_bytes());
            // Mostly they are spelled alike, and that is seen at once.
            host == other || host.eq_ignore_ascii_case(other)
        }
    }
}

impl Eq for PoolKey {}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One write for all of it: a hasher's cost is per call. Hosts longer than the array differ early enough.
        let mut bytes = [0_u8; 64];
        let host = self.bracketed_host().as_bytes();
        let length = host.len().min(bytes.len() - 3);
        for (to, from) in bytes.iter_mut().zip(&host[..length]) {
            *to = from.to_ascii_lowercase();
        }
        let port = self.port.to_be_bytes();
        bytes[length..length + 3].copy_from_slice(&[port[0], port[1], u8::from(self.https)]);
        state.write(&bytes[..length + 3]);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    fn key(uri: &str) -> PoolKey {
        PoolKey::from_uri(&uri.parse().expect("a URI")).expect("a key")
    }

    #[test]
    fn case_and_default_port_do_not_tell_origins_apart() {
        let state = std::hash::RandomState::new();
        let same = [key("https://Example.com/a"), key("https://example.com:443/b"), key("https://u:p@example.COM/")];
        for other in &same {
            assert_eq!(&same[0], other);
            assert_eq!(state.hash_one(&same[0]), state.hash_one(other));
        }
        assert_ne!(key("http://example.com/"), key("https://example.com/"));
        assert_ne!(key("http://example.com/"), key("http://example.com:8080/"));
        assert_eq!(key("http://[::1]:81/").host(), "::1");
        assert_eq!(key("http://[::1]:81/").host_field(), "[::1]:81");
    }

    #[test]
    fn an_origin_is_its_scheme_its_host_and_its_port() {
        // The port's default is the scheme's, so each differs from the first in one thing.
        for other in ["https://a.test:80/", "http://b.test:80/", "http://a.test:81/"] {
            assert_ne!(key("http://a.test:80/"), key(other));
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for uri in ["ftp://a/", "/path", "http://a:0/"] {
            let error = PoolKey::from_uri(&uri.parse().expect("a URI")).expect_err(uri);
            assert!(error.is_invalid_request(), "{uri}");
        }
    }
}
