//! A connection that has answered as it should, and then turns on the next request.

use crate::{
    case::{Ask, Case, GOOD, http1},
    judge::SOON,
    support::script::{
        Step::{self, AwaitClose, Close, Gate, Read, ReadHead, Reset},
        write,
    },
};

/// One good answer, and then this, before the next request.
fn idle(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    let script = [ReadHead, write(GOOD), Gate("idle")].into_iter().chain(steps);
    http1(name, script.collect::<Vec<_>>()).after_one()
}

/// One good answer, and then bytes that nobody asked for.
fn surplus(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    idle(name, steps).closes("surplus_bytes")
}

/// One good answer, and then this, to the next request.
fn second(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    let script = [ReadHead, write(GOOD), ReadHead].into_iter().chain(steps);
    http1(name, script.collect::<Vec<_>>()).after_one()
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        idle("closes an idle connection", [Close]).closes("peer_closed"),
        idle("resets an idle connection", [Reset]).closes("io_error"),
        surplus("sends garbage on an idle connection", [write("garbage"), AwaitClose]),
        surplus("sends one byte on an idle connection", [write("\n"), AwaitClose]),
        surplus("sends a whole response on an idle connection", [write(GOOD.replace("good", "evil")), AwaitClose]),
        surplus("sends half a response on an idle connection", [write("HTTP/1.1 200 OK\r\n"), AwaitClose]),
        surplus(
            "sends 408 on an idle connection and closes",
            [write("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"), Close],
        ),
        surplus("sends 100 on an idle connection", [write("HTTP/1.1 100 Continue\r\n\r\n"), AwaitClose]),
        second("closes at the moment of reuse", [Close])
            .post_dies("response-wait", "connection_closed")
            .closes("peer_closed"),
        second("resets at the moment of reuse", [Reset])
            .post_dies("response-wait", "connection_reset")
            .closes("io_error"),
        http1("closes behind the first byte of a second request", [ReadHead, write(GOOD), Read(1), Close])
            .after_one()
            .post_dies("response-wait", "connection_closed")
            .closes("peer_closed"),
        second("closes within the head of a second response", [write("HTTP/1.1 200"), Close])
            .dies("response-read", "body_incomplete"),
        second(
            "closes within the body of a second response",
            [write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), Close],
        )
        .dies("response-read", "body_incomplete"),
        second("answers a second request with garbage", [write("what is this\r\n\r\n"), AwaitClose])
            .dies("response-read", "malformed_response"),
        second("never answers a second request", [AwaitClose])
            .dies("response-wait", "timeout")
            .until("response_header_timeout", |builder| builder.response_header_timeout(SOON)),
        second(
            "answers a second request with 408 and closes",
            [write("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"), Close],
        )
        .answers(408, "")
        .closes("connection_close")
        .only(&[Ask::Get, Ask::Post]),
    ]
}
