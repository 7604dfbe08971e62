//! The certificates of the test origins: one authority per origin, made at its start, and a leaf for its names.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};

/// The names and the address that every leaf is for.
pub(crate) const NAMES: [&str; 3] = ["localhost", "origin.test", "127.0.0.1"];

/// What a server needs to speak TLS, and what its clients need to trust it.
pub(crate) struct Identity {
    pub(crate) root: CertificateDer<'static>,
    pub(crate) config: Arc<ServerConfig>,
}

impl Identity {
    /// A new authority and a leaf that it signed; the server chooses the first of `alpn` that the client has too.
    pub(crate) fn new(alpn: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to get wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another origin's authority is another one by name too, as in life.
        let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
        let authority = CertifiedIssuer::self_signed(params, key()).expect("a certificate");

        let leaf_key = key();
        let mut params = CertificateParams::new(NAMES.map(str::to_owned)).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, "origin.test");
        let leaf = params.signed_by(&leaf_key, &authority).expect("a certificate");

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).expect("a key");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's own versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("the leaf fits its key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self { root: authority.der().clone(), config: Arc::new(config) }
    }
}

static AUTHORITIES: AtomicUsize = AtomicUsize::new(1);

fn key() -> KeyPair {
    KeyPair::generate().expect("randomness")
}
