//! What breaks an HTTP/2 connection: prefaces, settings, windows, frames that are none, floods of frames.

use crate::{
    case::{Ask, Case, GOOD, http2, http2_raw},
    judge::SOON,
    support::{
        frames::{
            CONTINUATION, DATA, END_HEADERS, HEADERS, PING, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, answer,
            data, frame, greeting, greeting_with, head, literal,
        },
        script::{
            Step::{self, AwaitClose, Close, Flood, ReadFrame},
            write,
        },
    },
};

const PRIORITY: u8 = 2;

/// Behind the request, these bytes, which end the connection.
fn breaks(name: &'static str, bytes: Vec<u8>) -> Case {
    http2(name, [write(bytes), AwaitClose]).dies("response-wait", "http2_protocol_error")
}

/// The same once a response's frame came.
fn breaks_head(name: &'static str, bytes: Vec<u8>) -> Case {
    http2(name, [write(bytes), AwaitClose]).dies("response-read", "http2_protocol_error")
}

/// Answers two requests.
fn two() -> [Step; 5] {
    [ReadFrame(HEADERS, 1), answer(1, "good"), ReadFrame(HEADERS, 3), answer(3, "good"), AwaitClose]
}

fn with_greeting(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    http2_raw(name, steps.into_iter().collect::<Vec<_>>())
}

pub(crate) fn cases() -> Vec<Case> {
    [prefaces(), settings(), windows(), broken(), hpack(), floods()].into_iter().flatten().collect()
}

fn prefaces() -> Vec<Case> {
    vec![
        // As the machine has it, while the request is written or behind it.
        with_greeting("closes behind the preface", [Close])
            .dies_of(&[("response-wait", "connection_closed"), ("request-write", "write_failed")]),
        with_greeting("answers the preface in HTTP/1.1", [write(GOOD), AwaitClose])
            .dies("response-wait", "http2_protocol_error"),
        with_greeting("answers the preface with garbage", [write(vec![0xa5; 512]), AwaitClose])
            .dies("response-wait", "http2_protocol_error"),
        // Before the client has written all: what it writes is refused, and what was answered is still there.
        with_greeting("answers the preface in HTTP/1.1 and hangs up", [write(GOOD), Close])
            .dies_of(&[("request-write", "http2_protocol_error"), ("response-wait", "http2_protocol_error")]),
        with_greeting("answers the preface with half a frame", [write(vec![0, 0, 9]), Close])
            .dies("response-wait", "connection_closed"),
        with_greeting("answers without settings", two()).reuses(),
        with_greeting("says nothing behind the preface", [AwaitClose])
            .dies("response-wait", "timeout")
            .until("timeout", |builder| builder.timeout(SOON))
            .waits(),
        with_greeting("says nothing behind the preface, and no ping is answered", [AwaitClose])
            .dies("response-wait", "timeout")
            .until("http2_keep_alive", |builder| builder.http2_keep_alive(SOON / 2, SOON / 2, false)),
        http2("closes behind the request (HTTP/2)", [Close]).dies("response-wait", "connection_closed"),
        http2("resets behind the request (HTTP/2)", [Step::Reset])
            .dies_of(&[("response-wait", "connection_reset"), ("response-wait", "connection_closed")]),
    ]
}

fn settings() -> Vec<Case> {
    let of = |settings: &[(u16, u32)]| -> Vec<u8> {
        let values = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
        frame(SETTINGS, 0, 0, &values.collect::<Vec<_>>())
    };
    vec![
        with_greeting("never acknowledges settings", [write(of(&[]))].into_iter().chain(two())).reuses(),
        with_greeting("announces a table of 4 GiB", [greeting_with(&[(1, u32::MAX)])].into_iter().chain(two()))
            .reuses(),
        with_greeting("announces settings that nobody knows", [greeting_with(&[(0xabcd, 7)])].into_iter().chain(two()))
            .reuses(),
        with_greeting("announces a head limit of 1", [greeting_with(&[(6, 1)])].into_iter().chain(two())).reuses(),
        breaks("sends settings of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        breaks("sends settings on a stream", frame(SETTINGS, 0, 1, &[])),
        breaks("acknowledges settings with bytes", frame(SETTINGS, 1, 0, &[0; 6])),
        breaks("allows push", of(&[(2, 2)])),
        breaks("announces a window above 2^31", of(&[(4, 1 << 31)])),
        breaks("announces frames of no bytes", of(&[(5, 0)])),
        breaks("announces frames above 2^24", of(&[(5, 1 << 24)])),
        with_greeting(
            "never allows another stream",
            [greeting_with(&[(3, 0)]), ReadFrame(HEADERS, 1), answer(1, "good"), AwaitClose],
        )
        .after_one()
        .dies("get-connection", "timeout")
        .posts(0)
        .until("timeout", |builder| builder.timeout(SOON))
        .waits(),
        with_greeting(
            "takes the streams away",
            [greeting(), ReadFrame(HEADERS, 1), write(of(&[(3, 0)])), answer(1, "good"), AwaitClose],
        )
        .after_one()
        .dies("get-connection", "timeout")
        .posts(0)
        .until("timeout", |builder| builder.timeout(SOON))
        .waits(),
        with_greeting(
            "never opens a stream's window",
            [
                greeting_with(&[(4, 0)]),
                ReadFrame(HEADERS, 1),
                answer(1, "good"),
                ReadFrame(HEADERS, 3),
                ReadFrame(HEADERS, 5),
                answer(5, "good"),
                AwaitClose,
            ],
        )
        .after_one()
        .reuses()
        .only(&[Ask::Post])
        .dies("request-write", "timeout")
        .until("timeout", |builder| builder.timeout(SOON)),
    ]
}

fn windows() -> Vec<Case> {
    let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let half = head(1, 200, &[], false);
    vec![
        breaks("opens the connection's window too far", update(0, 0x7fff_ffff)),
        breaks("opens the connection's window by 0", update(0, 0)),
        breaks("opens the window of a stream that is none", update(5, 1)),
        breaks("has a window update of three bytes", frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        http2(
            "opens a stream's window too far",
            [write(update(1, 0x7fff_ffff)), answer(1, "good"), ReadFrame(HEADERS, 3), answer(3, "good"), AwaitClose],
        )
        .reuses(),
        http2("opens a stream's window by 0", [write(update(1, 0)), AwaitClose])
            .dies("response-wait", "http2_protocol_error"),
        http2(
            "sends more than the stream's window",
            [
                write([half.clone(), data(1, &[0; 5000], false)].concat()),
                ReadFrame(HEADERS, 3),
                answer(3, "good"),
                AwaitClose,
            ],
        )
        .dies("response-read", "http2_protocol_error")
        .reuses()
        .with(|builder| builder.http2_windows(4096, 65_535)),
        breaks_head(
            "sends more than the connection's window",
            [&half[..], &data(1, &[0; 16_000], false).repeat(6)].concat(),
        )
        .with(|builder| builder.http2_windows(1 << 20, 65_535)),
    ]
}

fn broken() -> Vec<Case> {
    let ok = literal(&[(":status", "200")]);
    let open = frame(HEADERS, 0, 1, &ok);
    vec![
        breaks("sends DATA on stream 0", frame(DATA, 0, 0, b"stray")),
        breaks("sends DATA on a stream that is none", frame(DATA, 0, 5, b"stray")),
        breaks("sends DATA on a stream of its own", frame(DATA, 0, 2, b"stray")),
        breaks("sends a head on stream 0", frame(HEADERS, END_HEADERS, 0, &ok)),
        breaks("sends a head on a stream that is none", frame(HEADERS, END_HEADERS, 5, &ok)),
        breaks("sends a head on a stream of its own", frame(HEADERS, END_HEADERS, 2, &ok)),
        breaks("resets stream 0", frame(RST_STREAM, 0, 0, &[0, 0, 0, 2])),
        breaks("resets a stream that is none", frame(RST_STREAM, 0, 5, &[0, 0, 0, 2])),
        breaks("resets with three bytes", frame(RST_STREAM, 0, 1, &[0; 3])),
        breaks("sends a ping on a stream", frame(PING, 0, 1, &[0; 8])),
        breaks("sends a ping of seven bytes", frame(PING, 0, 0, &[0; 7])),
        breaks("sends a priority of four bytes", frame(PRIORITY, 0, 1, &[0; 4])),
        breaks("promises a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &ok].concat())),
        breaks("continues no head", frame(CONTINUATION, END_HEADERS, 1, &ok)),
        breaks_head("sends a ping within a head", [&open[..], &frame(PING, 0, 0, &[0; 8])].concat()),
        breaks_head(
            "continues the head of another stream",
            [&open[..], &frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
        ),
        breaks("sends a frame of 20,000 bytes", frame(DATA, 0, 1, &[0; 20_000])),
        breaks("pads a body beyond its frame", frame(DATA, 8, 1, &[200, 0, 0])),
        breaks_head("pads a head beyond its frame", frame(HEADERS, END_HEADERS | 8, 1, &[200, 0x88])),
        breaks_head("sends a head without a byte", frame(HEADERS, END_HEADERS | 0x20, 1, &[])),
    ]
}

fn hpack() -> Vec<Case> {
    let block = |block: &[u8]| frame(HEADERS, END_HEADERS, 1, block);
    vec![
        breaks_head("packs a head with index 0", block(&[0x88, 0x80])),
        breaks_head("packs a head with an index that is none", block(&[0x88, 0xff, 0x80, 0x10])),
        breaks_head(
            "packs a head with an integer that overflows",
            block(&[0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ),
        breaks_head("packs a head that ends within a string", block(&[0x88, 0, 10, b'x'])),
        breaks_head(
            "packs a head with a code that Huffman has not",
            block(&[0x88, 0, 0x84, 0xff, 0xff, 0xff, 0xff, 1, b'a']),
        ),
        breaks_head("packs a head with a table of 4 GiB", block(&[0x3f, 0xe1, 0xff, 0xff, 0xff, 0x0f, 0x88])),
        http2(
            "packs a head that is too large when it is unpacked",
            [
                write(block(&[&[0x88][..], &[0x90; 16_000]].concat())),
                ReadFrame(HEADERS, 3),
                answer(3, "good"),
                AwaitClose,
            ],
        )
        .dies("response-read", "http2_protocol_error")
        .reuses(),
    ]
}

fn floods() -> Vec<Case> {
    let flood = |name, frames: Vec<u8>| http2(name, [Flood(frames.repeat(256).into())]);
    let waits = |case: Case| {
        case.dies("response-wait", "timeout").until("timeout", |builder| builder.timeout(SOON)).waits_or_dials()
    };
    let ok = literal(&[(":status", "200")]);
    vec![
        waits(flood("sends settings without end", frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]))).waits_or_dials(),
        waits(flood("sends pings without end", frame(PING, 0, 0, &[0; 8]))).waits_or_dials(),
        waits(flood("sends ping answers without end", frame(PING, 1, 0, &[0; 8]))),
        waits(flood("sends frames that nobody knows without end", frame(0xee, 0, 0, &[0; 64]))),
        waits(flood("sends priorities without end", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]))),
        flood("opens the window without end", frame(WINDOW_UPDATE, 0, 0, &[0, 1, 0, 0]))
            .dies("response-wait", "http2_protocol_error"),
        http2(
            "continues a head without end",
            [
                write(frame(HEADERS, 0, 1, &ok)),
                Flood(frame(CONTINUATION, 0, 1, &literal(&[("x-a", "b")])).repeat(256).into()),
            ],
        )
        .dies("response-read", "http2_protocol_error"),
        http2(
            "continues a head with nothing, without end",
            [write(frame(HEADERS, 0, 1, &ok)), Flood(frame(CONTINUATION, 0, 1, &[]).repeat(256).into())],
        )
        .dies("response-read", "http2_protocol_error"),
        http2(
            "sends empty DATA without end",
            [write(head(1, 200, &[], false)), Flood(data(1, b"", false).repeat(256).into())],
        )
        .dies("response-read", "http2_protocol_error"),
        flood("resets streams of its own without end", frame(RST_STREAM, 0, 2, &[0, 0, 0, 8]))
            .dies("response-wait", "http2_protocol_error"),
        http2("resets one stream without end", [Flood(frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]).repeat(256).into())])
            .dies("response-wait", "http2_stream_reset")
            .with(|builder| builder.timeout(2 * SOON))
            .waits_or_dials(),
    ]
}
