//! What Go's own tests of its client, of its traces and of its OpenTelemetry instrumentation demand, where no other test of
//! ours shows it. Each test names the ones of Go that it answers; `tests/README.md` has the whole list.

mod dials;
mod events;
mod http2;
mod pool;
mod reuse;
mod spans;
