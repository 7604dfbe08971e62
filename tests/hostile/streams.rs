//! What breaks one HTTP/2 stream, and leaves the connection to others: resets, malformed heads, lengths, orders.

use crate::{
    case::{Ask, Case, http2, http2_raw},
    judge::SOON,
    support::{
        frames::{
            CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, answer, data, frame, greeting, head,
            literal, reset,
        },
        script::{
            Step::{self, AwaitClose, Flood, ReadFrame},
            write,
        },
    },
};

/// Behind the request, and then the next one is answered on stream 3.
fn then(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    let next = [ReadFrame(HEADERS, 3), answer(3, "good"), AwaitClose];
    http2(name, steps.into_iter().chain(next).collect::<Vec<_>>()).reuses()
}

/// These bytes are no response.
fn malformed(name: &'static str, bytes: Vec<u8>) -> Case {
    then(name, [write(bytes)]).dies("response-read", "http2_protocol_error")
}

pub(crate) fn cases() -> Vec<Case> {
    [resets(), heads(), bodies(), interim(), slow()].into_iter().flatten().collect()
}

fn resets() -> Vec<Case> {
    let half = || write([head(1, 200, &[], false), data(1, b"half", false)].concat());
    let named = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let mut cases: Vec<Case> = (0..=14)
        .filter(|code| ![7, 13].contains(code))
        .flat_map(|code| {
            [
                then(named(format!("resets the stream, code {code}")), [reset(1, code)])
                    .dies("response-wait", "http2_stream_reset"),
                then(named(format!("resets the stream within the body, code {code}")), [half(), reset(1, code)])
                    .dies("response-read", "http2_stream_reset"),
            ]
        })
        .collect();
    let refused = |name, times: u32| {
        let steps = (0..times).flat_map(|one| [ReadFrame(HEADERS, 2 * one + 1), reset(2 * one + 1, 7)]);
        let last = 2 * times + 1;
        let steps = [greeting()].into_iter().chain(steps).chain([
            ReadFrame(HEADERS, last),
            answer(last, "good"),
            ReadFrame(HEADERS, last + 2),
            answer(last + 2, "good"),
            AwaitClose,
        ]);
        http2_raw(name, steps.collect::<Vec<_>>()).reuses()
    };
    cases.extend([
        refused("refuses the stream once", 1).posts(2),
        refused("refuses the stream three times", 3).posts(4),
        refused("refuses the stream four times", 4).posts(4).dies("response-wait", "http2_stream_reset"),
        then("refuses the stream behind 103", [write(head(1, 103, &[], false)), reset(1, 7)])
            .dies("response-wait", "http2_stream_reset"),
        then("refuses the stream within the body", [half(), reset(1, 7)]).dies("response-read", "http2_stream_reset"),
        then("resets a stream that it has answered", [answer(1, "good"), reset(1, 0)]),
        then("asks for HTTP/1.1 where nobody else would speak it", [reset(1, 13)])
            .dies("response-wait", "http2_stream_reset"),
        then("asks for HTTP/1.1 within the body", [half(), reset(1, 13)]).dies("response-read", "http2_stream_reset"),
    ]);
    cases
}

fn heads() -> Vec<Case> {
    let of = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS | END_STREAM, 1, &literal(fields));
    let with = |name, value| of(&[(":status", "200"), (name, value)]);
    vec![
        malformed("has a head without :status", of(&[("x-a", "b")])),
        malformed("has a head without a field", of(&[])),
        malformed("has :status twice", of(&[(":status", "200"), (":status", "200")])),
        malformed("has a :status of letters", of(&[(":status", "abc")])).dials(),
        malformed("has a :status of two digits", of(&[(":status", "20")])).dials(),
        malformed("has an empty :status", of(&[(":status", "")])).dials(),
        malformed("has :status behind a field", of(&[("x-a", "b"), (":status", "200")])),
        then("has :method in a response", [write(of(&[(":status", "200"), (":method", "GET")]))]).answers(200, ""),
        malformed("has a pseudo-field that nobody knows", with(":x", "b")).dials(),
        malformed("has a name in upper case", with("X-A", "b")).dials(),
        malformed("has a name with a space", with("x a", "b")).dials(),
        malformed("has an empty name", with("", "b")).dials(),
        malformed("has NUL in a value (HTTP/2)", with("x-a", "b\0c")).dials(),
        malformed("has a line end in a value", with("x-a", "b\r\nx-c: d")).dials(),
        malformed("has a field of the connection", with("connection", "close")),
        malformed("has chunked in HTTP/2", with("transfer-encoding", "chunked")),
        malformed(
            "has two lengths in HTTP/2",
            of(&[(":status", "200"), ("content-length", "0"), ("content-length", "4")]),
        ),
        malformed("has a length of letters in HTTP/2", with("content-length", "four")),
        then("has a field of 260 KiB", [large(260 << 10)]).dies("response-read", "head_too_large"),
        then("has 101 fields in HTTP/2", [many(101)]).dies("response-read", "head_too_large"),
    ]
}

/// A head with a field of so many bytes, in as many frames as it takes.
pub(crate) fn large(bytes: usize) -> Step {
    let block = [literal(&[(":status", "200")]), literal(&[("x-a", &"x".repeat(bytes))])].concat();
    let mut pieces = block.chunks(16_000).peekable();
    let mut all = frame(HEADERS, END_STREAM, 1, pieces.next().expect("a first piece"));
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        all.extend(frame(CONTINUATION, flags, 1, piece));
    }
    write(all)
}

fn many(count: usize) -> Step {
    let fields: Vec<String> = (0..count).map(|number| format!("x-{number}")).collect();
    let fields: Vec<_> = fields.iter().map(|name| (name.as_str(), "1")).collect();
    write(head(1, 200, &fields, true))
}

fn bodies() -> Vec<Case> {
    let length =
        |length: &str, body: &[u8]| [head(1, 200, &[("content-length", length)], false), data(1, body, true)].concat();
    let trailers = |fields: &[(&str, &str)], flags| frame(HEADERS, END_HEADERS | flags, 1, &literal(fields));
    let begun = || [head(1, 200, &[], false), data(1, b"good", false)].concat();
    vec![
        malformed("sends DATA before the head", data(1, b"good", false))
            .dies("response-wait", "http2_protocol_error")
            .dials(),
        malformed("has a length that is too long in HTTP/2", length("9", b"good")),
        malformed("has a length that is too short in HTTP/2", length("3", b"good")),
        malformed("has a length and no DATA", head(1, 200, &[("content-length", "4")], true)),
        malformed("has trailers that do not end the stream", [begun(), trailers(&[("x-a", "b")], 0)].concat()),
        then("has trailers with :status", [write([begun(), trailers(&[(":status", "200")], END_STREAM)].concat())]),
        malformed("has trailers with a name in upper case", [begun(), trailers(&[("X-A", "b")], END_STREAM)].concat())
            .dials(),
        then("sends DATA behind the end", [answer(1, "good"), write(data(1, b"evil", true))]),
        then("sends a head behind the end", [answer(1, "good"), write(head(1, 200, &[], true))]),
        then("has a body behind 204 in HTTP/2", [write([head(1, 204, &[], false), data(1, b"body", true)].concat())])
            .answers(204, ""),
        then("answers HEAD with a body in HTTP/2", [answer(1, "good")]).answers(200, "").only(&[Ask::Head]),
        http2_raw(
            "answers before it has the body",
            [
                greeting(),
                ReadFrame(HEADERS, 1),
                write([head(1, 413, &[], false), data(1, b"no", true)].concat()),
                ReadFrame(DATA, 1),
                ReadFrame(HEADERS, 3),
                answer(3, "good"),
                AwaitClose,
            ],
        )
        .answers(413, "no")
        .only(&[Ask::Post])
        .reuses(),
    ]
}

fn interim() -> Vec<Case> {
    let hint = head(1, 103, &[("link", "</a>")], false);
    vec![
        then("sends 103 51 times in HTTP/2", [write(hint.repeat(51))]).dies("response-wait", "too_many_informational"),
        then("sends 103 50 times in HTTP/2", [write(hint.repeat(50)), answer(1, "good")]),
        http2("sends 103 without end in HTTP/2", [Flood(hint.repeat(100).into())])
            .dies("response-wait", "too_many_informational")
            .with(|builder| builder.timeout(2 * SOON))
            .waits_or_dials(),
        malformed("ends the stream with 103", head(1, 103, &[], true)).dies("response-wait", "http2_protocol_error"),
        then("switches protocols in HTTP/2", [write(head(1, 101, &[], false)), answer(1, "good")]),
        malformed("sends DATA behind 103", [head(1, 103, &[], false), data(1, b"good", true)].concat())
            .dies("response-wait", "http2_protocol_error")
            .dials(),
    ]
}

fn slow() -> Vec<Case> {
    let ok = literal(&[(":status", "200")]);
    vec![
        then("never answers in HTTP/2", [])
            .dies("response-wait", "timeout")
            .until("response_header_timeout", |builder| builder.response_header_timeout(SOON)),
        then(
            "stops within a head of HTTP/2",
            [
                write(frame(HEADERS, 0, 1, &ok)),
                ReadFrame(RST_STREAM, 1),
                write(frame(CONTINUATION, END_HEADERS, 1, &[])),
            ],
        )
        .dies("response-read", "timeout")
        .until("response_header_timeout", |builder| builder.response_header_timeout(SOON)),
        then("stops within the body of HTTP/2", [write([head(1, 200, &[], false), data(1, b"half", false)].concat())])
            .dies("response-read", "timeout")
            .until("body_idle_timeout", |builder| builder.body_idle_timeout(SOON)),
    ]
}
