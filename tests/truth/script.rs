//! The scripts: how a request is read and answered, byte by byte, on HTTP/1.1 and on HTTP/2.
//!
//! HTTP/2 is spoken with a handful of frames out of a table: an origin that stamps bytes must not have a library between
//! itself and them.

use crate::{
    order::{Kind, Order, Protocol, Stamps},
    wire::{Nanos, Wire},
};

/// Reads the request and answers it.
pub(crate) fn play(wire: &mut Wire, order: &Order, stamps: &mut Stamps) {
    wire.late = std::time::Duration::ZERO;
    let mut request = Request::new(order.protocol);
    let mut stall = (order.kind == Kind::BigHead).then(|| wire.stall());
    stamps.set("head_read", request.read(wire, |request| request.head_over));
    if order.kind == Kind::Upload {
        stall = Some(wire.stall());
    }
    stamps.set("request_read", request.read(wire, |request| request.over));
    if let Some(stall) = stall {
        stamps.set("accepted_bytes", stall.accepted);
        stamps.set("request_bytes", wire.consumed);
        // What was read may reach a little beyond the request: an HTTP/2 frame or two.
        if wire.consumed > stall.accepted + 1024 {
            stamps.set("full_at", stall.at);
        }
    }
    answer(wire, order, request.stream, stamps);
}

/// What the client gets, piece by piece.
struct Answer {
    pieces: Vec<Vec<u8>>,
    /// The piece in which the final response begins.
    last_head: usize,
}

fn answer(wire: &mut Wire, order: &Order, stream: u32, stamps: &mut Stamps) {
    let Answer { pieces, last_head } = match order.protocol {
        Protocol::Http1 | Protocol::Http1Tls => http1(order.kind),
        Protocol::Http2Tls => http2(order.kind, stream),
    };
    if order.kind == Kind::Get || order.kind == Kind::Upload {
        wire.delay();
    }
    let mut last = 0;
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            wire.delay();
        }
        last = wire.write(piece);
        if index == 0 {
            stamps.set("first_written", last);
        }
        if index == last_head {
            stamps.set("final_first_written", last);
        }
    }
    stamps.set("last_written", last);
}

/// Pieces with a delay between them.
fn http1(kind: Kind) -> Answer {
    let (pieces, last_head): (&[&str], usize) = match kind {
        Kind::Get => (&["H", "TTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", "o"], 0),
        Kind::Again => (&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", "o"], 0),
        Kind::Upload => (
            &[
                "HTTP/1.1 103 Early Hints\r\n\r\n",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
                "end: 1\r\n\r\n",
            ],
            1,
        ),
        Kind::BigHead => (&["H", "TTP/1.1 204 No Content\r\n\r\n"], 0),
        Kind::SynDropped => unreachable!("it has an answer of its own"),
    };
    Answer { pieces: pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect(), last_head }
}

/// As above. A frame's header is its first 9 bytes.
fn http2(kind: Kind, stream: u32) -> Answer {
    let ok = frame(HEADERS, END_HEADERS, stream, &[0x88]);
    let (pieces, last_head) = match kind {
        Kind::Get => {
            let data = frame(DATA, END_STREAM, stream, b"hello");
            let (most, last) = data.split_at(data.len() - 1);
            (vec![ok[..9].to_vec(), [&ok[9..], most].concat(), last.to_vec()], 0)
        }
        Kind::Again => {
            let hell = frame(DATA, 0, stream, b"hell");
            (vec![[ok, hell].concat(), frame(DATA, END_STREAM, stream, b"o")], 0)
        }
        Kind::Upload => {
            let hints = frame(HEADERS, END_HEADERS, stream, b"\x08\x03103");
            let data = frame(DATA, 0, stream, b"hello");
            let trailers = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x00\x03end\x011");
            (vec![hints, [ok, data].concat(), trailers], 1)
        }
        Kind::BigHead => {
            let no_content = frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x89]);
            let (most, last) = no_content.split_at(9);
            (vec![most.to_vec(), last.to_vec()], 0)
        }
        Kind::SynDropped => unreachable!("it has an answer of its own"),
    };
    Answer { pieces, last_head }
}

/// The origin's settings: windows in which every upload fits, so that only the socket holds a client up.
pub(crate) fn greet(wire: &mut Wire) {
    let window: u32 = 1 << 24;
    let settings = [&[0, 4][..], &window.to_be_bytes()[..]].concat();
    let both = [frame(SETTINGS, 0, 0, &settings), frame(WINDOW_UPDATE, 0, 0, &window.to_be_bytes())];
    wire.write(&both.concat());
}

/// A request as it comes in.
struct Request {
    protocol: Protocol,
    head_over: bool,
    over: bool,
    stream: u32,
    /// Body bytes that are still to come (HTTP/1).
    left: usize,
}

impl Request {
    fn new(protocol: Protocol) -> Self {
        Self { protocol, head_over: false, over: false, stream: 0, left: 0 }
    }

    /// Reads as long as it takes; returns the moment of the read that completed it.
    fn read(&mut self, wire: &mut Wire, is_there: impl Fn(&Self) -> bool) -> Nanos {
        loop {
            match self.protocol {
                Protocol::Http1 | Protocol::Http1Tls => self.take_http1(&mut wire.inbox),
                Protocol::Http2Tls => self.take_http2(wire),
            }
            if is_there(self) {
                return wire.last_read;
            }
            wire.read();
        }
    }

    fn take_http1(&mut self, inbox: &mut Vec<u8>) {
        if !self.head_over {
            let Some(end) = inbox.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            let head = String::from_utf8_lossy(&inbox[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            self.left = length.map_or(0, |length| length.trim().parse().unwrap());
            inbox.drain(..end + 4);
            self.head_over = true;
        }
        let taken = self.left.min(inbox.len());
        inbox.drain(..taken);
        self.left -= taken;
        self.over = self.left == 0;
    }

    fn take_http2(&mut self, wire: &mut Wire) {
        if wire.inbox.starts_with(PREFACE) {
            wire.inbox.drain(..PREFACE.len());
        }
        while let Some(length) = frame_length(&wire.inbox) {
            let frame: Vec<u8> = wire.inbox.drain(..length).collect();
            let (kind, flags) = (frame[3], frame[4]);
            if kind == SETTINGS && flags & ACK == 0 {
                wire.write(&self::frame(SETTINGS, ACK, 0, &[]));
            }
            if kind == HEADERS {
                self.stream = u32::from_be_bytes(frame[5..9].try_into().unwrap());
                // A big head goes on in CONTINUATION frames; the stream may end with the head.
                self.left = usize::from(flags & END_STREAM == 0);
            }
            self.head_over |= matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS != 0;
            if kind == DATA && flags & END_STREAM != 0 {
                self.left = 0;
            }
            self.over = self.head_over && self.left == 0;
        }
    }
}

/// The length of the frame that the bytes begin with, if it is there whole.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = 9 + u32::from_be_bytes([0, *bytes.first()?, *bytes.get(1)?, *bytes.get(2)?]) as usize;
    (bytes.len() >= length).then_some(length)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
