//! What holds of the readers of this stage, whatever bytes pass: HTTP/2 frames and who they belong to, heads, header blocks.
//!
//! In: bytes of a fuzzer, or of the kept corpus. Out: a panic where something does not hold. The frames are held against a
//! plain reader of the whole text, HTTP/1 heads against what hyper reads them with, blocks against an HPACK decoder; and
//! whatever is read has to be the same however its bytes are cut.

use std::{sync::Arc, time::Instant};

use http::StatusCode;

use super::{
    Terms,
    frames::{Fact, Frames},
    heads::{Heads, Seen, fields_of_block, fields_of_head, status_of_block},
    marks::Exchange,
    sensor::end_of_head,
    wire::{Known, Wire},
};
use crate::{clock, connection::Protocol, hooks::emit::Hooks};

/// The bytes in one piece, byte by byte, and cut in two.
fn cuts(bytes: &[u8], at: u8) -> [Vec<&[u8]>; 3] {
    let (before, after) = bytes.split_at(usize::from(at).min(bytes.len()));
    [vec![bytes], bytes.chunks(1).collect(), vec![before, after]]
}

/// All results are the same: the first of them.
fn same<T: PartialEq + std::fmt::Debug>(results: [T; 3]) -> T {
    let [whole, bytes, halves] = results;
    assert_eq!(whole, bytes, "in one piece, and byte by byte");
    assert_eq!(whole, halves, "in one piece, and in two");
    whole
}

// === frames ===

/// The facts of a text are those that a plain reader finds in it, however it is cut; what is kept is bounded.
pub(crate) fn frames(data: &[u8]) {
    let [at, bytes @ ..] = data else { return };
    let told = same(cuts(bytes, *at).map(|pieces| {
        let (mut frames, mut facts) = (Frames::inbound(), Vec::new());
        for piece in pieces {
            frames.pass(piece, |fact| facts.extend(fact.apart().into_iter().map(uncut)));
            assert!(frames.kept() <= MOST_KEPT, "{} bytes are kept", frames.kept());
        }
        facts
    }));
    let foreign = bytes.len() >= 9 && u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) > 16_384;
    assert_eq!(told, if foreign { vec![Fact::Foreign] } else { plainly_read(bytes) });
    // Outwards there is a preface, and nobody reads the blocks.
    let out = same(cuts(bytes, *at).map(|pieces| {
        let (mut frames, mut facts) = (Frames::outbound(), Vec::new());
        pieces
            .into_iter()
            .for_each(|piece| frames.pass(piece, |fact| facts.extend(fact.apart().into_iter().map(uncut))));
        facts
    }));
    let behind = plainly_read(bytes.get(24..).unwrap_or_default());
    assert_eq!(out, behind.into_iter().map(unread).collect::<Vec<_>>());
}

/// SETTINGS of 40 entries and the block of an interim response, and as much again of room in their vectors.
const MOST_KEPT: usize = 2 * (40 * 6 + 16 * 1024 + 24);

/// Where its first byte passed depends on the cut, and nothing else does.
fn uncut(fact: Fact) -> Fact {
    match fact {
        Fact::HeadersBegin { stream, ends, .. } => Fact::HeadersBegin { stream, ends, cut: false },
        fact => fact,
    }
}

fn unread(fact: Fact) -> Fact {
    match fact {
        Fact::HeadersEnd { stream, .. } => Fact::HeadersEnd { stream, length: 0, status: None, interim: None },
        fact => fact,
    }
}

/// The same facts by the letter of RFC 9113, out of a text that is all here.
fn plainly_read(mut bytes: &[u8]) -> Vec<Fact> {
    let mut facts = Vec::new();
    // Of a block without its end: whether the stream ends behind it.
    let (mut block, mut unfinished) = (Vec::new(), None);
    while let [a, b, c, kind, flags, stream @ ..] = bytes
        && let [s0, s1, s2, s3, rest @ ..] = stream
    {
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        let stream = u32::from_be_bytes([*s0, *s1, *s2, *s3]) & 0x7fff_ffff;
        let has = |flag: u8| flags & flag != 0;
        let word = |payload: &[u8], at: usize| {
            payload.get(at..at + 4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]]))
        };
        match kind {
            0 => facts.push(Fact::DataBegin { stream }),
            1 => facts.push(Fact::HeadersBegin { stream, ends: has(1), cut: false }),
            _ => {}
        }
        let Some(payload) = rest.get(..length) else { break };
        bytes = &rest[length..];
        match kind {
            0 => {
                facts.push(Fact::Data { stream, length: u32::try_from(length).expect("24 bits") });
                facts.extend(has(1).then_some(Fact::StreamEnd { stream }));
            }
            1 | 9 => {
                if *kind == 1 {
                    block.clear();
                    unfinished = Some(has(1));
                }
                // A CONTINUATION of nothing.
                let Some(ends) = unfinished else { continue };
                block.extend_from_slice(fragment(*kind, *flags, payload));
                if has(4) {
                    unfinished = None;
                    // The first bytes are enough for a status.
                    let status = status_of_block(&block[..block.len().min(24)]);
                    let interim = status.filter(|status| *status < 200);
                    let interim = interim.map(|_| block[..block.len().min(16 * 1024)].to_vec());
                    facts.push(Fact::HeadersEnd { stream, length: block.len(), status, interim });
                    facts.extend(ends.then_some(Fact::StreamEnd { stream }));
                }
            }
            3 => facts.push(Fact::Reset { stream, code: word(payload, 0).unwrap_or(0) }),
            4 if !has(1) => facts.extend(payload.chunks_exact(6).take(40).map(|entry| Fact::Setting {
                id: u16::from_be_bytes([entry[0], entry[1]]),
                value: u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]),
            })),
            6 if payload.len() >= 8 => {
                let payload = payload[..8].try_into().expect("eight bytes");
                facts.push(Fact::Ping { payload, ack: has(1) });
            }
            7 if stream == 0 => {
                if let (Some(last), Some(code)) = (word(payload, 0), word(payload, 4)) {
                    facts.push(Fact::GoAway { last_stream: last & 0x7fff_ffff, code });
                }
            }
            8 => facts.extend(word(payload, 0).map(|by| Fact::WindowUpdate { stream, by: by & 0x7fff_ffff })),
            _ => {}
        }
    }
    facts
}

/// RFC 9113 §6.2 and §6.10.
fn fragment(kind: u8, flags: u8, payload: &[u8]) -> &[u8] {
    if kind == 9 {
        return payload;
    }
    let padded = flags & 8 != 0;
    let begin = usize::from(padded) + if flags & 0x20 != 0 { 5 } else { 0 };
    let padding = if padded { payload.first().copied().map_or(0, usize::from) } else { 0 };
    payload.get(begin..payload.len().saturating_sub(padding)).unwrap_or_default()
}

// === whose frames they are ===

/// A conversation in which requests come and go as told, and frames of both sides say anything: what is known of each
/// request, and of the connection, does not depend on how the bytes are cut, and is bounded by the requests.
pub(crate) fn wire(data: &[u8]) {
    let [at, steps @ ..] = data else { return };
    let moment = clock::now();
    same([usize::MAX, 1, usize::from(*at).max(1)].map(|piece| Talk::new(moment, piece).hold(steps)));
}

struct Talk {
    wire: Arc<Wire>,
    exchanges: Vec<Arc<Exchange>>,
    out: Frames,
    inbound: Frames,
    sending: Known,
    receiving: Known,
    moment: Instant,
    piece: usize,
}

/// As many as a corpus needs.
const MOST_REQUESTS: usize = 16;

impl Talk {
    fn new(moment: Instant, piece: usize) -> Self {
        let wire = Arc::new(Wire::new(Protocol::Http2, true, None));
        let (out, inbound) = (Frames::inbound(), Frames::inbound());
        Self { wire, exchanges: Vec::new(), out, inbound, sending: None, receiving: None, moment, piece }
    }

    /// Plays the steps, and says what is known in the end.
    fn hold(mut self, mut steps: &[u8]) -> Vec<String> {
        while let [step, rest @ ..] = steps {
            steps = rest;
            match step {
                0..0x20 => self.request(step & 1 != 0),
                0x20..0x30 => self.with(*step, |wire, exchange| wire.refused(exchange)),
                0x30..0x40 => self.with(*step, |wire, exchange| wire.answered(exchange, StatusCode::OK)),
                0x40..0x50 => self.wire.gone(),
                _ => {
                    let (taken, after) = rest.split_at(usize::from(*step & 0x3f).min(rest.len()));
                    steps = after;
                    self.passes(*step & 0x80 != 0, taken);
                }
            }
            let (streams, pings) = self.wire.held();
            assert!(streams <= 2 * self.exchanges.len() && pings <= 16, "{streams} streams and {pings} pings are held");
        }
        let known = self.exchanges.iter().map(|exchange| format!("{:?}", exchange.marks()));
        let record = self.wire.record().expect("HTTP/2 has one");
        let numbers: Vec<_> = self.exchanges.iter().filter_map(|exchange| exchange.marks().stream_id).collect();
        assert!(numbers.windows(2).all(|two| two[0] < two[1]), "streams have the order of their requests: {numbers:?}");
        let told = known.chain([format!("{record:?}")]).collect();
        self.wire.gone();
        assert_eq!(self.wire.held().0, 0, "nobody holds a connection that is gone");
        told
    }

    fn request(&mut self, ends: bool) {
        if self.exchanges.len() < MOST_REQUESTS {
            let terms = Terms { max_informational: 3, max_head_bytes: 1000, ..Terms::default() };
            let exchange = Arc::new(Exchange::new(Hooks::default(), None, terms, None, Arc::clone(&self.wire)));
            exchange.dispatch(ends);
            self.exchanges.push(exchange);
        }
    }

    fn with(&self, step: u8, act: impl Fn(&Wire, &Exchange)) {
        if let Some(exchange) = self.exchanges.get(usize::from(step & 0xf)) {
            act(&self.wire, exchange);
        }
    }

    fn passes(&mut self, inwards: bool, bytes: &[u8]) {
        let (wire, moment) = (&self.wire, Some(self.moment));
        for piece in bytes.chunks(self.piece.min(bytes.len().max(1))) {
            match inwards {
                true => self.inbound.pass(piece, |fact| wire.told_in(fact, moment, moment, &mut self.receiving)),
                false => self.out.pass(piece, |fact| wire.told_out(fact, moment, &mut self.sending)),
            }
        }
    }
}

// === heads ===

/// The heads of an HTTP/1 response are where hyper's own parser finds them, however they are cut.
pub(crate) fn heads(data: &[u8]) {
    let [at, bytes @ ..] = data else { return };
    let seen = same(cuts(bytes, *at).map(|pieces| {
        let (mut heads, mut seen) = (Heads::default(), Vec::new());
        pieces.into_iter().for_each(|piece| heads.pass(piece, true, |one| seen.push(one)));
        (seen, heads.is_final())
    }));
    let unkept = same(cuts(bytes, *at).map(|pieces| {
        let (mut heads, mut count) = (Heads::default(), 0);
        pieces.into_iter().for_each(|piece| heads.pass(piece, false, |_| count += 1));
        count
    }));
    assert_eq!(unkept, seen.0.len(), "what is kept changes nothing");
    if Heads::default().skip_final(bytes) {
        assert!(bytes.len() < 12 || seen.1, "what is skipped is a final head");
    }
    in_their_places(bytes, &seen.0);
    as_hyper_reads_them(bytes, &seen.0);
    let end = same(cuts(bytes, *at).map(|pieces| {
        pieces.into_iter().fold(0, |matched, piece| if matched < 4 { end_of_head(matched, piece) } else { matched })
    }));
    assert_eq!(end == 4, bytes.windows(4).any(|four| four == b"\r\n\r\n"), "the end of a request's head");
}

/// Interim heads follow each other, with nothing between them but empty lines.
fn in_their_places(bytes: &[u8], seen: &[Seen]) {
    let mut rest = bytes;
    for seen in seen {
        let Seen::Interim { status, head } = seen else { continue };
        while let [b'\r' | b'\n', after @ ..] = rest {
            rest = after;
        }
        assert!(rest.starts_with(head) && (100..200).contains(status), "{seen:?}");
        assert_eq!(head[9..12], *status.to_string().as_bytes());
        rest = &rest[head.len()..];
        fields_of_head(head);
    }
}

/// Where httparse reads a whole head it ends there, and its status is the same.
fn as_hyper_reads_them(bytes: &[u8], seen: &[Seen]) {
    let mut rest = bytes;
    let mut interims = seen.iter().filter(|seen| matches!(seen, Seen::Interim { .. }));
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = response.parse(rest) else { return };
        let status = response.code.expect("a whole head has one");
        if !(100..200).contains(&status) || status == 101 {
            assert!(interims.next().is_none(), "behind a final head there is none");
            assert!(seen.contains(&Seen::Final), "{status} is final");
            return;
        }
        let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let head = rest[blank..length].to_vec();
        assert_eq!(interims.next(), Some(&Seen::Interim { status, head }));
        rest = &rest[length..];
    }
}

/// The status of a header block is that which an HPACK decoder finds in its first field.
pub(crate) fn blocks(data: &[u8]) {
    fields_of_block(data);
    let mut decoder = loona_hpack::Decoder::new();
    decoder.set_max_allowed_table_size(0);
    decoder.set_max_table_size(0);
    let mut first = None;
    let read = decoder.decode_with_cb(data, |name, value| {
        first.get_or_insert_with(|| (name.into_owned(), value.into_owned()));
    });
    if let (Some(status), Ok(()), Some((name, value))) = (status_of_block(data), read, first) {
        assert_eq!(name, b":status");
        assert_eq!(value, status.to_string().as_bytes(), "{status}");
    }
}
