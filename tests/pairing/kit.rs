//! What this folder takes from the kit of the integration tests: the log of hooks, and certificates.

#[expect(dead_code, reason = "a part of it is used here")]
#[path = "../it/support/certificate.rs"]
pub(crate) mod certificate;
#[path = "../it/support/trace.rs"]
pub(crate) mod trace;

/// Of the log's own waits, which time that is paused runs through at once.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
