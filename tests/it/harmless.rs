//! Telemetry never hurts: whatever a collector does, and whatever is wrong with hooks, reporters, processors and samplers,
//! requests have the same results in the same time, and what is lost is counted and said once.

mod breaking;
mod collectors;
mod hooking;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

async fn hello(_: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from("hello")))
}
