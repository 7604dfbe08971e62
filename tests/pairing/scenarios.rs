//! The scenarios: a server's script, and the requests that meet it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request,
    header::{CONNECTION, EXPECT, UPGRADE},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::origin::{
    Origin::{self, Http1, Http2},
    Step::{self, Body as ReadBody, Close, Head, Send},
    Way,
};

/// A server and the requests to it.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) origin: Origin,
    pub(crate) tls: bool,
    pub(crate) asks: Vec<Ask>,
    /// The server is a proxy, and what stands behind it too.
    pub(crate) proxy: Option<Via>,
    /// How the last request ends if nothing breaks it off: its status and the bytes of its body, or its error.
    pub(crate) ends: &'static str,
    /// Why the first connection closes, where the scenario is about that.
    pub(crate) closes: Option<&'static str>,
    /// All requests at once, else one after the other.
    pub(crate) together: bool,
    /// There may be one connection at a time, so that requests wait for each other.
    pub(crate) one_connection: bool,
    /// A head that is late and a body that stops are given up, long before the request as a whole is.
    pub(crate) limited: bool,
}

/// A way through a proxy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Via {
    pub(crate) url: &'static str,
    /// The requests' scheme.
    pub(crate) https: bool,
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    method: &'static str,
    upload: Upload,
    expect: bool,
    upgrade: bool,
    /// The application drops the response's body unread.
    pub(crate) drops: bool,
}

#[derive(Debug, Clone, Copy)]
enum Upload {
    None,
    /// Known as a whole.
    Full,
    /// In pieces, with their sum known or not.
    Pieces {
        sized: bool,
    },
    /// One piece, and then nothing, neither bytes nor an end.
    Stalled {
        sized: bool,
    },
}

const GET: Ask = Ask { method: "GET", upload: Upload::None, expect: false, upgrade: false, drops: false };
const HEAD: Ask = Ask { method: "HEAD", ..GET };
const UPLOAD: Ask = Ask { method: "POST", upload: Upload::Full, ..GET };
const PIECES: Ask = Ask { method: "POST", upload: Upload::Pieces { sized: true }, ..GET };
const STALLED: Ask = Ask { method: "POST", upload: Upload::Stalled { sized: true }, ..GET };
const STALLED_CHUNKED: Ask = Ask { method: "POST", upload: Upload::Stalled { sized: false }, ..GET };
const CHUNKED: Ask = Ask { method: "POST", upload: Upload::Pieces { sized: false }, ..GET };

/// What every upload carries, and how that looks in chunks.
const PIECE: &str = "twelve bytes";
const PIECE_COUNT: usize = 3;
const WHOLE: usize = PIECE.len() * PIECE_COUNT;
const IN_CHUNKS: usize = PIECE_COUNT * ("c\r\n\r\n".len() + PIECE.len()) + "0\r\n\r\n".len();

const OK: Step = Send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");

impl Scenario {
    /// It is about why its first connection closes.
    fn closes(self, reason: &'static str) -> Self {
        Self { closes: Some(reason), ..self }
    }
}

impl Ask {
    pub(crate) fn request(self, https: bool) -> Request<Pieces> {
        let (left, sized) = match self.upload {
            Upload::None => (0, true),
            Upload::Full => (1, true),
            Upload::Pieces { sized } | Upload::Stalled { sized } => (PIECE_COUNT, sized),
        };
        let piece =
            if left == 1 { Bytes::from(PIECE.repeat(PIECE_COUNT)) } else { Bytes::from_static(PIECE.as_bytes()) };
        let gives = if let Upload::Stalled { .. } = self.upload { 1 } else { left };
        let scheme = if https { "https" } else { "http" };
        let mut request = Request::new(Pieces { piece, left, sized, paused: false, gives });
        *request.uri_mut() = format!("{scheme}://origin.test/").parse().expect("a URL");
        *request.method_mut() = Method::from_bytes(self.method.as_bytes()).expect("a method");
        if self.upgrade {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(UPGRADE, HeaderValue::from_static("raw"));
        }
        if self.expect {
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
        }
        request
    }

    /// The same as one whole body, which can be sent again.
    pub(crate) fn whole(self, https: bool) -> Option<Request<Full<Bytes>>> {
        let whole = matches!(self.upload, Upload::Full | Upload::None);
        whole.then(|| self.request(https).map(|body| Full::new(if body.left == 0 { Bytes::new() } else { body.piece })))
    }
}

/// A body that lets the others run before each piece.
pub(crate) struct Pieces {
    piece: Bytes,
    left: usize,
    sized: bool,
    paused: bool,
    /// How many pieces come before it stalls.
    gives: usize,
}

impl Pieces {
    /// A body of so many pieces.
    pub(crate) fn new(left: usize) -> Self {
        Self { piece: Bytes::from_static(PIECE.as_bytes()), left, sized: false, paused: false, gives: left }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.gives == 0 {
            return Poll::Pending;
        }
        self.paused = !self.paused;
        if self.paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left -= 1;
        self.gives -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        let size = (self.left * self.piece.len()) as u64;
        if self.sized || self.left == 0 { SizeHint::with_exact(size) } else { SizeHint::default() }
    }
}

fn one(name: &'static str, ends: &'static str, ask: Ask, script: &'static [&'static [Step]]) -> Scenario {
    Scenario {
        name,
        ends,
        origin: Http1(script),
        tls: false,
        proxy: None,
        asks: vec![ask],
        closes: None,
        together: false,
        one_connection: false,
        limited: false,
    }
}

fn limited(scenario: Scenario) -> Scenario {
    Scenario { limited: true, ..scenario }
}

fn two(name: &'static str, ends: &'static str, asks: [Ask; 2], script: &'static [&'static [Step]]) -> Scenario {
    Scenario { asks: asks.to_vec(), ..one(name, ends, GET, script) }
}

fn h2(name: &'static str, ends: &'static str, ask: Ask, way: Way) -> Scenario {
    Scenario { origin: Http2(way), ..one(name, ends, ask, &[]) }
}

const CHUNKS: Step = Send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nfirst \r\n6\r\nsecond\r\n");

/// HTTP/1.1: how answers are framed.
pub(crate) fn framing() -> Vec<Scenario> {
    let pieces: &[&[Step]] =
        &[&[Head, Send("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n"), Send("first "), Send("second")]];
    let until_close: &[&[Step]] = &[&[Head, Send("HTTP/1.1 200 OK\r\n\r\nfirst "), Send("second"), Close]];
    vec![
        one("content-length", "200 12", GET, pieces),
        one("chunked", "200 12", GET, &[&[Head, CHUNKS, Send("0\r\n\r\n")]]),
        one("chunked with trailers", "200 12", GET, &[&[Head, CHUNKS, Send("0\r\nx-sum: 12\r\n\r\n")]]),
        one("until close", "200 12", GET, until_close),
        one("HEAD", "200 0", HEAD, &[&[Head, Send("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n")]]),
        one("204", "204 0", GET, &[&[Head, Send("HTTP/1.1 204 No Content\r\n\r\n")]]),
        one("304", "304 0", GET, &[&[Head, Send("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n")]]),
        one(
            "connection: close",
            "200 2",
            GET,
            &[&[Head, Send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"), Send("ok"), Close]],
        )
        .closes("connection_close"),
        one("HTTP/1.0", "200 2", GET, &[&[Head, Send("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok"), Close]])
            .closes("http_1_0"),
        one("a malformed head", "malformed_response", GET, &[&[Head, Send("HTTP/1.1 200 OK\r\n: none\r\n\r\n")]])
            .closes("protocol_error"),
        one(
            "a short body",
            "200 body_incomplete",
            GET,
            &[&[Head, Send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), Close]],
        )
        .closes("peer_closed"),
        one("surplus bytes", "200 2", GET, &[&[Head, OK, Send("HTTP/1.1 408 Request Timeout\r\n\r\n"), Close]])
            .closes("surplus_bytes"),
        limited(one("a head that never comes", "timeout", GET, &[&[Head]])).closes("canceled"),
        limited(one("a head that is never whole", "timeout", GET, &[&[Head, Send("HTTP/1.1 200 OK\r\nx-")]])),
        limited(one(
            "a body that stops",
            "200 timeout",
            GET,
            &[&[Head, Send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), Send("half")]],
        )),
        one("103, then 200", "200 2", GET, &[&[Head, Send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"), OK]]),
    ]
}

/// HTTP/1.1: what is sent, and what is sent again.
pub(crate) fn sending() -> Vec<Scenario> {
    const SMALL: Step = Send("HTTP/1.1 302 Found\r\nlocation: /b\r\ncontent-length: 4\r\n\r\nthis");
    let dropped = Ask { drops: true, ..GET };
    let expecting = Ask { expect: true, ..PIECES };
    vec![
        two("reuse", "200 2", [GET, GET], &[&[Head, OK, Head, OK]]),
        two("a stale reuse, retried", "200 2", [GET, GET], &[&[Head, OK, Head, Close], &[Head, OK]])
            .closes("peer_closed"),
        two("a stale reuse, not retried", "connection_closed", [GET, PIECES], &[&[Head, OK, Head, Close], &[Head, OK]]),
        two("closed while idle", "200 2", [GET, GET], &[&[Head, OK, Close], &[Head, OK]]).closes("peer_closed"),
        two("a small body dropped", "200 2", [dropped, GET], &[&[Head, SMALL, Head, OK]]),
        one("an upload of one piece", "200 2", UPLOAD, &[&[Head, ReadBody(WHOLE), OK]]),
        one("an upload with its length", "200 2", PIECES, &[&[Head, ReadBody(WHOLE), OK]]),
        one("a chunked upload", "200 2", CHUNKED, &[&[Head, ReadBody(IN_CHUNKS), OK]]),
        one(
            "an early 413",
            "413 2",
            STALLED,
            &[&[Head, Send("HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"), Close]],
        ),
        one(
            "an early 413, chunked",
            "413 0",
            STALLED_CHUNKED,
            &[&[Head, Send("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")]],
        )
        .closes("request_unfinished"),
        one("an early 200, and no more", "200 2", STALLED, &[&[Head, OK]]).closes("request_unfinished"),
        one("an early 200", "200 2", PIECES, &[&[Head, OK, ReadBody(WHOLE)]]),
        one(
            "100, then 200",
            "200 2",
            expecting,
            &[&[Head, Send("HTTP/1.1 100 Continue\r\n\r\n"), ReadBody(WHOLE), OK]],
        ),
        one("no 100, then 200", "200 2", expecting, &[&[Head, ReadBody(WHOLE), OK]]),
        one("417 instead of 100", "417 0", expecting, &[&[Head, Send("HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n")]]),
        Scenario {
            together: true,
            ..two("two at once", "200 2", [GET, PIECES], &[&[Head, ReadBody(WHOLE), OK], &[Head, OK]])
        },
        Scenario {
            together: true,
            one_connection: true,
            ..two(
                "two and one connection",
                "200 2",
                [GET, PIECES],
                &[&[Head, ReadBody(WHOLE), OK, Head, OK], &[Head, OK]],
            )
        },
        one(
            "an upgrade",
            "101 0",
            Ask { upgrade: true, ..GET },
            &[&[
                Head,
                Send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n"),
                Send("raw bytes"),
            ]],
        )
        .closes("upgraded"),
    ]
}

/// HTTP/2.
pub(crate) fn http2() -> Vec<Scenario> {
    let dropped = Ask { drops: true, ..GET };
    let several = |scenario, asks: &[Ask], together| Scenario { asks: asks.to_vec(), together, ..scenario };
    vec![
        h2("HTTP/2: GET", "200 12", GET, Way::Answer),
        h2("HTTP/2: a head alone", "200 0", GET, Way::Empty),
        h2("HTTP/2: an upload", "200 12", PIECES, Way::Answer),
        limited(h2("HTTP/2: an upload, with limits", "200 12", PIECES, Way::Answer)),
        several(h2("HTTP/2: two at once", "200 12", GET, Way::Answer), &[GET, PIECES], true),
        several(h2("HTTP/2: one after the other", "200 12", GET, Way::Answer), &[GET, GET], false),
        several(h2("HTTP/2: a body dropped", "200 12", GET, Way::Answer), &[dropped, GET], false),
        h2("HTTP/2: RST_STREAM", "200 http2_stream_reset", GET, Way::Reset),
        several(
            h2("HTTP/2: RST_STREAM beside another", "200 http2_stream_reset", GET, Way::Reset),
            &[PIECES, GET],
            true,
        ),
        h2("HTTP/2: REFUSED_STREAM", "200 12", GET, Way::Refuse),
        h2("HTTP/2: REFUSED_STREAM for an upload", "200 12", UPLOAD, Way::Refuse),
        several(h2("HTTP/2: GOAWAY", "200 12", GET, Way::GoAway).closes("goaway"), &[GET, GET], false),
        several(h2("HTTP/2: GOAWAY beside another", "200 12", GET, Way::GoAway), &[PIECES, GET], true),
        h2("HTTP/2: GOAWAY in the middle", "200 body_incomplete", GET, Way::BreakOff).closes("goaway"),
        h2("HTTP/2: a narrow window", "200 12", PIECES, Way::Narrow),
        h2("HTTP/2: an early answer", "200 0", STALLED, Way::Empty),
        h2("HTTP/2: a window that stays shut", "timeout", PIECES, Way::Stuck),
        h2("HTTP/2: silence", "timeout", GET, Way::Silent),
        several(h2("HTTP/2: one stream for two", "200 12", GET, Way::OneStream), &[PIECES, GET], true),
    ]
}

/// With TLS.
pub(crate) fn tls() -> Vec<Scenario> {
    let plain = one(
        "TLS: content-length",
        "200 2",
        GET,
        &[&[Head, Send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"), Send("ok")]],
    );
    let chunked = one("TLS: a chunked upload", "200 2", CHUNKED, &[&[Head, ReadBody(IN_CHUNKS), OK]]);
    let mut all = vec![plain, chunked, h2("TLS: HTTP/2", "200 12", GET, Way::Answer)];
    all.iter_mut().for_each(|scenario| scenario.tls = true);
    all
}

/// Through a proxy.
pub(crate) fn proxied() -> Vec<Scenario> {
    const GREETED: Step = Send("\x05\x00");
    const TUNNEL: Step = Send("\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50");
    const NO_TUNNEL: Step = Send("\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00");
    // Version, command, and a name of eleven bytes with its length and port.
    const ASKED: Step = ReadBody(4 + 1 + 11 + 2);
    let through = |url, https, scenario| Scenario { proxy: Some(Via { url, https }), ..scenario };
    let socks = |scenario| through("socks5h://proxy.test", false, scenario);
    let connect = |scenario| through("http://proxy.test", true, scenario);
    vec![
        socks(two("SOCKS5", "200 2", [GET, GET], &[&[ReadBody(3), GREETED, ASKED, TUNNEL, Head, OK, Head, OK]])),
        socks(one("SOCKS5: refused", "proxy_refused", GET, &[&[ReadBody(3), GREETED, ASKED, NO_TUNNEL]])),
        connect(one("CONNECT: refused", "proxy_refused", GET, &[&[Head, Send("HTTP/1.1 403 No\r\n\r\n"), Close]])),
        connect(one("CONNECT: closed", "proxy_protocol_error", GET, &[&[Head, Close]])),
        connect(one("CONNECT: silence", "timeout", GET, &[&[Head]])),
        connect(one(
            "CONNECT: no TLS behind it",
            "tls_protocol_error",
            GET,
            &[&[Head, Send("HTTP/1.1 200 OK\r\n\r\nnone")]],
        )),
        through("http://proxy.test", false, h2("CONNECT: HTTP/2", "200 12", GET, Way::Answer)),
        through(
            "http://proxy.test",
            false,
            two("passed on", "200 2", [GET, UPLOAD], &[&[Head, OK, Head, ReadBody(WHOLE), OK]]),
        ),
        through(
            "https://origin.test",
            false,
            Scenario { tls: true, ..one("passed on over TLS", "200 2", GET, &[&[Head, OK]]) },
        ),
    ]
}
