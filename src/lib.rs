//! Where did the time of that request go? Go's `net/http/httptrace` for Rust, wired to OpenTelemetry.
//!
//! [`Client`] is a pooled HTTP/1.1 and HTTP/2 client on [`hyper::client::conn`]. Every step of a request calls a hook of
//! [`ClientTrace`]; the hooks are folded into one [`Timeline`] per attempt, and from it come spans, metrics and waterfalls.
//!
//! ```no_run
//! use httptrace::ResponseExt as _;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), httptrace::BoxError> {
//!     # #[cfg(feature = "otlp")]
//!     let _telemetry = httptrace::otlp::init()?; // reads OTEL_*; flushes when dropped
//!     let client = httptrace::Client::new(); // or, for a program without settings, httptrace::get
//!     let response = client.get("https://example.com/").await?;
//!     println!("{} bytes", response.bytes().await?.len());
//!     Ok(())
//! }
//! ```
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`hooks`] | the hooks, when each fires, and what it is told |
//! | [`timeline`] | the record of an attempt, and who reports it |
//! | [`connection`] | the facts of a connection: addresses, TLS, protocol |
//! | [`dial`] | proxies, and looking up names in your own way |
//! | [`views`] | spans, metrics, waterfalls, made from records |
//! | `otlp` | providers that export over OTLP, from the `OTEL_*` environment |
//! | [`clock`] | wall time for the records' monotonic moments |
//!
//! Coming from elsewhere: [Go's `net/http/httptrace`](guides::from_go), hook by hook, [hyper-util's
//! client](guides::from_hyper_util), [reqwest](guides::from_reqwest).
//!
//! `ARCHITECTURE.md` follows a request through all of it.
//!
//! # Where it fits
//!
//! [`Client`] is a `tower_service::Service` for requests with any body of `Bytes`, and its [`ResponseBody`] is `Send`, `Sync`,
//! `Unpin` and `Default`. So it goes below tower's and tower-http's layers, and inside of tonic's, kube's and octocrab's
//! clients, as it is; the README's table "What you use today" has these and others, each with the code that is tested.
//! A layer that sends one request several times puts [`Resends`] into its extensions, to have the tries counted.
//!
//! # Cancel safety
//!
//! Dropping a [`ResponseFuture`] or a [`ResponseBody`] is always safe, and always told: what was started is done, as
//! `canceled` or `dropped`. On HTTP/1 the connection is closed, unless little is left of a response's body; on HTTP/2 the
//! stream is reset. A dial goes on without its request, at most for the connect timeout, and its connection serves others.
//!
//! # Stability
//!
//! The names of hooks, spans, attributes, metrics and JSON fields are the interface. Info types, records and enums may get
//! new fields and variants; they are `#[non_exhaustive]`. The OpenTelemetry crates are part of the public API: a new minor
//! version of theirs is a breaking release of this one. `Debug` texts and error messages may change at any time.
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `otel` | spans and metrics through the OpenTelemetry API | yes |
//! | `otlp` | `otlp::init()`: SDK providers that export over OTLP | yes |
//! | `hickory-dns` | `dial::HickoryResolver`, whose answers tell of cache, lifetime and name server | no |
//! | `otel-http` | `opentelemetry_http::HttpClient` for [`Client`]: exporters send through it | no |
//! | `hyper-connector` | `ClientBuilder::hyper_connector`: connectors written for hyper-util's client | no |
//! | `tcp-info` | the kernel's view of a connection, on Linux ([`ClientBuilder::tcp_info`]) | no |
//! | `json` | [`ResponseExt::json`](ResponseExt) | no |
//! | `cli` | the `httptrace` command | no |
//!
//! The hooks, the records and the waterfall need none of them. Features only add; none changes what is sent.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))] // docs.rs shows which feature has what
// A library neither prints nor gives up; the command and the examples may.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod builder;
mod capture;
mod client;
pub mod clock;
mod config;
pub mod connection;
#[cfg(feature = "otel")]
mod date;
pub mod dial;
mod error;
mod exchange;
pub mod facts;
#[cfg(all(any(test, fuzzing), feature = "otlp"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(any(doc, doctest))]
pub mod guides;
pub mod hooks;
#[cfg(feature = "otel-http")]
mod http_client;
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
    capture::ShownHeaders,
    client::{Client, DEFAULT_BODY_LIMIT, LimitedResponse, RequestTimeout, Resends, ResponseExt, ResponseFuture, get},
    error::{BoxError, Error},
    exchange::ResponseBody,
    hooks::{ClientTrace, client_trace, with_client_trace},
    phase::Phase,
    redact::{Hidden, ShownUrl},
    timeline::Timeline,
};

/// Its programs compile: they are what a newcomer copies.
#[cfg(all(doctest, feature = "otlp"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
