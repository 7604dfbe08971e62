//! Views: what is shown of the records.
//!
//! A view takes finished records ([`Timeline`](crate::timeline::Timeline)) and makes something of them that others can
//! read. Spans and metrics hear of an attempt through [`Reporter`](crate::timeline::Reporter); the client knows nothing
//! else of them. Views never name hyper or tokio, and never change what is sent but for the trace context's own header
//! fields. Every name that leaves the process is in [`semconv`].

#[cfg(feature = "otel")]
pub mod metrics;
#[cfg(feature = "otel")]
pub(crate) mod propagation;
pub mod semconv;
#[cfg(feature = "otel")]
pub mod spans;
pub mod waterfall;

#[cfg(all(any(test, fuzzing), feature = "otlp"))]
pub(crate) use self::propagation::fuzzing;
#[cfg(all(any(test, fuzzing), feature = "otel"))]
#[cfg_attr(not(test), allow(dead_code, reason = "written for tests, of which the checks need a part"))]
pub(crate) mod script;
