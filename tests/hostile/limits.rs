//! What a peer controls, and how far: just within each limit it works, and just beyond it fails.
//!
//! Limits whose other side is among the behaviours (101 fields, 51 interim responses, 10,000 fields) have only this one here.

use crate::{
    case::{Case, GOOD, http1, http2},
    streams::large,
    support::{
        frames::{DATA, END_HEADERS, END_STREAM, HEADERS, answer, data, frame, head, literal},
        script::{
            Step::{self, AwaitClose, ReadFrame, ReadHead},
            write,
        },
    },
};

/// Works, and so does the next request.
fn works(name: &'static str, answer: impl Into<bytes::Bytes>) -> Case {
    http1(name, [ReadHead, write(answer), ReadHead, write(GOOD), AwaitClose]).reuses()
}

/// The same over HTTP/2.
fn works2(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    let next = [ReadFrame(HEADERS, 3), answer(3, "good"), AwaitClose];
    http2(name, steps.into_iter().chain(next).collect::<Vec<_>>()).reuses()
}

fn fields(count: usize) -> String {
    (0..count).map(|number| format!("x-{number}: 1\r\n")).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    let http1_head = |bytes: usize| {
        let bare = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-a: \r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-a: {}\r\n\r\ngood", "x".repeat(bytes - bare))
    };
    let chunked = |trailers: usize| {
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n{}\r\n", fields(trailers))
    };
    let trailers = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("x-{number}")).collect();
        let block = literal(&names.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>());
        let begun = [head(1, 200, &[], false), data(1, b"good", false)].concat();
        write([begun, frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)].concat())
    };
    let names: Vec<_> = (0..100).map(|number| format!("x-{number}")).collect();
    let hundred: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let frame_of = |bytes| write([head(1, 200, &[], false), frame(DATA, END_STREAM, 1, &vec![b'x'; bytes])].concat());
    let empty = [head(1, 200, &[], false), data(1, b"", false).repeat(5), data(1, b"good", true)].concat();
    let exactly: &'static str = Box::leak("x".repeat(16_384).into_boxed_str());
    let many_trailers = "has 101 different trailers";
    vec![
        works("has 100 fields", format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n{}\r\ngood", fields(99))),
        works("has a head of 255 KiB", http1_head(255 << 10)),
        http1("has a head of 257 KiB", [ReadHead, write(http1_head(257 << 10)), AwaitClose])
            .dies("response-read", "head_too_large"),
        works("has 100 trailers", chunked(100)),
        http1(many_trailers, [ReadHead, write(chunked(101)), AwaitClose]).dies("response-read", "head_too_large"),
        works2("has 100 fields in HTTP/2", [write(head(1, 200, &hundred, true))]).answers(200, ""),
        works2("has a field of 250 KiB in HTTP/2", [large(250 << 10)]).answers(200, ""),
        works2("has 100 trailers in HTTP/2", [trailers(100)]),
        works2("has 101 trailers in HTTP/2", [trailers(101)]).dies("response-read", "head_too_large"),
        works2("sends a frame of 16,384 bytes", [frame_of(16_384)]).answers(200, exactly),
        http2("sends a frame of 16,385 bytes", [frame_of(16_385), AwaitClose])
            .dies_of(&[("response-read", "http2_protocol_error"), ("response-wait", "http2_protocol_error")]),
        works2("sends five empty DATA frames", [write(empty)]),
    ]
}
