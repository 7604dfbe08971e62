//! What these tests need of the kit of the crate's own (`tests/it/support/mod.rs`), and no more: the rest of it may ask for
//! features of the crate, and each asks for libraries.

#[path = "../../../tests/it/support/certificate.rs"]
pub(crate) mod certificate;
#[path = "../../../tests/it/support/client.rs"]
pub(crate) mod client;
#[path = "../../../tests/it/support/collector.rs"]
pub(crate) mod collector;
#[path = "../../../tests/it/support/dns.rs"]
pub(crate) mod dns;
#[path = "../../../tests/it/support/frames.rs"]
pub(crate) mod frames;
#[path = "../../../tests/it/support/gate.rs"]
pub(crate) mod gate;
#[path = "../../../tests/it/support/origin.rs"]
pub(crate) mod origin;
#[path = "../../../tests/it/support/record.rs"]
pub(crate) mod record;
#[path = "../../../tests/it/support/script.rs"]
pub(crate) mod script;
#[path = "../../../tests/it/support/serve.rs"]
pub(crate) mod serve;
#[path = "../../../tests/it/support/spans.rs"]
pub(crate) mod spans;
#[path = "../../../tests/it/support/trace.rs"]
pub(crate) mod trace;

use std::{future::Future, time::Duration};

/// The future's result. A test that would hang fails instead, with the name of what it waited for.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(result) => result,
        Err(_) => panic!("still waiting after {PATIENCE:?}: {what}"),
    }
}

/// Far longer than anything here takes: it only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
