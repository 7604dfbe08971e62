//! Where did the time of that request go? Go's `net/http/httptrace` for Rust, wired to OpenTelemetry.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
// A library neither prints nor gives up; the command and the examples may.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod builder;
mod client;
pub mod clock;
mod config;
pub mod connection;
pub mod dial;
mod error;
mod exchange;
pub mod hooks;
#[cfg(feature = "otlp")]
pub mod otlp;
mod phase;
mod pool;
mod redact;
pub mod timeline;
mod transport;
pub mod views;

pub use self::{
    builder::ClientBuilder,
    client::{Client, Resends, ResponseFuture},
    error::{BoxError, Error},
    exchange::ResponseBody,
    hooks::{ClientTrace, client_trace, with_client_trace},
    phase::Phase,
    timeline::Timeline,
};
