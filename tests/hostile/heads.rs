//! Heads of HTTP/1 that are none, that contradict themselves, or that do not end.

use crate::{
    case::{Case, GOOD, http1},
    support::script::{
        Step::{AwaitClose, Close, Flood, ReadHead},
        write,
    },
};

/// A case whose answer is these bytes.
fn says(name: &'static str, bytes: impl Into<bytes::Bytes>) -> Case {
    http1(name, [ReadHead, write(bytes), AwaitClose])
}

/// And is no response.
fn malformed(name: &'static str, bytes: impl Into<bytes::Bytes>) -> Case {
    says(name, bytes).dies("response-read", "malformed_response")
}

fn floods(name: &'static str, start: &'static str, bytes: impl Into<bytes::Bytes>) -> Case {
    http1(name, [ReadHead, write(start), Flood(bytes.into())])
}

pub(crate) fn cases() -> Vec<Case> {
    let all = [starts(), fields(), lengths(), endless(), interim()].into_iter().flatten();
    // What could be used again asks for its end, so that the next request has an answer.
    all.map(|case| case.left_for("connection_close")).collect()
}

fn starts() -> Vec<Case> {
    vec![
        malformed("says something else", "what is this\r\n\r\n"),
        malformed("speaks HTTP/0.9", "<html>good</html>\r\n\r\n"),
        malformed("has no version", "200 OK\r\n\r\n"),
        malformed("speaks HTTP/2.0 in the status line", "HTTP/2.0 200 OK\r\n\r\n"),
        malformed("has a version that does not exist", "HTTP/1.2 200 OK\r\ncontent-length: 0\r\n\r\n"),
        malformed("has no status", "HTTP/1.1\r\n\r\n"),
        malformed("has a status of two digits", "HTTP/1.1 20 OK\r\n\r\n"),
        malformed("has a status of letters", "HTTP/1.1 abc OK\r\n\r\n"),
        malformed("has status 000", "HTTP/1.1 000 No\r\n\r\n"),
        malformed("has a negative status", "HTTP/1.1 -20 OK\r\n\r\n"),
        says("has status 999", "HTTP/1.1 999 What\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody")
            .answers(999, "body"),
        says("has no reason", "HTTP/1.1 200\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody")
            .answers(200, "body"),
        malformed("answers with the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        malformed("answers with frames of HTTP/2", [0, 0, 0, 4, 0, 0, 0, 0, 0].to_vec()),
        malformed("answers with a record of TLS", b"\x15\x03\x03\x00\x02\x02\x28".to_vec()),
        malformed("answers with a request", "GET / HTTP/1.1\r\nhost: you\r\n\r\n"),
        http1("closes behind half a status line", [ReadHead, write("HTTP/1.1 20"), Close])
            .dies("response-read", "body_incomplete"),
    ]
}

fn fields() -> Vec<Case> {
    let with = |field: &'static str| format!("HTTP/1.1 200 OK\r\n{field}\r\ncontent-length: 0\r\n\r\n");
    vec![
        malformed("folds a field over two lines", with("x-a: b\r\n c")),
        malformed("has NUL in a value", with("x-a: b\0c")),
        malformed("has a bare CR in a value", with("x-a: b\rc")),
        malformed("has NUL in a name", with("x\0a: b")),
        malformed("has a space before the colon", with("x-a : b")),
        malformed("has a field without a name", with(": b")),
        malformed("has a field without a colon", with("what is this")),
        malformed("has NUL in the reason", "HTTP/1.1 200 O\0K\r\ncontent-length: 0\r\n\r\n"),
        says("ends its lines with bare LF", "HTTP/1.1 200 OK\nconnection: close\ncontent-length: 4\n\nbody")
            .answers(200, "body"),
        says(
            "has bytes that are no text in a value",
            b"HTTP/1.1 200 OK\r\nx-a: \xff\xfe\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody".to_vec(),
        )
        .answers(200, "body"),
    ]
}

fn lengths() -> Vec<Case> {
    let with = |fields: &'static str| format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nbody");
    let chunked = "4\r\nbody\r\n0\r\n\r\n";
    vec![
        malformed("has a negative length", with("content-length: -4")),
        malformed("has a signed length", with("content-length: +4")),
        malformed("has a length in hex", with("content-length: 0x4")),
        malformed("has a length of letters", with("content-length: four")),
        malformed("has an empty length", with("content-length:")),
        malformed("has a length above 64 bits", with("content-length: 99999999999999999999")),
        malformed("has two lengths in two fields", with("content-length: 4\r\ncontent-length: 5")),
        malformed("has two lengths in one field", with("content-length: 4, 5")),
        says("has one length twice", with("content-length: 4\r\ncontent-length: 4\r\nconnection: close"))
            .answers(200, "body"),
        http1(
            "has a length that nobody can send",
            [ReadHead, write(with("content-length: 9223372036854775807")), Close],
        )
        .dies("response-read", "body_incomplete"),
        says(
            "has a length beside chunked",
            format!("HTTP/1.1 200 OK\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n{chunked}"),
        )
        .answers(200, "body")
        .closes("protocol_error"),
        says(
            "has chunked twice",
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\nconnection: close\r\n\r\n{chunked}"),
        )
        .answers(200, "body"),
        http1(
            "has an encoding that is not chunked",
            [ReadHead, write("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nbody"), Close],
        )
        .answers(200, "body")
        .closes("peer_closed"),
        malformed("is chunked in HTTP/1.0", format!("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunked}")),
    ]
}

fn endless() -> Vec<Case> {
    let start = "HTTP/1.1 200 OK\r\n";
    let field = |length| format!("{start}x-a: {}\r\n\r\n", "x".repeat(length));
    let fields = |count| {
        let fields: String = (0..count).map(|number| format!("x-{number}: 1\r\n")).collect();
        format!("{start}{fields}\r\n")
    };
    let large = |case: Case| case.dies("response-read", "head_too_large");
    vec![
        large(floods("has fields without end", start, "x-a: b\r\n".repeat(1000))),
        large(floods("has a value without end", "HTTP/1.1 200 OK\r\nx-a: ", "x".repeat(8192))),
        large(floods("has a name without end", start, "x".repeat(8192))),
        large(floods("has a reason without end", "HTTP/1.1 200 ", "x".repeat(8192))),
        large(says("has one field of 300 KiB", field(300 << 10))),
        large(says("has 101 fields", fields(101))),
        large(says("has 10,000 fields", fields(10_000))),
        floods("has empty lines without end", "\r\n", "\r\n".repeat(4096)).dies("response-wait", "head_too_large"),
        floods("sends a version without end", "", "H".repeat(8192)).dies("response-read", "malformed_response"),
    ]
}

fn interim() -> Vec<Case> {
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let too_many = |case: Case| case.dies("response-wait", "too_many_informational");
    vec![
        too_many(floods("sends 103 without end", "", hint.repeat(100))),
        too_many(floods("sends 100 without end", "", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100))),
        too_many(says("sends 103 51 times", hint.repeat(51))),
        http1("sends 103 50 times", [ReadHead, write(hint.repeat(50) + GOOD), ReadHead, write(GOOD), AwaitClose])
            .reuses(),
        http1(
            "sends 100 that nobody asked for",
            [ReadHead, write(format!("HTTP/1.1 100 Continue\r\n\r\n{GOOD}")), ReadHead, write(GOOD), AwaitClose],
        )
        .reuses(),
        http1(
            "sends 102 with a length",
            [
                ReadHead,
                write(format!("HTTP/1.1 102 P\r\ncontent-length: 4\r\n\r\n{GOOD}")),
                ReadHead,
                write(GOOD),
                AwaitClose,
            ],
        )
        .reuses(),
        says(
            "switches protocols unasked",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        )
        .answers(101, "")
        .closes("upgraded"),
        http1("closes behind 103", [ReadHead, write(hint), Close]).dies("response-wait", "connection_closed"),
        says("has a 103 of 300 KiB", format!("HTTP/1.1 103 E\r\nx-a: {}\r\n\r\n{GOOD}", "x".repeat(300 << 10)))
            .dies("response-read", "head_too_large"),
        says("has 103 and then no response", format!("{hint}what is this\r\n\r\n"))
            .dies("response-read", "malformed_response"),
    ]
}
