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

/// One good answer, and then this, to the next request.
fn second(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    let script = [ReadHead, write(GOOD), ReadHead].into_iter().chain(steps);
    http1(name, script.collect::<Vec<_>>()).after_one()
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        idle("closes an idle connection", [Close]),
        idle("resets an idle connection", [Reset]),
        idle("sends garbage on an idle connection", [write("garbage"), AwaitClose]),
        idle("sends one byte on an idle connection", [write("\n"), AwaitClose]),
        idle("sends a whole response on an idle connection", [write(GOOD.replace("good", "evil")), AwaitClose]),
        idle("sends half a response on an idle connection", [write("HTTP/1.1 200 OK\r\n"), AwaitClose]),
        idle(
            "sends 408 on an idle connection and closes",
            [write("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n"), Close],
        ),
        idle("sends 100 on an idle connection", [write("HTTP/1.1 100 Continue\r\n\r\n"), AwaitClose]),
        second("closes at the moment of reuse", [Close]).post_dies("response-wait", "connection_closed"),
        second("resets at the moment of reuse", [Reset]).post_dies("response-wait", "connection_reset"),
        http1("closes behind the first byte of a second request", [ReadHead, write(GOOD), Read(1), Close])
            .after_one()
            .post_dies("response-wait", "connection_closed"),
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
        .only(&[Ask::Get, Ask::Post]),
    ]
}
