//! HTTP/2, without asking.

use std::time::Duration;

use super::{Ask, DONE, Scenario, all_alike};
use crate::support::{
    frames::{DATA, HEADERS, PREFACE, answer, data, frame, goaway, greeting, head, reset},
    script::{
        Step::{self, AwaitClose, Close, Gate as AtGate, Read, ReadFrame},
        write,
    },
};

/// A server's script behind preface and settings.
fn h2(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    [Read(PREFACE), greeting()].into_iter().chain(steps).collect()
}

#[tokio::test]
async fn http2_is_the_same_whoever_listens() {
    let hints = |count: usize| -> Vec<u8> {
        let hint = head(1, 103, &[("link", "</a>")], false);
        let all: Vec<_> = std::iter::repeat_n(hint, count).flatten().collect();
        [all, head(1, 200, &[], false), data(1, b"ok", true)].concat()
    };
    let once = || h2([ReadFrame(HEADERS, 1), answer(1, "ok"), AwaitClose]);
    let refusal = || write([head(1, 413, &[], false), data(1, b"no", true)].concat());
    let big = "x".repeat(2000);
    all_alike(
        true,
        vec![
            (
                Scenario::new(
                    "a reuse",
                    [Ask::Get, Ask::Post("body")],
                    [h2([ReadFrame(HEADERS, 1), answer(1, "ok"), ReadFrame(DATA, 3), answer(3, "ok"), AwaitClose])],
                ),
                &[DONE, DONE],
                1,
            ),
            (
                Scenario::new(
                    "a wait for 100",
                    [Ask::Expect("body")],
                    [h2([
                        ReadFrame(HEADERS, 1),
                        write(head(1, 100, &[], false)),
                        ReadFrame(DATA, 1),
                        answer(1, "ok"),
                        AwaitClose,
                    ])],
                )
                .with(|builder| builder.expect_continue_timeout(Duration::from_secs(3600))),
                &[DONE],
                1,
            ),
            (
                Scenario::new(
                    "an early 413",
                    [Ask::Upload("first"), Ask::Get],
                    [h2([ReadFrame(DATA, 1), refusal(), ReadFrame(HEADERS, 3), answer(3, "ok"), AwaitClose])],
                ),
                &["413 Payload Too Large b\"no\"", DONE],
                1,
            ),
            (
                Scenario::new(
                    "a cut body",
                    [Ask::Get, Ask::Get],
                    [
                        h2([
                            ReadFrame(HEADERS, 1),
                            write([head(1, 200, &[], false), data(1, b"half", false)].concat()),
                            Close,
                        ]),
                        once(),
                    ],
                ),
                &["200 OK body_incomplete in response-read", DONE],
                2,
            ),
            (
                Scenario::new(
                    "a head too large",
                    [Ask::Get, Ask::Get],
                    [h2([
                        ReadFrame(HEADERS, 1),
                        write(head(1, 200, &[("x-big", &big)], true)),
                        ReadFrame(HEADERS, 3),
                        answer(3, "ok"),
                        AwaitClose,
                    ])],
                )
                .with(|builder| builder.max_head_bytes(1000)),
                &["head_too_large in response-read", DONE],
                1,
            ),
            (
                Scenario::new(
                    "fifty interim responses",
                    [Ask::Get],
                    [h2([ReadFrame(HEADERS, 1), write(hints(50)), AwaitClose])],
                ),
                &[DONE],
                1,
            ),
            (
                Scenario::new(
                    "one more",
                    [Ask::Get, Ask::Get],
                    [h2([ReadFrame(HEADERS, 1), write(hints(51)), ReadFrame(HEADERS, 3), answer(3, "ok"), AwaitClose])],
                ),
                &["too_many_informational in response-wait", DONE],
                1,
            ),
            (
                Scenario::new(
                    "a stream refused",
                    [Ask::Post("body")],
                    [h2([ReadFrame(DATA, 1), reset(1, 7), ReadFrame(DATA, 3), answer(3, "ok"), AwaitClose])],
                ),
                &[DONE],
                1,
            ),
            (
                Scenario::new("a stream reset", [Ask::Get], [h2([ReadFrame(HEADERS, 1), reset(1, 2), AwaitClose])]),
                &["http2_stream_reset in response-wait"],
                1,
            ),
            (
                Scenario::new(
                    "a connection that goes away",
                    [Ask::Get],
                    [h2([ReadFrame(HEADERS, 1), write(goaway(0, 0)), AwaitClose]), once()],
                ),
                &[DONE],
                2,
            ),
            (
                Scenario::new(
                    "nonsense",
                    [Ask::Get],
                    [h2([ReadFrame(HEADERS, 1), write(frame(DATA, 0, 0, b"on no stream")), AwaitClose])],
                ),
                &["http2_protocol_error in response-wait"],
                1,
            ),
            (
                Scenario::new(
                    "a body that is dropped",
                    [Ask::GetAndDrop, Ask::Get],
                    [h2([
                        ReadFrame(HEADERS, 1),
                        write([head(1, 200, &[], false), data(1, b"half", false)].concat()),
                        ReadFrame(HEADERS, 3),
                        answer(3, "ok"),
                        AwaitClose,
                    ])],
                ),
                &["200 OK dropped", DONE],
                1,
            ),
            (
                Scenario::new("a late answer", [Ask::Late], [h2([ReadFrame(HEADERS, 1), AtGate("late"), AwaitClose])])
                    .with(|builder| builder.timeout(Duration::from_secs(5))),
                &["timeout in response-wait"],
                1,
            ),
            (
                Scenario::new(
                    "a request given up",
                    [Ask::GiveUp],
                    [h2([ReadFrame(HEADERS, 1), AtGate("late"), AwaitClose])],
                ),
                &["given up"],
                1,
            ),
        ],
    )
    .await;
}
