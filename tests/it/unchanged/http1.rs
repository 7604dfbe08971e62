//! HTTP/1.1.

use std::time::Duration;

use super::{Ask, DONE, Scenario, all_alike};
use crate::support::script::{
    Step::{self, AwaitClose, Close, Gate as AtGate, Read, ReadHead},
    write,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn answered() -> Vec<Step> {
    vec![ReadHead, write(OK), AwaitClose]
}

#[tokio::test]
async fn http1_is_the_same_whoever_listens() {
    let hints = |count| "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(count) + OK;
    let with_fields = |count: usize| {
        let fields: String = (0..count).map(|number| format!("x-{number}: 1\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{fields}\r\nok")
    };
    let big_field = format!("HTTP/1.1 200 OK\r\nx-big: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(9000));
    let big_body = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{}", "x".repeat(1_000_000));
    let refusal = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
    let close = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let stale = || vec![ReadHead, write(OK), ReadHead, Close];
    let twice = || vec![ReadHead, write(OK), ReadHead, write(OK), AwaitClose];
    all_alike(
        false,
        vec![
            (
                Scenario::new(
                    "a reuse",
                    [Ask::Get, Ask::Post("body")],
                    [vec![ReadHead, write(OK), ReadHead, Read(4), write(OK), AwaitClose]],
                ),
                &[DONE, DONE],
                1,
            ),
            (
                Scenario::new(
                    "a wait for 100",
                    [Ask::Expect("body")],
                    [vec![ReadHead, write("HTTP/1.1 100 Continue\r\n\r\n"), Read(4), write(OK), AwaitClose]],
                )
                .with(|builder| builder.expect_continue_timeout(Duration::from_secs(3600))),
                &[DONE],
                1,
            ),
            (
                Scenario::new(
                    "a wait that is refused",
                    [Ask::Expect("body")],
                    [vec![ReadHead, write(refusal), AwaitClose]],
                )
                .with(|builder| builder.expect_continue_timeout(Duration::from_secs(3600))),
                &["413 Payload Too Large b\"no\""],
                1,
            ),
            (
                Scenario::new(
                    "an early 413",
                    [Ask::Upload("first"), Ask::Get],
                    [vec![ReadHead, Read(b"5\r\nfirst\r\n".len()), write(refusal), AwaitClose], answered()],
                ),
                &["413 Payload Too Large b\"no\"", DONE],
                2,
            ),
            (
                Scenario::new(
                    "a cut body",
                    [Ask::Get, Ask::Get],
                    [vec![ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"), Close], answered()],
                ),
                &["200 OK body_incomplete in response-read", DONE],
                2,
            ),
            (
                Scenario::new(
                    "a head too large",
                    [Ask::Get, Ask::Get],
                    [vec![ReadHead, write(big_field), AwaitClose], answered()],
                )
                .with(|builder| builder.max_head_bytes(8192)),
                &["head_too_large in response-read", DONE],
                2,
            ),
            (
                Scenario::new(
                    "as many fields as may be",
                    [Ask::Get],
                    [vec![ReadHead, write(with_fields(9)), AwaitClose]],
                )
                .with(|builder| builder.max_headers(10)),
                &[DONE],
                1,
            ),
            (
                Scenario::new("a field too many", [Ask::Get], [vec![ReadHead, write(with_fields(10)), AwaitClose]])
                    .with(|builder| builder.max_headers(10)),
                &["head_too_large in response-read"],
                1,
            ),
            (
                Scenario::new(
                    "fifty interim responses",
                    [Ask::Get, Ask::Get],
                    [vec![ReadHead, write(hints(50)), ReadHead, write(OK), AwaitClose]],
                ),
                &[DONE, DONE],
                1,
            ),
            (
                Scenario::new(
                    "one more",
                    [Ask::Get, Ask::Get],
                    [vec![ReadHead, write(hints(51)), AwaitClose], answered()],
                ),
                &["too_many_informational in response-wait", DONE],
                2,
            ),
            (Scenario::new("a stale retry", [Ask::Get, Ask::Get], [stale(), answered()]), &[DONE, DONE], 2),
            (
                Scenario::new("a stale connection and no retry", [Ask::Get, Ask::Post("body")], [stale(), answered()]),
                &[DONE, "connection_closed in response-wait"],
                1,
            ),
            (
                Scenario::new("nonsense", [Ask::Get], [vec![ReadHead, write("what is this\r\n\r\n"), AwaitClose]]),
                &["malformed_response in response-read"],
                1,
            ),
            (
                Scenario::new("a little that is dropped", [Ask::GetAndDrop, Ask::Get], [twice()]),
                &["200 OK dropped", DONE],
                1,
            ),
            (
                Scenario::new(
                    "much that is dropped",
                    [Ask::GetAndDrop, Ask::Get],
                    [vec![ReadHead, write(big_body), AwaitClose], answered()],
                ),
                &["200 OK dropped", DONE],
                2,
            ),
            (
                Scenario::new(
                    "a close that is asked for",
                    [Ask::Get, Ask::Get],
                    [vec![ReadHead, write(close), AwaitClose], answered()],
                ),
                &[DONE, DONE],
                2,
            ),
            (
                Scenario::new(
                    "surplus bytes",
                    [Ask::Get, Ask::Get],
                    [vec![ReadHead, write(format!("{OK}surplus")), AwaitClose], answered()],
                ),
                &[DONE, DONE],
                2,
            ),
            (
                Scenario::new("a late answer", [Ask::Late], [vec![ReadHead, AtGate("late"), AwaitClose]])
                    .with(|builder| builder.timeout(Duration::from_secs(5))),
                &["timeout in response-wait"],
                1,
            ),
            (
                Scenario::new(
                    "a request given up",
                    [Ask::GiveUp, Ask::Get],
                    [vec![ReadHead, AtGate("late"), AwaitClose], answered()],
                ),
                &["given up", DONE],
                2,
            ),
        ],
    )
    .await;
}
