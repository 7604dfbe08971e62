//! What is answered, path by path; the script of the demo.
//!
//! | path | answer |
//! |---|---|
//! | `/` | 200 at once |
//! | `/slow`, `/slower` | 200, its first byte after [`SLOW`] or [`SLOWER`] |
//! | `/drip` | 200 in five parts with [`DROP`] before each |
//! | `/old` | 308 to `/` |
//! | `/broken`, `/busy` | 500, 503 |
//! | `/close` | 200, and goodbye (HTTP/1.1) |
//! | `/reset` | a reset instead of an answer: of the connection, on HTTP/2 of the stream |
//! | `/cut` | 200, and the connection's or the stream's end in the midst of its body |
//! | `/never` | nothing, until the client has had enough |
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
/// The parts of `/drip`.
const DROPS: usize = 5;
/// One part of a body.
const PART: &[u8] = &[b'.'; 2_000];
/// The wait before each part of `/drip`.
const DROP: Duration = Duration::from_millis(40);

/// The answer to a request at the doors `h2`, `h1` and `stranger`.
pub(crate) async fn answer(request: Request<Incoming>, visit: &Visit) -> Answer {
    let (head, body) = request.into_parts();
    let asked = body.collect().await.map_err(io::Error::other)?;
    visit.asked(asked.to_bytes().len());
    let path = head.uri.path();
    let alone = head.version < Version::HTTP_2; // one request at a time: how it ends is how the connection ends
    let (response, size) = match path {
        "/" => page("hello\n"),
        "/slow" => {
            sleep(SLOW).await;
            page("at last\n")
        }
        "/slower" => {
            sleep(SLOWER).await;
            page("at long last\n")
        }
        "/drip" => (Response::new(in_drops()), DROPS * PART.len()),
        "/old" => {
            let (mut moved, size) = with_status(StatusCode::PERMANENT_REDIRECT);
            moved.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
            (moved, size)
        }
        "/broken" => with_status(StatusCode::INTERNAL_SERVER_ERROR),
        "/busy" => with_status(StatusCode::SERVICE_UNAVAILABLE),
        "/close" => {
            let (mut last, size) = page("goodbye\n");
            if alone {
                visit.ended_by(End::Close);
                last.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            (last, size)
        }
        "/never" | "/reset" => return no_answer(path, visit, alone).await,
        "/cut" => {
            if alone {
                visit.ended_by(End::Cut);
            }
            (Response::new(half_a_page()), PART.len())
        }
        _ => with_status(StatusCode::NOT_FOUND),
    };
    visit.sent(size);
    let status = response.status();
    visit.answered(path, if path == "/cut" { "cut" } else { status.as_str() });
    Ok(response)
}

async fn no_answer(path: &str, visit: &Visit, alone: bool) -> Answer {
    let never = path == "/never";
    visit.answered(path, if never { "never" } else { "reset" });
    if alone {
        visit.ended_by(if never { End::GivenUp } else { End::Reset });
    }
    if never { std::future::pending().await } else { Err(io::Error::other("reset on purpose")) }
}

/// The answer at the door `counts`. `/loaded` breaks the connection where nobody has asked for anything of late.
pub(crate) fn tell(request: &Request<Incoming>, counts: &Counts) -> Answer {
    match request.uri().path() {
        "/counts" => Ok(page(counts.to_json().to_string()).0),
        "/loaded" if !counts.lately() => Err(io::Error::other("nobody asks for anything")),
        "/loaded" => Ok(page("yes\n").0),
        _ => Ok(with_status(StatusCode::NOT_FOUND).0),
    }
}

/// A page, and its size.
fn page(text: impl Into<Bytes>) -> (Response<Body>, usize) {
    let text = text.into();
    let size = text.len();
    (Response::new(Full::new(text).map_err(|never| match never {}).boxed()), size)
}

fn with_status(status: StatusCode) -> (Response<Body>, usize) {
    let (mut response, size) = page(format!("{status}\n"));
    *response.status_mut() = status;
    (response, size)
}

fn in_drops() -> Body {
    let (mut parts, body) = Channel::new(1);
    tokio::spawn(async move {
        for _ in 0..DROPS {
            sleep(DROP).await;
            if parts.send_data(Bytes::from_static(PART)).await.is_err() {
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
        if parts.send_data(Bytes::from_static(PART)).await.is_ok() {
            // The first part has to be on its way before hyper gives up the rest.
            sleep(DROP).await;
            parts.abort(io::Error::other("cut on purpose"));
        }
    });
    body.boxed()
}
