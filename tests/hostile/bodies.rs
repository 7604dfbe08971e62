//! Bodies of HTTP/1 that lie about their end, and answers that come with what they must not have.

use crate::{
    case::{Ask, Case, GOOD, http1},
    judge::SOON,
    support::script::{
        Step::{AwaitClose, Close, Flood, ReadHead},
        write,
    },
};

fn says(name: &'static str, bytes: impl Into<bytes::Bytes>) -> Case {
    http1(name, [ReadHead, write(bytes), AwaitClose])
}

/// An answer in chunks, and these are they.
fn chunks(name: &'static str, chunks: &str) -> Case {
    says(name, format!("{CHUNKED}{chunks}"))
}

fn malformed(case: Case) -> Case {
    case.dies("response-read", "malformed_response")
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

pub(crate) fn cases() -> Vec<Case> {
    let all = [lengths(), chunked(), bodiless()].into_iter().flatten();
    all.map(|case| case.left_for("surplus_bytes")).collect()
}

fn lengths() -> Vec<Case> {
    let of = |length: u32| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nbody");
    vec![
        http1("has a length that is too long", [ReadHead, write(of(5)), Close])
            .dies("response-read", "body_incomplete"),
        http1("has a length and no body", [ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"), Close])
            .dies("response-read", "body_incomplete"),
        says("has a length that is too short", of(3)).answers(200, "bod"),
        says("has a body where its length is 0", of(0)).answers(200, ""),
        says("smuggles a second response", GOOD.repeat(2)),
        says("smuggles a second response behind chunks", format!("{CHUNKED}4\r\ngood\r\n0\r\n\r\n{GOOD}")),
        http1("has no length, and ends", [ReadHead, write("HTTP/1.1 200 OK\r\n\r\nbody"), Close])
            .answers(200, "body")
            .closes("peer_closed"),
        http1(
            "speaks HTTP/1.0 and keeps the connection",
            [ReadHead, write("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\ngood"), AwaitClose],
        )
        .closes("http_1_0"),
        http1(
            "asks for the connection's end and keeps it",
            [ReadHead, write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\ngood"), AwaitClose],
        )
        .closes("connection_close"),
        http1(
            "asks for the connection's end among other words",
            [ReadHead, write("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 4\r\n\r\ngood"), AwaitClose],
        )
        .closes("connection_close"),
    ]
}

fn chunked() -> Vec<Case> {
    let endless = |name, start: &str, bytes: &str| {
        http1(name, [ReadHead, write(format!("{CHUNKED}{start}")), Flood(bytes.repeat(1024).into())])
    };
    vec![
        malformed(chunks("has a chunk size of letters", "xyz\r\nbody\r\n0\r\n\r\n")),
        malformed(chunks("has a negative chunk size", "-4\r\nbody\r\n0\r\n\r\n")),
        malformed(chunks("has a chunk size with a prefix", "0x4\r\nbody\r\n0\r\n\r\n")),
        malformed(chunks("has an empty chunk size", "\r\nbody\r\n0\r\n\r\n")),
        malformed(chunks("has a chunk size above 64 bits", "10000000000000004\r\nbody\r\n0\r\n\r\n")),
        malformed(chunks("has a chunk longer than its size", "4\r\nbodybody\r\n0\r\n\r\n")),
        malformed(chunks("ends a chunk with LF", "4\r\nbody\n0\r\n\r\n")),
        malformed(chunks("ends a chunk size with LF", "4\nbody\r\n0\r\n\r\n")),
        malformed(chunks("has LF in a chunk's extension", "4;a\nb\r\nbody\r\n0\r\n\r\n")),
        http1("closes within a chunk", [ReadHead, write(format!("{CHUNKED}9\r\nbody")), Close])
            .dies("response-read", "body_incomplete"),
        http1("closes within a chunk size", [ReadHead, write(format!("{CHUNKED}4\r\nbody\r\n1")), Close])
            .dies("response-read", "body_incomplete"),
        http1("closes before the last chunk", [ReadHead, write(format!("{CHUNKED}4\r\nbody\r\n")), Close])
            .dies("response-read", "body_incomplete"),
        http1("closes within the last chunk", [ReadHead, write(format!("{CHUNKED}4\r\nbody\r\n0\r\n")), Close])
            .dies("response-read", "body_incomplete"),
        http1("closes within the trailers", [ReadHead, write(format!("{CHUNKED}4\r\nbody\r\n0\r\nx-a: b")), Close])
            .dies("response-read", "body_incomplete"),
        malformed(chunks("has trailers that are none", "4\r\nbody\r\n0\r\nwhat is this\r\n\r\n")),
        malformed(endless("has a chunk extension without end", "4;", "x")),
        malformed(endless(
            "has chunk extensions without end",
            "",
            "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n",
        )),
        endless("has a chunk size without end", "", "0")
            .dies("response-read", "timeout")
            .until("timeout", |builder| builder.timeout(SOON)),
        endless("has trailers without end", "0\r\n", "x-a: b\r\n").dies("response-read", "head_too_large"),
        endless("has a trailer without end", "0\r\nx-a: ", "x").dies("response-read", "head_too_large"),
        chunks("has 101 trailers", &format!("0\r\n{}\r\n", "x-a: b\r\n".repeat(101)))
            .dies("response-read", "head_too_large"),
        http1(
            "has a length among its trailers",
            [
                ReadHead,
                write(format!("{CHUNKED}4\r\ngood\r\n0\r\ncontent-length: 9\r\n\r\n")),
                ReadHead,
                write(GOOD),
                AwaitClose,
            ],
        )
        .reuses(),
    ]
}

fn bodiless() -> Vec<Case> {
    vec![
        says("has a body behind 204", "HTTP/1.1 204 No Content\r\n\r\nbody").answers(204, ""),
        says("has a response behind 204", format!("HTTP/1.1 204 No Content\r\n\r\n{GOOD}")).answers(204, ""),
        says("has a body behind 304", "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nbody").answers(304, ""),
        says("has chunks behind 304", "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
            .answers(304, ""),
        says("answers HEAD with a body", GOOD).answers(200, "").only(&[Ask::Head]),
        says("answers HEAD with a second response", format!("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{GOOD}"))
            .answers(200, "")
            .only(&[Ask::Head]),
    ]
}
