//! The integration tests, one binary: the kit that they are written with, and one file per promise.

mod connector;
mod dialing;
mod exchanges;
mod exporters;
mod failures;
mod fallback;
mod harmless;
mod interim;
mod like_go;
mod metrics;
mod middleware;
mod otlp;
mod peers;
mod pool;
mod proxies;
mod reading;
mod rules;
mod secrets;
mod spans;
mod stories;
mod streams;
mod support;
mod support_selftest;
mod tls;
mod told;
mod unchanged;
