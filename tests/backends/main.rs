//! Traces and metrics in the programs that people look at: a real Jaeger and a real Prometheus, run with the very files
//! of `deploy/`.
//!
//! Each test starts its own backends on free loopback ports (`jaeger.rs`, `prometheus.rs`), lets the library or the
//! `httptrace` command send to them, and asks their APIs what arrived. They are ignored by default because they need the
//! programs; `.ci/run full` builds Jaeger (`jaeger/build`), installs Prometheus and runs them. By hand:
//!
//! ```text
//! tests/backends/jaeger/build target/backends/jaeger && apt-get install prometheus
//! cargo build --package httptrace-demo
//! cargo test --test backends -- --ignored
//! ```

#![cfg(target_os = "linux")]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "the kit is shared with the other test binaries")]
mod support;

mod command;
mod compose;
mod dashboard;
mod demo;
mod failing;
mod jaeger;
mod misdirected;
mod outages;
mod panels;
mod process;
mod prometheus;
mod query;
mod reuse;
mod scene;
mod waterfalls;
