//! The certificates of the test origins: one authority per origin, made at its start, and a leaf for its names.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::{WantsServerCert, WebPkiClientVerifier},
};

/// The names and the address that every leaf is for.
pub(crate) const NAMES: [&str; 3] = ["localhost", "origin.test", "127.0.0.1"];

/// What a server needs to speak TLS, and what its clients need to trust it.
pub(crate) struct Identity {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) root_pem: String,
    pub(crate) config: Arc<ServerConfig>,
}

/// Who a client is: a certificate and its key, in PEM.
pub(crate) struct ClientPem {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    /// A new authority and a leaf that it signed; the server chooses the first of `alpn` that the client has too.
    pub(crate) fn new(alpn: &[&str]) -> Self {
        let authority = authority();
        Self::signed(&authority, alpn, |builder, _| builder.with_no_client_auth())
    }

    /// As above; and a client has to show a certificate of the same authority, such as this one.
    pub(crate) fn mutual(alpn: &[&str]) -> (Self, ClientPem) {
        let authority = authority();
        let this = Self::signed(&authority, alpn, |builder, roots| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder.with_client_cert_verifier(verifier.expect("one root"))
        });
        let key = key();
        let params = CertificateParams::new(vec!["client.test".to_owned()]).expect("a valid name");
        let certificate = params.signed_by(&key, &authority).expect("a certificate").pem();
        (this, ClientPem { certificate, key: key.serialize_pem() })
    }

    fn signed(
        authority: &CertifiedIssuer<'static, KeyPair>,
        alpn: &[&str],
        clients: impl FnOnce(
            ConfigBuilder<ServerConfig, WantsVerifier>,
            Arc<RootCertStore>,
        ) -> ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> Self {
        let leaf_key = key();
        let mut params = CertificateParams::new(NAMES.map(str::to_owned)).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, "origin.test");
        let leaf = params.signed_by(&leaf_key, authority).expect("a certificate");

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).expect("an authority");
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's own versions");
        let mut config = clients(builder, Arc::new(roots))
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("the leaf fits its key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { root: authority.der().clone(), root_pem: authority.pem(), config: Arc::new(config) }
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names to get wrong");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Another origin's authority is another one by name too, as in life.
    let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
    params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
    CertifiedIssuer::self_signed(params, key()).expect("a certificate")
}

static AUTHORITIES: AtomicUsize = AtomicUsize::new(1);

fn key() -> KeyPair {
    KeyPair::generate().expect("randomness")
}
