//! What is answered, path by path; the script of the demo.
//!
//! | path | answer |
//! |---|---|
//! | `/` | 200 at once |
//! | `/slow`, `/slower` | 200, its first byte after [`SLOW`] or [`SLOWER`] |
//! | `/drip` | 200 in five parts with [`DROP`] before each |
//! | `/old` | 302 to `/` |
//! | `/broken`, `/busy` | 500, 503 |
//! | `/close` | 200, and goodbye (HTTP/1.1) |
//! | `/reset` | a reset instead of an answer: of the connection, on HTTP/2 of the stream |
//! | `/cut` | 200, and the connection's or the stream's end in the midst of its body |
//! | any other | 404 |

use std::{io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, channel::Channel, combinators::BoxBody};
use hyper::body::Incoming;
use tokio::time::sleep;

use crate::counts::{Counts, End, Visit};

/// What a path can lead to: an answer, or an end without one.
type Answer = Result<Response<Body>, io::Error>;
type Body = BoxBody<Bytes, io::Error>;

/// The wait before `/slow`.
const SLOW: Duration = Duration::from_millis(150);
/// The wait before `/slower`: longer than connections may be idle.
const SLOWER: Duration = Duration::from_millis(600);
/// The wait before each part of `/drip`.
const DROP: Duration = Duration::from_millis(40);

/// The answer to a request at the doors `h2`, `h1` and `stranger`.
pub(crate) async fn answer(request: &Request<Incoming>, visit: &Visit) -> Answer {
    let path = request.uri().path();
    visit.asked();
    let mut response = match path {
        "/" => page("hello\n"),
        "/slow" => {
            sleep(SLOW).await;
            page("at last\n")
        }
        "/slower" => {
            sleep(SLOWER).await;
            page("at long last\n")
        }
        "/drip" => Response::new(in_drops()),
        "/old" => {
            let mut moved = with_status(StatusCode::FOUND);
            moved.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
            moved
        }
        "/broken" => with_status(StatusCode::INTERNAL_SERVER_ERROR),
        "/busy" => with_status(StatusCode::SERVICE_UNAVAILABLE),
        "/close" => page("goodbye\n"),
        "/reset" => {
            if request.version() < Version::HTTP_2 {
                visit.ended_by(End::Reset);
            }
            visit.answered(path, "reset");
            return Err(io::Error::other("reset on purpose"));
        }
        "/cut" => {
            if request.version() < Version::HTTP_2 {
                visit.ended_by(End::Cut);
            }
            visit.answered(path, "cut");
            return Ok(Response::new(half_a_page()));
        }
        _ => with_status(StatusCode::NOT_FOUND),
    };
    if path == "/close" && request.version() < Version::HTTP_2 {
        visit.ended_by(End::Close);
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    visit.answered(path, response.status().as_str());
    Ok(response)
}

/// The answer at the door `counts`. `/loaded` breaks the connection where nobody has asked for anything of late.
pub(crate) fn tell(request: &Request<Incoming>, counts: &Counts) -> Answer {
    match request.uri().path() {
        "/counts" => Ok(page(counts.to_json().to_string())),
        "/loaded" if !counts.lately() => Err(io::Error::other("nobody asks for anything")),
        "/loaded" => Ok(page("yes\n")),
        _ => Ok(with_status(StatusCode::NOT_FOUND)),
    }
}

fn page(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed())
}

fn with_status(status: StatusCode) -> Response<Body> {
    let mut response = page(format!("{status}\n"));
    *response.status_mut() = status;
    response
}

fn in_drops() -> Body {
    let (mut parts, body) = Channel::new(1);
    tokio::spawn(async move {
        for _ in 0..5 {
            sleep(DROP).await;
            if parts.send_data(Bytes::from_static(&[b'.'; 2_000])).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}

/// The first of two parts, then a failure.
fn half_a_page() -> Body {
    let (mut parts, body) = Channel::new(1);
    tokio::spawn(async move {
        if parts.send_data(Bytes::from_static(&[b'.'; 2_000])).await.is_ok() {
            // The first part has to be on its way before hyper gives up the rest.
            sleep(DROP).await;
            parts.abort(io::Error::other("cut on purpose"));
        }
    });
    body.boxed()
}
