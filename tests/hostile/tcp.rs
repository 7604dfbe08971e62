//! What can be done to a client before a word of HTTP: closing, resetting, saying nothing.

use std::time::Duration;

use crate::{
    case::{Case, GOOD, http1},
    judge::SOON,
    support::script::{
        Step::{AwaitClose, Close, Drip, Gate, Read, ReadHead, Reset},
        write,
    },
};

pub(crate) fn cases() -> Vec<Case> {
    let half = || write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let drip = |bytes| Drip(bytes, Duration::from_millis(20));
    vec![
        http1("accepts and closes", [Close]).dies("response-wait", "connection_closed"),
        http1("closes behind the first byte of the request", [Read(1), Close])
            .dies("response-wait", "connection_closed"),
        http1("closes behind the request", [ReadHead, Close]).dies("response-wait", "connection_closed"),
        http1("accepts and resets", [Reset])
            .dies_of(&[
                ("response-wait", "connection_reset"),
                ("request-write", "connection_reset"),
                ("request-write", "write_failed"),
                ("response-wait", "connection_closed"),
            ])
            .posts(0),
        http1("resets behind the request", [ReadHead, Reset]).dies("response-wait", "connection_reset"),
        http1("resets within the head", [ReadHead, write("HTTP/1.1 200 OK\r\nx-a: b"), Reset])
            .dies_of(&[("response-wait", "connection_reset"), ("response-read", "connection_reset")]),
        http1("resets within the body", [ReadHead, half(), Reset]).dies("response-read", "connection_reset"),
        http1("closes behind the first byte of the head", [ReadHead, write("H"), Close])
            .dies("response-read", "body_incomplete"),
        http1("closes behind the status line", [ReadHead, write("HTTP/1.1 200 OK\r\n"), Close])
            .dies("response-read", "body_incomplete"),
        http1("closes before the empty line", [ReadHead, write("HTTP/1.1 200 OK\r\nx-a: b\r\n"), Close])
            .dies("response-read", "body_incomplete"),
        http1("never answers", [ReadHead, AwaitClose])
            .dies("response-wait", "timeout")
            .until("response_header_timeout", |builder| builder.response_header_timeout(SOON)),
        http1("never reads", [Gate("end"), AwaitClose])
            .dies("response-wait", "timeout")
            .until("timeout", |builder| builder.timeout(SOON)),
        http1("stops within the head", [ReadHead, write("HTTP/1.1 200 OK\r\nx-a: b"), AwaitClose])
            .dies("response-read", "timeout")
            .until("response_header_timeout", |builder| builder.response_header_timeout(SOON)),
        http1("stops within the body", [ReadHead, half(), AwaitClose])
            .dies("response-read", "timeout")
            .until("body_idle_timeout", |builder| builder.body_idle_timeout(SOON)),
        http1("drips a head byte by byte, without end", [ReadHead, write("HTTP/1.1 200 OK\r\n"), drip(b"x-a: b\r\n")])
            .dies("response-read", "timeout")
            .until("response_header_timeout", |builder| builder.response_header_timeout(SOON)),
        http1(
            "drips a body byte by byte, without end",
            [ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"), drip(b"x")],
        )
        .dies("response-read", "timeout")
        .until("timeout", |builder| builder.timeout(SOON)),
        http1("answers byte by byte, and ends", {
            let bytes = GOOD.as_bytes().chunks(1).map(|byte| write(byte.to_vec()));
            [ReadHead].into_iter().chain(bytes).chain([ReadHead, write(GOOD), AwaitClose]).collect::<Vec<_>>()
        })
        .reuses(),
    ]
}
