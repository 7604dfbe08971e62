//! The one error type.
//!
//! An [`Error`] says what went wrong (`error_type()`, out of a closed set), in which [`Phase`], and why (`source()`).
//! Its text holds no URL and no header, so it can be logged anywhere; so can its `Debug`, which tells of the causes only
//! those that are known to quote nothing. `source()` is the cause itself, with all that it says.

mod help;

use std::{borrow::Cow, error::Error as StdError, fmt, io, sync::Arc};

use http::StatusCode;

use crate::phase::Phase;

/// Any error that this crate's causes may be made of.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Why a request failed.
///
/// Cheap to clone (one pointer): when several requests waited for one connection that could not be made, each gets the
/// same error.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: Kind,
    phase: Phase,
    /// It is a proxy that failed, and not the server behind it.
    at_proxy: bool,
    /// Shared: an error that is told once more for a proxy has the same cause.
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: Kind, phase: Phase) -> Self {
        Self(Arc::new(Inner { kind, phase, at_proxy: false, source: None }))
    }

    pub(crate) fn with(kind: Kind, phase: Phase, source: impl Into<BoxError>) -> Self {
        Self(Arc::new(Inner { kind, phase, at_proxy: false, source: Some(source.into().into()) }))
    }

    /// The same, of a proxy.
    pub(crate) fn at_proxy(self) -> Self {
        let (kind, phase) = (self.kind(), self.phase());
        Self(Arc::new(Inner { kind, phase, at_proxy: true, source: self.0.source.clone() }))
    }

    pub(crate) fn timeout(phase: Phase) -> Self {
        Self::new(Kind::Timeout, phase)
    }

    pub(crate) fn canceled(phase: Phase) -> Self {
        Self::new(Kind::Canceled, phase)
    }

    pub(crate) fn invalid(why: &'static str) -> Self {
        Self::with(Kind::InvalidRequest, Phase::Request, Why::new(why))
    }

    /// The first cause, if it is one that may be shown.
    #[cfg_attr(not(feature = "otel"), allow(dead_code, reason = "for views"))]
    pub(crate) fn shown_cause(&self) -> Option<String> {
        self.source().and_then(shown)
    }

    /// For what follows redirects on top of the client: there were more than it follows (`too_many_redirects`).
    #[must_use]
    pub fn too_many_redirects() -> Self {
        Self::new(Kind::TooManyRedirects, Phase::Request)
    }

    /// For what follows redirects on top of the client: it won't go where this one leads (`redirect_refused`).
    pub fn redirect_refused(why: impl Into<BoxError>) -> Self {
        Self::with(Kind::RedirectRefused, Phase::Request, why)
    }

    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The innermost phase that died; [`Phase::Request`] if it was none of them.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.phase
    }

    /// The low-cardinality name of what happened, as in the `error.type` attribute: `connection_refused`, `timeout`, ….
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        self.0.kind.as_str()
    }

    /// No connection could be made: it failed in `dns`, `connect`, `tunnel` or `tls`.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self.phase(), Phase::Dns | Phase::Connect | Phase::Tunnel | Phase::Tls)
    }

    /// The host's name could not be resolved.
    #[must_use]
    pub fn is_dns(&self) -> bool {
        self.phase() == Phase::Dns
    }

    /// The TLS handshake or the server's certificate failed.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.phase() == Phase::Tls
    }

    /// It was a proxy that failed, and not the server behind it: its name, its address, its own TLS, or its answer. What it
    /// said is the [`source`](std::error::Error::source), a [`ProxyRefusal`].
    #[must_use]
    pub fn is_proxy(&self) -> bool {
        self.0.at_proxy || self.phase() == Phase::Tunnel
    }

    /// A timeout of this client ran out, or the system gave up on a peer that acknowledges nothing.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == Kind::Timeout
    }

    /// The request was given up by its caller, or its client was shut down.
    #[must_use]
    pub fn is_canceled(&self) -> bool {
        self.kind() == Kind::Canceled
    }

    /// The request's or the response's body failed, or could not be read as [`ResponseExt`](crate::ResponseExt) was asked to.
    #[must_use]
    pub fn is_body(&self) -> bool {
        matches!(self.kind(), Kind::RequestBodyFailed | Kind::BodyIncomplete | Kind::BodyTooLarge | Kind::BodyUnfit)
    }

    /// The request itself can't be sent: another scheme, no host, a header that the protocol forbids.
    #[must_use]
    pub fn is_invalid_request(&self) -> bool {
        self.kind() == Kind::InvalidRequest
    }
}

impl fmt::Display for Error {
    /// Only its own level: the cause is in `source()`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words of a tunnel are of the proxy anyway.
        let whose = if self.0.at_proxy && self.phase() != Phase::Tunnel { "proxy: " } else { "" };
        write!(f, "{}: {whose}{}", self.phase(), self.kind().message())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Error");
        out.field("phase", &self.phase()).field("error_type", &self.error_type());
        if self.0.source.is_some() {
            out.field("causes", &Causes(self));
        }
        // A request's fault is its cause.
        if let Some(help) = self.help().filter(|_| self.kind() != Kind::InvalidRequest) {
            out.field("help", &help);
        }
        out.finish()
    }
}

/// The causes, from the nearest on. What may not be shown is only counted.
struct Causes<'a>(&'a Error);

impl fmt::Debug for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_list();
        let mut next = self.0.source();
        while let Some(cause) = next {
            out.entry(&shown(cause).as_deref().unwrap_or("(not shown)"));
            next = cause.source();
        }
        out.finish()
    }
}

/// A cause's own words, if they are those of a library that quotes neither the application nor the peer. An error of the
/// application's own (its body's, connector's, resolver's) may say anything.
fn shown(cause: &(dyn StdError + 'static)) -> Option<String> {
    use rustls::{CertificateError, Error::*};

    if let Some(error) = cause.downcast_ref::<io::Error>() {
        return match error.get_ref() {
            Some(inner) => shown(inner).or_else(|| Some(error.kind().to_string())),
            None => Some(error.to_string()),
        };
    }
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        // Not what the peer says beside it in GOAWAY.
        return error.reason().map(|reason| reason.to_string());
    }
    if let Some(error) = cause.downcast_ref::<rustls::Error>() {
        let of_others = matches!(error, Other(_) | InvalidCertificate(CertificateError::Other(_)));
        return (!of_others).then(|| error.to_string());
    }
    #[cfg(feature = "json")]
    if let Some(error) = cause.downcast_ref::<serde_json::Error>() {
        // Its own words quote the document.
        return Some(format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column()));
    }
    let quotes_nothing = cause.is::<Error>()
        || cause.is::<Why>()
        || cause.is::<ProxyRefusal>()
        || cause.is::<hyper::Error>()
        || cause.is::<http::Error>()
        || cause.is::<std::string::FromUtf8Error>()
        || cause.is::<rustls::pki_types::InvalidDnsNameError>();
    quotes_nothing.then(|| cause.to_string())
}

/// This crate's own words for a cause that nobody else has an error for.
#[derive(Debug)]
pub(crate) struct Why(Cow<'static, str>);

impl Why {
    pub(crate) fn new(words: impl Into<Cow<'static, str>>) -> Self {
        Self(words.into())
    }

    fn words(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Why {}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

/// Why a proxy made no tunnel, in its own numbers: the [`source`](std::error::Error::source) of a `proxy_refused` or a
/// `proxy_auth_required`. None of a proxy's words is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyRefusal {
    /// The status of its answer to CONNECT (RFC 9110 §9.3.6).
    Status(StatusCode),
    /// The reply of a SOCKS5 proxy (RFC 1928 §6), from 1 to 8.
    SocksReply(u8),
    /// A SOCKS5 proxy takes none of the ways to authenticate that were offered: credentials are missing.
    SocksMethods,
    /// A SOCKS5 proxy does not accept the credentials (RFC 1929).
    SocksCredentials,
}

impl fmt::Display for ProxyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::SocksReply(reply) => f.write_str(match reply {
                2 => "SOCKS: its rules do not allow the connection",
                3 => "SOCKS: network unreachable",
                4 => "SOCKS: host unreachable",
                5 => "SOCKS: connection refused",
                6 => "SOCKS: TTL expired",
                7 => "SOCKS: command not supported",
                8 => "SOCKS: address type not supported",
                _ => "SOCKS: general failure",
            }),
            Self::SocksMethods => f.write_str("SOCKS: it wants credentials"),
            Self::SocksCredentials => f.write_str("SOCKS: it does not accept the credentials"),
        }
    }
}

impl StdError for ProxyRefusal {}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $message:literal;)+) => {
        /// What went wrong: the closed set of `error.type` values.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Kind { $($(#[$doc])* $name,)+ }

        impl Kind {
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)+ }
            }
        }
    };
}

kinds! {
    HostNotFound = "host_not_found", "host name not found";
    TryAgain = "try_again", "the name server did not answer; try again";
    NoRecovery = "no_recovery", "the name lookup failed for good";
    NoAddresses = "no_addresses", "the host has no addresses";
    ConnectionRefused = "connection_refused", "connection refused";
    ConnectionReset = "connection_reset", "connection reset by the peer";
    NetworkUnreachable = "network_unreachable", "network unreachable";
    HostUnreachable = "host_unreachable", "host unreachable";
    AddressNotAvailable = "address_not_available", "address not available";
    PermissionDenied = "permission_denied", "permission denied";
    ConnectFailed = "connect_failed", "the connection could not be made";
    ProxyAuthRequired = "proxy_auth_required", "the proxy wants other credentials";
    ProxyRefused = "proxy_refused", "the proxy refused";
    ProxyProtocolError = "proxy_protocol_error", "the proxy's answer is none";
    CertificateUntrusted = "certificate_untrusted", "the server's certificate is not trusted";
    CertificateExpired = "certificate_expired", "the server's certificate has expired or is not valid yet";
    CertificateNameMismatch = "certificate_name_mismatch", "the server's certificate is for another host name";
    CertificateRevoked = "certificate_revoked", "the server's certificate was revoked";
    CertificateInvalid = "certificate_invalid", "the server's certificate is invalid";
    TlsProtocolError = "tls_protocol_error", "the TLS handshake failed";
    TlsClosed = "tls_closed", "the peer closed the connection during the TLS handshake";
    ConnectionClosed = "connection_closed", "the server closed the connection before its response";
    WriteFailed = "write_failed", "the request could not be written";
    MalformedResponse = "malformed_response", "the response is malformed";
    HeadTooLarge = "head_too_large", "the response head is too large";
    TooManyInformational = "too_many_informational", "too many interim responses";
    BodyIncomplete = "body_incomplete", "the response body ended too early";
    /// Of [`ResponseExt`](crate::ResponseExt): no more of it is read.
    BodyTooLarge = "body_incomplete", "the response body is larger than allowed";
    /// Of [`ResponseExt`](crate::ResponseExt): it is whole, and something else.
    BodyUnfit = "malformed_response", "the response body is not what was asked for";
    Http2ProtocolError = "http2_protocol_error", "HTTP/2 protocol error";
    Http2StreamReset = "http2_stream_reset", "the HTTP/2 stream was reset";
    Http2GoAway = "http2_goaway", "the server is closing the HTTP/2 connection";
    Timeout = "timeout", "timed out";
    Canceled = "canceled", "canceled";
    RequestBodyFailed = "request_body_failed", "the request body failed";
    InvalidRequest = "invalid_request", "invalid request";
    TooManyRedirects = "too_many_redirects", "too many redirects";
    RedirectRefused = "redirect_refused", "the redirect can't be followed";
    Other = "_OTHER", "failed";
}

impl Kind {
    /// The kind of a failed connect, out of the system's own error.
    pub(crate) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::ConnectionReset => Self::ConnectionReset,
            io::ErrorKind::NetworkUnreachable => Self::NetworkUnreachable,
            io::ErrorKind::HostUnreachable => Self::HostUnreachable,
            io::ErrorKind::AddrNotAvailable => Self::AddressNotAvailable,
            io::ErrorKind::PermissionDenied => Self::PermissionDenied,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ => Self::ConnectFailed,
        }
    }
}

/// The first error of type `T` in a chain of causes.
///
/// An `io::Error` that was made of another error does not name that one as its source, but that one's source; so it is
/// looked into as well.
pub(crate) fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn a_cause_is_found_inside_of_an_io_error() {
        let inner = rustls::Error::HandshakeNotComplete;
        let error = Error::with(Kind::Other, Phase::Tls, io::Error::new(io::ErrorKind::InvalidData, inner.clone()));
        assert_eq!(find::<rustls::Error>(&error), Some(&inner));
    }

    #[test]
    fn the_text_is_one_level_and_the_cause_is_the_source() {
        let error = Error::with(Kind::ConnectionRefused, Phase::Connect, io::Error::other("inner"));
        assert_eq!(error.to_string(), "connect: connection refused");
        assert_eq!(error.source().expect("a cause").to_string(), "inner");
        assert!(error.is_connect() && !error.is_dns() && !error.is_timeout());
    }

    #[test]
    fn debug_tells_causes_that_quote_nothing_and_no_others() {
        let own = io::Error::other("planted");
        let of_tls = rustls::Error::Other(rustls::OtherError(Arc::from(BoxError::from("planted"))));
        for (cause, told) in [
            (BoxError::from("planted"), r#"["(not shown)"]"#),
            (own.into(), r#"["other error"]"#),
            (io::Error::from_raw_os_error(111).into(), r#"["Connection refused (os error 111)"]"#),
            (Error::invalid("the URL has no host").into(), r#"["request: invalid request", "the URL has no host"]"#),
            (rustls::Error::HandshakeNotComplete.into(), r#"["handshake not complete"]"#),
            (io::Error::other(rustls::Error::DecryptError).into(), r#"["cannot decrypt peer's message"]"#),
            (of_tls.into(), r#"["(not shown)"]"#),
            (h2::Error::from(h2::Reason::CANCEL).into(), r#"["stream no longer needed"]"#),
        ] {
            let error = Error::with(Kind::Other, Phase::Connect, cause);
            let shown = format!("{error:?}");
            assert_eq!(shown, format!(r#"Error {{ phase: Connect, error_type: "_OTHER", causes: {told} }}"#));
        }
    }
}
