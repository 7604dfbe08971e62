//! Reads HTTP/2 frames (RFC 9113 §4.1) as they pass, in one direction. Pure: bytes in, facts out.
//!
//! Only the 9-byte headers are read, and the first bytes of the few payloads of fixed shape. What is not understood is
//! skipped by its length, so the scanner stays in step with any sequence of frames.

/// A frame, told when its last byte has passed; HEADERS and DATA of a response also when their header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fact {
    /// A HEADERS frame begins.
    HeadersBegin { stream: u32 },
    /// The last byte of a header block (HEADERS or CONTINUATION with END_HEADERS).
    HeadersEnd { stream: u32 },
    /// A DATA frame begins.
    DataBegin { stream: u32 },
    /// The last byte of the frame that ends the stream in this direction.
    StreamEnd { stream: u32 },
    /// RST_STREAM.
    Reset { stream: u32 },
    /// GOAWAY, with the last stream that the peer handled.
    GoAway { last_stream: u32 },
}

/// The scanner of one direction.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes of the client's preface that are still to come.
    preface: usize,
    header: [u8; HEADER + PAYLOAD],
    /// How much of `header` is filled.
    filled: usize,
    /// Payload bytes still to come of the frame that is under way.
    left: usize,
    /// A header block without END_HEADERS whose frame ended the stream.
    ends_after_block: bool,
}

const HEADER: usize = 9;
/// As much of a payload as is kept: GOAWAY's last stream and code.
const PAYLOAD: usize = 8;
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Frames {
    /// What the client sends: its preface comes first (RFC 9113 §3.4).
    pub(super) fn outbound() -> Self {
        Self { preface: PREFACE, ..Self::inbound() }
    }

    pub(super) fn inbound() -> Self {
        Self { preface: 0, header: [0; HEADER + PAYLOAD], filled: 0, left: 0, ends_after_block: false }
    }

    /// Takes what has passed, and tells what it completed.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Fact)) {
        while !bytes.is_empty() {
            if self.preface > 0 {
                let skipped = self.preface.min(bytes.len());
                self.preface -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            if self.filled < HEADER {
                let taken = (HEADER - self.filled).min(bytes.len());
                self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled == HEADER {
                    let [a, b, c, ..] = self.header;
                    self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                    self.begin(&mut tell);
                    if self.left == 0 {
                        self.end(&mut tell);
                    }
                }
                continue;
            }
            let taken = self.left.min(bytes.len());
            let kept = taken.min(HEADER + PAYLOAD - self.filled);
            self.header[self.filled..self.filled + kept].copy_from_slice(&bytes[..kept]);
            self.filled += kept;
            self.left -= taken;
            bytes = &bytes[taken..];
            if self.left == 0 {
                self.end(&mut tell);
            }
        }
    }

    fn stream(&self) -> u32 {
        self.word(5)
    }

    fn word(&self, at: usize) -> u32 {
        let [a, b, c, d] = [self.header[at], self.header[at + 1], self.header[at + 2], self.header[at + 3]];
        // The first bit is reserved.
        u32::from_be_bytes([a & 0x7f, b, c, d])
    }

    fn begin(&self, tell: &mut impl FnMut(Fact)) {
        match self.header[3] {
            HEADERS => tell(Fact::HeadersBegin { stream: self.stream() }),
            DATA => tell(Fact::DataBegin { stream: self.stream() }),
            _ => {}
        }
    }

    fn end(&mut self, tell: &mut impl FnMut(Fact)) {
        let (kind, flags, stream) = (self.header[3], self.header[4], self.stream());
        let payload = self.filled - HEADER;
        match kind {
            DATA if flags & END_STREAM != 0 => tell(Fact::StreamEnd { stream }),
            HEADERS | CONTINUATION => {
                let ends = self.ends_after_block || kind == HEADERS && flags & END_STREAM != 0;
                self.ends_after_block = ends && flags & END_HEADERS == 0;
                if flags & END_HEADERS != 0 {
                    tell(Fact::HeadersEnd { stream });
                    if ends {
                        tell(Fact::StreamEnd { stream });
                    }
                }
            }
            RST_STREAM => tell(Fact::Reset { stream }),
            GOAWAY if payload >= 4 => tell(Fact::GoAway { last_stream: self.word(HEADER) }),
            _ => {}
        }
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    fn told(frames: &mut Frames, pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for piece in pieces {
            frames.pass(&piece, |fact| facts.push(fact));
        }
        facts
    }

    fn a_conversation() -> (Vec<u8>, Vec<Fact>) {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[0; 12]));
        bytes.extend(frame(HEADERS, END_STREAM, 1, &[7; 30]));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[7; 3]));
        bytes.extend(frame(HEADERS, END_HEADERS, 3, &[]));
        bytes.extend(frame(DATA, 0, 3, &[1; 100]));
        bytes.extend(frame(DATA, END_STREAM, 3, &[]));
        bytes.extend(frame(RST_STREAM, 0, 5, &[0, 0, 0, 8]));
        bytes.extend(frame(GOAWAY, 0, 0, &[0x80, 0, 0, 3, 0, 0, 0, 0, b'x']));
        let facts = vec![
            Fact::HeadersBegin { stream: 1 },
            Fact::HeadersEnd { stream: 1 },
            Fact::StreamEnd { stream: 1 },
            Fact::HeadersBegin { stream: 3 },
            Fact::HeadersEnd { stream: 3 },
            Fact::DataBegin { stream: 3 },
            Fact::DataBegin { stream: 3 },
            Fact::StreamEnd { stream: 3 },
            Fact::Reset { stream: 5 },
            Fact::GoAway { last_stream: 3 },
        ];
        (bytes, facts)
    }

    proptest! {
        #[test]
        fn the_facts_do_not_depend_on_how_the_bytes_were_cut(cuts in proptest::collection::vec(1_usize..40, 1..80)) {
            let (bytes, facts) = a_conversation();
            let mut rest = bytes.as_slice();
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece.to_vec());
                rest = after;
            }
            prop_assert_eq!(told(&mut Frames::outbound(), pieces), facts);
        }

        #[test]
        fn no_bytes_break_the_scanner(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            told(&mut Frames::inbound(), [bytes]);
        }
    }
}
