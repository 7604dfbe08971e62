//! What this folder takes from the kit of the integration tests: the log of hooks, and certificates.

#[expect(dead_code, reason = "nobody here asks clients who they are")]
#[path = "../it/support/certificate.rs"]
pub(crate) mod certificate;
#[expect(dead_code, reason = "nothing here waits for a hook")]
#[path = "../it/support/trace.rs"]
pub(crate) mod trace;

/// Of the log's own waits.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
