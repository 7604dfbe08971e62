//! HTTP/2 byte by byte: the frames that a script writes, and those that a client wrote.
//!
//! A script that plays a server begins with `Read(PREFACE), greeting()`, waits for a request with `ReadFrame(HEADERS, 1)`
//! and answers with `write(head(..))`. Fields are sent without a table and without Huffman's code, so that a test can be
//! read.

use bytes::Bytes;

use super::script::{Step, write};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
#[allow(dead_code, reason = "hostile origins alone send it")]
pub(crate) const PUSH_PROMISE: u8 = 5;
#[allow(dead_code, reason = "hostile origins alone send it")]
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
#[allow(dead_code, reason = "hostile origins alone send it")]
pub(crate) const WINDOW_UPDATE: u8 = 8;
#[allow(dead_code, reason = "hostile origins alone send it")]
pub(crate) const CONTINUATION: u8 = 9;

/// The bytes that a client begins with.
pub(crate) const PREFACE: usize = 24;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// The server's settings, and its word that it knows the client's.
pub(crate) fn greeting() -> Step {
    greeting_with(&[])
}

/// A response's head, with the end of its stream or without.
pub(crate) fn head(stream: u32, status: u16, fields: &[(&str, &str)], end: bool) -> Vec<u8> {
    // `:status` is number 8 of the static table (RFC 7541, appendix A).
    let mut block = vec![0x08];
    text(&mut block, &status.to_string());
    block.extend(literal(fields));
    frame(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block)
}

/// Fields as they are, pseudo-fields too: what a head is made of.
pub(crate) fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// The server's settings with these values, and its word that it knows the client's.
pub(crate) fn greeting_with(settings: &[(u16, u32)]) -> Step {
    let values = settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat());
    write([frame(SETTINGS, 0, 0, &values.collect::<Vec<_>>()), frame(SETTINGS, 1, 0, &[])].concat())
}

/// Bytes of a body, with the end of its stream or without.
pub(crate) fn data(stream: u32, bytes: &[u8], end: bool) -> Vec<u8> {
    frame(DATA, if end { END_STREAM } else { 0 }, stream, bytes)
}

/// A whole answer: 200, and this body.
pub(crate) fn answer(stream: u32, body: &str) -> Step {
    write([head(stream, 200, &[], false), data(stream, body.as_bytes(), true)].concat())
}

pub(crate) fn reset(stream: u32, code: u32) -> Step {
    write(frame(RST_STREAM, 0, stream, &code.to_be_bytes()))
}

pub(crate) fn goaway(last_stream: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), code.to_be_bytes()].concat())
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags][..], &stream.to_be_bytes()[..], payload].concat()
}

/// A string of a header block (RFC 7541 §5.2).
fn text(block: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    if length < 0x7f {
        block.push(u8::try_from(length).expect("less than 127"));
    } else {
        block.push(0x7f);
        length -= 0x7f;
        while length >= 0x80 {
            block.push(0x80 | u8::try_from(length & 0x7f).expect("seven bits"));
            length >>= 7;
        }
        block.push(u8::try_from(length).expect("less than 128"));
    }
    block.extend_from_slice(text.as_bytes());
}

/// The first frame of these bytes and its length, if it is whole.
pub(crate) fn next(bytes: &[u8]) -> Option<(Frame, usize)> {
    let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes else { return None };
    let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    let payload = rest.get(..length)?.to_vec();
    let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]) & 0x7fff_ffff;
    Some((Frame { kind: *kind, flags: *flags, stream, payload }, length + 9))
}

/// What a client wrote behind its preface, one line a frame, heads with their fields in order.
pub(crate) fn lines(received: &[u8]) -> Vec<Line> {
    let mut decoder = loona_hpack::Decoder::new();
    let mut rest = &received[PREFACE.min(received.len())..];
    let mut lines = Vec::new();
    while let Some((Frame { kind, flags, stream, payload }, length)) = next(rest) {
        rest = &rest[length..];
        let (mut text, mut fields) = (format!("{kind} {flags:#x} on {stream}:"), Vec::new());
        if kind == HEADERS {
            let block = decoder.decode(&payload).expect("fields that can be read");
            let utf8 = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
            fields = block.into_iter().map(|(name, value)| (utf8(name), utf8(value))).collect();
        } else {
            text = format!("{text} {:?}", Bytes::from(payload));
        }
        lines.push(Line { stream, text, fields });
    }
    lines
}

/// A frame of a client.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) stream: u32,
    /// Its type, flags, stream, and all of it that is no header block.
    pub(crate) text: String,
    pub(crate) fields: Vec<(String, String)>,
}
