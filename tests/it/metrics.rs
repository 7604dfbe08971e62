//! Metrics end to end: real requests to real origins, read as the SDK's readers collect them.
//!
//! In come requests that are served, fail, are given up or never get a connection; out come the names, units, kinds,
//! buckets and attributes that `httptrace::views::metrics` promises, and counts that agree with what the origin saw.

mod idle;
mod labels;
mod levels;
mod reading;
mod table;
mod truth;
