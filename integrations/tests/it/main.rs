//! The client inside of other libraries: each real one over a real connection, with the spans and the reuse that come of it.
//!
//! The kit (`support.rs`) is that of the crate's own tests.

#[allow(dead_code, reason = "the kit is shared with the crate's own tests")]
#[path = "../../../tests/it/spans/scene.rs"]
mod scene;
#[allow(dead_code, reason = "the kit is shared with the crate's own tests")]
mod support;

mod aws;
mod hyper_util;
mod kube;
mod object_store;
mod octocrab;
mod reqwest;
mod store;
mod tonic;

use opentelemetry_sdk::trace::SpanData;

use self::support::spans::{ExpectedSpan, Spans};

/// The CLIENT spans of this method, by their start: the first on a new connection, the others on the same.
#[track_caller]
fn attempts<'a>(spans: &'a Spans, method: &str) -> Vec<&'a SpanData> {
    let attempts = spans.named(method);
    for (before, attempt) in attempts.iter().enumerate() {
        let reuse = ExpectedSpan::new().with("httptrace.connection.reused", before > 0);
        if attempt.attributes.iter().all(|attribute| attribute.key.as_str() != "error.type") {
            reuse.check(attempt);
        }
    }
    attempts
}
