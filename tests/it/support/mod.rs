//! What the tests of this folder are written with. Everything runs on 127.0.0.1, port 0, and nothing sleeps: who has to
//! wait, waits at a [`Gate`](gate::Gate).
//!
//! | file | what it is |
//! |---|---|
//! | `origin.rs` | a server: it plays scripts byte by byte (`script.rs`) or serves HTTP with hyper (`serve.rs`) |
//! | `streams.rs` | an HTTP/2 origin stream by stream, with the numbers of streams |
//! | `frames.rs` | HTTP/2 frames for scripts, and those of a client to look at |
//! | `gate.rs` | holds one side until the test lets it go |
//! | `client.rs` | the client under test with all that it tells |
//! | `dns.rs`, `name_server.rs` | a resolver, and a server of names, that answer as told |
//! | `trace.rs` | a log of all hooks, and whether they pair |
//! | `timeline.rs`, `spans.rs` | what a record and its spans should look like |
//! | `collector.rs` | an OTLP collector |
//! | `around.rs` | what an application puts around a provider |
//!
//! A test against a server that behaves badly is five lines:
//!
//! ```ignore
//! let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")]);
//! let traced = Traced::new(origin.client_builder());
//! let error = traced.read(origin.url("/")).await.expect_err("four bytes of nine");
//! assert_eq!(error.error_type(), "body_incomplete");
//! traced.log.settled().await.assert_paired();
//! ```
//!
//! and one that has to act at a certain moment says so in the script: `Gate("head")` holds the server there,
//! `origin.gate("head").reached().await` tells the test that it got there, and `origin.gate("head").open()` lets it go on.

pub(crate) mod around;
pub(crate) mod certificate;
pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod dns;
pub(crate) mod frames;
pub(crate) mod gate;
pub(crate) mod name_server;
pub(crate) mod origin;
pub(crate) mod record;
pub(crate) mod script;
pub(crate) mod serve;
pub(crate) mod spans;
pub(crate) mod streams;
pub(crate) mod timeline;
pub(crate) mod trace;

use std::{future::Future, time::Duration};

/// The future's result. A test that would hang fails instead, with the name of what it waited for.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(result) => result,
        Err(_) => panic!("still waiting after {PATIENCE:?}: {what}"),
    }
}

/// Lets this much time pass in no time: what would have run out by then runs out now.
///
/// Only while everybody is held at a gate, and on the one thread of `#[tokio::test]`.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Far longer than anything here takes: it only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
