//! The certificates of the test origins: one authority per origin, made at its start, and a leaf for its names.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, date_time_ymd,
};
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer},
    server::{WantsServerCert, WebPkiClientVerifier},
};

/// The names and the address that every leaf is for.
pub(crate) const NAMES: [&str; 3] = ["localhost", "origin.test", "127.0.0.1"];

/// What a server needs to speak TLS, and what its clients need to trust it.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) root: CertificateDer<'static>,
    /// The authority's word that it has taken the leaf back: who reads it does not trust the leaf.
    #[allow(dead_code, reason = "not every test program that has this file reads it")]
    pub(crate) revocation: CertificateRevocationListDer<'static>,
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
        Self::with(alpn, |_| {})
    }

    /// The same, with another leaf.
    pub(crate) fn with(alpn: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::signed(&authority(), alpn, change, |builder, _| builder.with_no_client_auth())
    }

    /// As above; and a client has to show a certificate of the same authority, such as this one.
    pub(crate) fn mutual(alpn: &[&str]) -> (Self, ClientPem) {
        let authority = authority();
        let this = Self::signed(
            &authority,
            alpn,
            |_| {},
            |builder, roots| {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.expect("one root"))
            },
        );
        let key = key();
        let params = CertificateParams::new(vec!["client.test".to_owned()]).expect("a valid name");
        let certificate = params.signed_by(&key, &authority).expect("a certificate").pem();
        (this, ClientPem { certificate, key: key.serialize_pem() })
    }

    /// A leaf that signed itself, beside an authority that knows nothing of it.
    #[allow(dead_code, reason = "not every test program that has this file shows it")]
    pub(crate) fn alone(alpn: &[&str]) -> Self {
        let (authority, key) = (authority(), key());
        let params = CertificateParams::new(NAMES.map(str::to_owned)).expect("valid names");
        let leaf = params.self_signed(&key).expect("a certificate").der().clone();
        Self::shown(&authority, alpn, leaf, &key, |builder, _| builder.with_no_client_auth())
    }

    /// A leaf that its authority signed, and whose signature somebody has changed.
    #[allow(dead_code, reason = "not every test program that has this file shows it")]
    pub(crate) fn forged(alpn: &[&str]) -> Self {
        let (authority, key) = (authority(), key());
        let params = CertificateParams::new(NAMES.map(str::to_owned)).expect("valid names");
        let mut leaf = params.signed_by(&key, &authority).expect("a certificate").der().to_vec();
        *leaf.last_mut().expect("a signature") ^= 1;
        Self::shown(&authority, alpn, leaf.into(), &key, |builder, _| builder.with_no_client_auth())
    }

    fn signed(
        authority: &CertifiedIssuer<'static, KeyPair>,
        alpn: &[&str],
        change: impl FnOnce(&mut CertificateParams),
        clients: impl FnOnce(
            ConfigBuilder<ServerConfig, WantsVerifier>,
            Arc<RootCertStore>,
        ) -> ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> Self {
        let leaf_key = key();
        let mut params = CertificateParams::new(NAMES.map(str::to_owned)).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, "origin.test");
        params.serial_number = Some(LEAF.into());
        change(&mut params);
        let leaf = params.signed_by(&leaf_key, authority).expect("a certificate").der().clone();
        Self::shown(authority, alpn, leaf, &leaf_key, clients)
    }

    fn shown(
        authority: &CertifiedIssuer<'static, KeyPair>,
        alpn: &[&str],
        leaf: CertificateDer<'static>,
        leaf_key: &KeyPair,
        clients: impl FnOnce(
            ConfigBuilder<ServerConfig, WantsVerifier>,
            Arc<RootCertStore>,
        ) -> ConfigBuilder<ServerConfig, WantsServerCert>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).expect("an authority");
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider's own versions");
        let mut config =
            clients(builder, Arc::new(roots)).with_single_cert(vec![leaf], key).expect("the leaf fits its key");
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Self {
            root: authority.der().clone(),
            root_pem: authority.pem(),
            revocation: revocation(authority),
            config: Arc::new(config),
        }
    }
}

/// The serial number of every leaf.
const LEAF: u64 = 1;

fn revocation(authority: &CertifiedIssuer<'_, KeyPair>) -> CertificateRevocationListDer<'static> {
    let leaf = RevokedCertParams {
        serial_number: LEAF.into(),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(4096, 1, 1),
        crl_number: 1_u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![leaf],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(authority).expect("a list").into()
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names to get wrong");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Another origin's authority is another one by name too, as in life.
    let number = AUTHORITIES.fetch_add(1, Ordering::Relaxed);
    params.distinguished_name.push(DnType::CommonName, format!("test authority {number}"));
    CertifiedIssuer::self_signed(params, key()).expect("a certificate")
}

static AUTHORITIES: AtomicUsize = AtomicUsize::new(1);

fn key() -> KeyPair {
    KeyPair::generate().expect("randomness")
}
