//! Spans and metrics, end to end: real requests to real origins, seen by the exporters of the OpenTelemetry SDK.
//!
//! In come requests, some under a span of the test's own; out come the trees, identities, links and failures that the
//! documentation promises.

mod captured;
mod detail;
mod failing;
pub(crate) mod metrics;
mod propagation;
pub(crate) mod scene;
mod tree;
