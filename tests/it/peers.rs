//! What other clients got wrong, each under the name of what must not happen.
//!
//! In come requests to origins that bring it about; out comes what a user of those clients would have seen: spans, records,
//! hooks, metrics, bytes. `tests/README.md` says where each was seen.

mod lives;
mod proxied;
mod times;

use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn hello(_: Request<Incoming>) -> Response<Full<Bytes>> {
    Response::new(Full::from("hello"))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
