//! GOAWAY in every position: before the settings, between, in a head, in a body; below, at and above the stream; twice.

use crate::{
    case::{Case, http2, http2_raw},
    support::{
        frames::{GOAWAY, HEADERS, answer, data, frame, goaway, greeting, head, literal},
        script::{
            Step::{AwaitClose, Close, Gate, ReadFrame},
            write,
        },
    },
};

/// Behind the request: the server did nothing, so all of it is sent again, on another connection.
fn again(name: &'static str, bytes: Vec<u8>) -> Case {
    http2(name, [write(bytes), AwaitClose]).posts(2)
}

pub(crate) fn cases() -> Vec<Case> {
    let half = || write([head(1, 200, &[], false), data(1, b"half", false)].concat());
    let ok = literal(&[(":status", "200")]);
    let mut cases = vec![
        http2_raw("goes away before its settings", [write(goaway(0, 0)), ReadFrame(HEADERS, 1), AwaitClose]).posts(2),
        http2_raw("goes away behind its settings", [greeting(), write(goaway(0, 0)), AwaitClose]).posts(2),
        http2_raw(
            "goes away behind the request, without settings",
            [ReadFrame(HEADERS, 1), write(goaway(0, 0)), AwaitClose],
        )
        .posts(2),
        http2("goes away and answers all the same", [write(goaway(1, 0)), answer(1, "good"), AwaitClose]),
        http2("goes away and closes", [write(goaway(1, 0)), Close]).dies("response-wait", "connection_closed"),
        http2("goes away for an error and closes", [write(goaway(1, 2)), Close])
            .dies("response-wait", "connection_closed"),
        http2("goes away far above, and answers", [write(goaway(0x7fff_ffff, 0)), answer(1, "good"), AwaitClose]),
        http2(
            "goes away twice, then lower, and answers",
            [write([goaway(0x7fff_ffff, 0), goaway(1, 0)].concat()), answer(1, "good"), AwaitClose],
        ),
        http2("goes away twice, then above", [write([goaway(1, 0), goaway(3, 0)].concat()), AwaitClose])
            .dies("response-wait", "http2_protocol_error"),
        again("goes away twice, then below the request", [goaway(0x7fff_ffff, 0), goaway(0, 0)].concat()),
        again("goes away with 16 KiB to say", frame(GOAWAY, 0, 0, &[0; 16_384])),
        http2("goes away within a head", [write([frame(HEADERS, 0, 1, &ok), goaway(0, 0)].concat()), AwaitClose])
            .dies("response-read", "http2_protocol_error"),
        http2("goes away within the body, above the stream", [half(), write(goaway(0, 2)), AwaitClose])
            .dies("response-read", "http2_goaway"),
        http2(
            "goes away within the body, and ends it",
            [half(), write(goaway(1, 0)), write(data(1, b"half", true)), AwaitClose],
        )
        .answers(200, "halfhalf"),
        http2("goes away within the body, and closes", [half(), write(goaway(1, 0)), Close])
            .dies("response-read", "body_incomplete"),
        http2("goes away behind the response", [answer(1, "good"), write(goaway(1, 0)), AwaitClose]),
        http2_raw(
            "goes away when it is idle",
            [greeting(), ReadFrame(HEADERS, 1), answer(1, "good"), Gate("idle"), write(goaway(1, 0)), AwaitClose],
        )
        .after_one(),
        http2_raw(
            "goes away at the moment of reuse",
            [
                greeting(),
                ReadFrame(HEADERS, 1),
                answer(1, "good"),
                ReadFrame(HEADERS, 3),
                write(goaway(1, 0)),
                AwaitClose,
            ],
        )
        .after_one()
        .posts(2),
        http2("goes away on a stream", [write(frame(GOAWAY, 0, 1, &[0; 8])), AwaitClose])
            .dies("response-wait", "http2_protocol_error"),
        http2("goes away with seven bytes", [write(frame(GOAWAY, 0, 0, &[0; 7])), AwaitClose])
            .dies("response-wait", "http2_protocol_error"),
    ];
    cases.extend((0..=14).map(|code| {
        let name = Box::leak(format!("goes away below the request, code {code}").into_boxed_str());
        again(name, goaway(0, code))
    }));
    cases.into_iter().map(|case| case.left_for("goaway")).collect()
}
