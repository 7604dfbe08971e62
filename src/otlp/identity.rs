//! TLS to a collector whose authority is a file of its own, or that wants to know who calls.
//!
//! In: PEM. Out: a configuration for the client, or a sentence that says what is wrong with the file. Without either, the
//! client's own configuration is used, which trusts the platform's authorities.

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;

use super::InitError;

/// Whom to trust, and who this is.
#[derive(Default)]
pub(super) struct Identity {
    roots: Option<RootCertStore>,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("roots", &self.roots).field("client", &self.client.is_some()).finish()
    }
}

impl Identity {
    /// Trusts these authorities and no others.
    pub(super) fn trust(&mut self, pem: &[u8]) -> Result<(), &'static str> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates(pem)?);
        if roots.is_empty() {
            return Err("holds no certificate of an authority");
        }
        self.roots = Some(roots);
        Ok(())
    }

    /// Is whom this certificate, or chain, names.
    pub(super) fn be(&mut self, certificate: &[u8], key: &[u8]) -> Result<(), &'static str> {
        let chain = certificates(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| "the key is no private key in PEM")?;
        // The key has to be the certificate's.
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| "TLS can't be had")?
            .with_root_certificates(RootCertStore::empty())
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|_| "the key is not the certificate's")?;
        self.client = Some((chain, key));
        Ok(())
    }

    /// None if there is nothing special.
    pub(super) fn config(self) -> Result<Option<Arc<ClientConfig>>, InitError> {
        if self.roots.is_none() && self.client.is_none() {
            return Ok(None);
        }
        let failed = |error: rustls::Error| InitError::new("TLS", error);
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
        let builder = match self.roots {
            Some(roots) => builder.with_root_certificates(roots),
            None => builder.with_platform_verifier().map_err(failed)?,
        };
        let config = match self.client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(failed)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Some(Arc::new(config)))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or("holds no certificate in PEM")
}

/// The process's provider if it has one. Always passed on: with two in the dependency graph, rustls can't choose.
fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}
