//! What can be done about a failure on this side: which setting of the client has to do with it.

use std::error::Error as _;

use super::{Error, Kind, Why};
use crate::phase::Phase;

impl Error {
    /// What to change, where something of this client's can be: mostly an option of
    /// [`ClientBuilder`](crate::ClientBuilder), or what is wrong with the request. The words may change; program against
    /// [`error_type`](Self::error_type). Also in `Debug`, so that `main` and `unwrap` show it. No URL, no header.
    ///
    /// ```
    /// # fn example(error: httptrace::Error) {
    /// match error.help() {
    ///     Some(help) => eprintln!("{error} ({help})"),
    ///     None => eprintln!("{error}"),
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        Some(match self.kind() {
            Kind::HostNotFound => "`resolve_to` gives a name addresses of your choice, `resolver` asks elsewhere",
            Kind::NoAddresses => "`ip_version` and `local_address` leave out the addresses of other versions",
            Kind::AddressNotAvailable => {
                "`local_address` has to be one of this machine's; if its ports are used up, `max_connections` limits them"
            }
            Kind::ProxyAuthRequired => "`Proxy::credentials`, or the proxy's URL, has user and password",
            Kind::ProxyRefused => "`Proxy::no_proxy` reaches a host without the proxy",
            Kind::ProxyProtocolError => "check the scheme and the port of the proxy's URL",
            Kind::CertificateUntrusted if self.is_proxy() => {
                "`Proxy::root_certificates` trusts an authority of the proxy's"
            }
            Kind::CertificateUntrusted => {
                "`root_certificates` trusts an authority of your own; `danger_accept_invalid_certs` anybody, for tests"
            }
            Kind::CertificateNameMismatch => {
                "ask for a name that is in the certificate; `resolve_to` connects that name to any address"
            }
            Kind::TlsProtocolError if self.is_proxy() => "check that the proxy speaks TLS (else its scheme is http)",
            Kind::TlsProtocolError => {
                "check that the port speaks TLS (else the scheme is http); an authority of your own goes to \
                 `root_certificates`, a configuration to `tls_config`"
            }
            Kind::TlsClosed => "if the server wants a client's certificate, `client_certificate` gives it one",
            Kind::MalformedResponse => ANOTHER_PROTOCOL,
            // What speaks before it is asked speaks something else; the others may say why in their logs.
            Kind::ConnectionClosed if self.phase() == Phase::RequestWrite => ANOTHER_PROTOCOL,
            // It speaks something else.
            Kind::Http2ProtocolError if self.source().is_some_and(|why| why.is::<Why>()) => ANOTHER_PROTOCOL,
            Kind::Http2ProtocolError => "`http1_only` does without HTTP/2",
            Kind::HeadTooLarge => "`max_headers` and `max_head_bytes` allow more",
            Kind::TooManyInformational => "`max_informational` allows more",
            Kind::BodyTooLarge => "`ResponseExt::limit` allows more",
            Kind::BodyUnfit => "`ResponseExt::bytes` gives the body whatever it is; a `Content-Encoding` is not undone",
            Kind::InvalidRequest => return self.source()?.downcast_ref().map(Why::words),
            Kind::Timeout => return late(self.phase()),
            Kind::TryAgain
            | Kind::NoRecovery
            | Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::PermissionDenied
            | Kind::ConnectFailed
            | Kind::CertificateExpired
            | Kind::CertificateRevoked
            | Kind::CertificateInvalid
            | Kind::ConnectionClosed
            | Kind::WriteFailed
            | Kind::BodyIncomplete
            | Kind::Http2StreamReset
            | Kind::Http2GoAway
            | Kind::Canceled
            | Kind::RequestBodyFailed
            | Kind::TooManyRedirects
            | Kind::RedirectRefused
            | Kind::Other => return None,
        })
    }
}

const ANOTHER_PROTOCOL: &str = "check the scheme, http or https; `http2_prior_knowledge` is for ports that speak HTTP/2 without TLS, and for them alone";

/// Which limits end a wait in this phase.
fn late(phase: Phase) -> Option<&'static str> {
    Some(match phase {
        Phase::GetConnection => "`pool_wait_timeout` and `timeout` allow more; so do the limits of connections",
        Phase::Dns | Phase::Connect | Phase::Tunnel => "`connect_timeout` and `timeout` allow more",
        Phase::Tls => "`tls_handshake_timeout`, `connect_timeout` and `timeout` allow more",
        Phase::RequestWrite | Phase::ResponseWait => "`response_header_timeout` and `timeout` allow more",
        Phase::ResponseRead => "`body_idle_timeout` and `timeout` allow more",
        Phase::Request => "`timeout` allows more",
    })
}
