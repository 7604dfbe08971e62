//! TLS: the configuration, the handshake, and what it agreed on.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    CertificateError, ClientConfig, ProtocolVersion,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::sync::OnceCell;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    config::ProtocolChoice,
    connection::{LeafCertificate, TlsInfo},
    error::{BoxError, Error, Kind, Why, find},
    hooks::emit::Hooks,
    phase::Phase,
    transport::Socket,
};

/// Whom to trust.
#[derive(Debug, Clone, Default)]
pub(crate) enum Trust {
    /// The platform's roots, read when the first `https` connection is dialled.
    #[default]
    Platform,
    /// These roots and no others.
    Roots(Vec<CertificateDer<'static>>),
    /// Anybody.
    Nobody,
    /// A configuration of the user's own. Its ALPN list wins.
    Own(Arc<ClientConfig>),
}

impl Trust {
    /// Whether any certificate is accepted. What was switched on is switched off again to the platform's roots.
    pub(crate) fn accept_invalid(&mut self, accept: bool) {
        match self {
            _ if accept => *self = Self::Nobody,
            Self::Nobody => *self = Self::Platform,
            Self::Platform | Self::Roots(_) | Self::Own(_) => {}
        }
    }
}

/// A client's certificate with its chain, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// TLS as this client does it.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<Terms>);

#[derive(Debug)]
struct Terms {
    trust: Trust,
    protocol: ProtocolChoice,
    /// The secrets of every connection go to the file that `SSLKEYLOGFILE` names.
    log_keys: bool,
    identity: Option<Identity>,
    /// With a proxy, to which nothing but HTTP/1.1 is spoken.
    of_proxy: bool,
    /// Made once, when first needed.
    config: OnceCell<Result<Arc<ClientConfig>, Error>>,
}

impl Tls {
    pub(crate) fn new(trust: Trust, protocol: ProtocolChoice, log_keys: bool, identity: Option<Identity>) -> Self {
        let config = OnceCell::new();
        Self(Arc::new(Terms { trust, protocol, log_keys, identity, of_proxy: false, config }))
    }

    /// TLS with a proxy.
    pub(super) fn to_proxy(trust: Trust, log_keys: bool) -> Self {
        let (protocol, identity, config) = (ProtocolChoice::Http1, None, OnceCell::new());
        Self(Arc::new(Terms { trust, protocol, log_keys, identity, of_proxy: true, config }))
    }

    /// Whether the server may choose HTTP/2.
    pub(crate) fn may_speak_http2(&self) -> bool {
        match &self.0.trust {
            Trust::Own(config) if !config.alpn_protocols.is_empty() => config.alpn_protocols.iter().any(|p| p == b"h2"),
            _ => self.0.protocol != ProtocolChoice::Http1,
        }
    }

    /// Whether a server that refuses HTTP/2 can be asked in HTTP/1.1.
    pub(crate) fn may_fall_back(&self) -> bool {
        let listed = match &self.0.trust {
            Trust::Own(config) => config.alpn_protocols.is_empty() || config.alpn_protocols.iter().any(|p| p == HTTP1),
            Trust::Platform | Trust::Roots(_) | Trust::Nobody => true,
        };
        listed && self.0.protocol == ProtocolChoice::Alpn
    }

    /// Makes the configuration now, so that unusable roots are told now.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if let Some(made) = self.0.config.get() {
            return made.clone().map(drop);
        }
        let made = self.0.made();
        // If another makes it meanwhile, it is the same.
        let _ = self.0.config.set(made.clone());
        made.map(drop)
    }

    /// Begins to make what takes long: the platform's roots are some hundred files, or a large one. So that is done beside
    /// the lookup and the connect, and is no gap between them and the handshake.
    pub(super) fn prepare(&self) {
        if matches!(self.0.trust, Trust::Platform) && !self.0.config.initialized() {
            let this = self.clone();
            tokio::spawn(async move { this.config().await.map(drop) });
        }
    }

    #[cfg(test)]
    pub(super) fn is_prepared(&self) -> bool {
        self.0.config.initialized()
    }

    /// The configuration; one of several callers makes it.
    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, Error> {
        let terms = &self.0;
        let made = terms.config.get_or_try_init(|| async {
            match terms.trust {
                // It reads files: not on a thread that polls sockets. A runtime that ends meanwhile is no answer to keep.
                Trust::Platform => {
                    let terms = Arc::clone(terms);
                    let made = tokio::task::spawn_blocking(move || terms.made()).await;
                    made.map_err(|error| Error::with(Kind::TlsProtocolError, Phase::Tls, error))
                }
                Trust::Roots(_) | Trust::Nobody | Trust::Own(_) => Ok(terms.made()),
            }
        });
        made.await?.clone()
    }
}

impl Terms {
    fn made(&self) -> Result<Arc<ClientConfig>, Error> {
        let unusable = |error: BoxError| {
            let why = match self.trust {
                Trust::Platform => {
                    format!("the system's roots can't be used: {error} (Debian: package ca-certificates)")
                }
                Trust::Roots(_) | Trust::Nobody | Trust::Own(_) => error.to_string(),
            };
            Error::with(Kind::TlsProtocolError, Phase::Tls, Why::new(why))
        };
        self.build().map(Arc::new).map_err(unusable)
    }

    fn build(&self) -> Result<ClientConfig, BoxError> {
        if let Trust::Own(config) = &self.trust {
            let mut config = (**config).clone();
            if config.alpn_protocols.is_empty() || self.of_proxy {
                config.alpn_protocols = self.alpn();
            }
            return Ok(config);
        }
        // The process's provider if it has one. Always passed on: with two in the dependency graph, rustls can't choose.
        let provider = CryptoProvider::get_default()
            .cloned()
            .unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match &self.trust {
            Trust::Roots(roots) => {
                let mut store = rustls::RootCertStore::empty();
                for root in roots {
                    store.add(root.clone())?;
                }
                let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider).build()?;
                builder.with_webpki_verifier(verifier)
            }
            Trust::Nobody => {
                let verifier = Arc::new(AcceptAnyone(provider));
                builder.dangerous().with_custom_certificate_verifier(verifier)
            }
            Trust::Platform | Trust::Own(_) => builder.with_platform_verifier()?,
        };
        let mut config = match &self.identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key())?,
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(256);
        config.alpn_protocols = self.alpn();
        if self.log_keys {
            config.key_log = Arc::new(rustls::KeyLogFile::new());
        }
        Ok(config)
    }

    /// A server that does not know of ALPN has agreed to nothing.
    fn wants_http2_or_nothing(&self) -> bool {
        let lists_more = match &self.trust {
            Trust::Own(config) => config.alpn_protocols.iter().any(|protocol| protocol != b"h2"),
            Trust::Platform | Trust::Roots(_) | Trust::Nobody => false,
        };
        self.protocol == ProtocolChoice::Http2 && !lists_more
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        match self.protocol {
            ProtocolChoice::Alpn => vec![b"h2".to_vec(), HTTP1.to_vec()],
            ProtocolChoice::Http1 => vec![HTTP1.to_vec()],
            ProtocolChoice::Http2 | ProtocolChoice::Http2PriorKnowledge => vec![b"h2".to_vec()],
        }
    }
}

impl Tls {
    /// The handshake, with its hooks.
    pub(crate) async fn handshake(
        &self,
        config: Arc<ClientConfig>,
        socket: Socket,
        host: &str,
        deadline: Instant,
        limit: Duration,
        hooks: &Hooks,
    ) -> Result<(TlsStream<Socket>, TlsInfo), Error> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Error::with(Kind::InvalidRequest, Phase::Request, error))?;
        let server_name: Option<Arc<str>> = matches!(name, ServerName::DnsName(_)).then(|| host.into());
        let guard = hooks.tls(server_name.as_deref());
        let deadline = deadline.min(crate::clock::now() + limit);
        let handshake = TlsConnector::from(config).connect(name, socket);
        let handshake = tokio::time::timeout_at(deadline.into(), handshake).await;
        // Now: reading the certificate is no part of the handshake.
        let at = hooks.now();
        let result = match handshake {
            Ok(Ok(stream)) => {
                let info = describe(&stream, server_name);
                match info.alpn.is_none() && self.0.wants_http2_or_nothing() {
                    true => Err(Error::with(Kind::TlsProtocolError, Phase::Tls, Why::new(NO_HTTP2))),
                    false => Ok((stream, info)),
                }
            }
            Ok(Err(error)) => Err(Error::with(kind_of(&error), Phase::Tls, error)),
            Err(_) => Err(Error::timeout(Phase::Tls)),
        };
        guard.done(at, result.as_ref().map(|(_, info)| info));
        result
    }
}

/// HTTP/1.1 as ALPN calls it (RFC 7301 §6).
pub(super) const HTTP1: &[u8] = b"http/1.1";

pub(super) const NO_HTTP2: &str = "the server does not agree to HTTP/2 (ALPN)";

fn kind_of(error: &io::Error) -> Kind {
    match find::<rustls::Error>(error) {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Kind::CertificateUntrusted,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Kind::CertificateExpired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Kind::CertificateNameMismatch
            }
            CertificateError::Revoked => Kind::CertificateRevoked,
            _ => Kind::CertificateInvalid,
        },
        Some(_) => Kind::TlsProtocolError,
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                Kind::TlsClosed
            }
            _ => Kind::TlsProtocolError,
        },
    }
}

fn describe(stream: &TlsStream<Socket>, server_name: Option<Arc<str>>) -> TlsInfo {
    let session = stream.get_ref().1;
    let chain: Arc<[Vec<u8>]> =
        session.peer_certificates().unwrap_or_default().iter().map(|certificate| certificate.to_vec()).collect();
    TlsInfo {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "1.3",
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "unknown",
        },
        // rustls writes TLS13_AES_…, IANA TLS_AES_….
        cipher: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .map(|name| name.replacen("TLS13_", "TLS_", 1))
            .unwrap_or_default(),
        alpn: session.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        server_name,
        leaf: chain.first().and_then(|leaf| leaf_of(leaf)),
        peer_chain: chain,
    }
}

fn leaf_of(der: &[u8]) -> Option<LeafCertificate> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(LeafCertificate {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// Trusts every certificate, and still checks that the handshake is signed with its key.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
