//! What this folder takes from the kit of the integration tests: certificates.

#[expect(dead_code, reason = "nobody here asks clients who they are")]
#[path = "../it/support/certificate.rs"]
pub(crate) mod certificate;
