//! Reads HTTP/2 frames (RFC 9113 §4.1) as they pass, in one direction. Pure: bytes in, facts out.
//!
//! Of most frames only the 9-byte header is read, of some the first bytes of the payload. Of a response's head the first
//! field is read, its status; the whole block is kept only where that is an interim one. What is not understood is skipped
//! by its length, so the scanner stays in step with any sequence of frames.

use super::heads::status_of_block;

/// A frame, told when its last byte has passed; HEADERS and DATA that come in pieces also when their header has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    /// A whole header block of one frame: its `HeadersBegin`, `HeadersEnd` and, if it `ends` the stream, `StreamEnd` at once.
    /// Never an interim one.
    Head { stream: u32, ends: bool, length: usize, status: Option<u16> },
    /// A whole DATA frame: its `DataBegin`, `Data` and, if it `ends` the stream, `StreamEnd` at once.
    Piece { stream: u32, ends: bool, length: u32 },
    /// A HEADERS frame begins. `ends`: it is the last of its stream in this direction, with its CONTINUATIONs. `cut`: its
    /// first byte passed before.
    HeadersBegin { stream: u32, ends: bool, cut: bool },
    /// The last byte of a header block (HEADERS or CONTINUATION with END_HEADERS). Inbound: its length, its status, if it
    /// begins with one, and the block of an interim response.
    HeadersEnd { stream: u32, length: usize, status: Option<u16>, interim: Option<Vec<u8>> },
    /// A DATA frame begins.
    DataBegin { stream: u32 },
    /// A DATA frame has passed. Its whole payload, padding included, counts against the windows (RFC 9113 §6.9.1).
    Data { stream: u32, length: u32 },
    /// The last byte of the frame that ends the stream in this direction.
    StreamEnd { stream: u32 },
    /// RST_STREAM.
    Reset { stream: u32, code: u32 },
    /// One entry of SETTINGS.
    Setting { id: u16, value: u32 },
    /// PING, or its answer.
    Ping { payload: [u8; 8], ack: bool },
    /// GOAWAY, with the last stream that the peer handled.
    GoAway { last_stream: u32, code: u32 },
    /// WINDOW_UPDATE; stream 0 is the connection.
    WindowUpdate { stream: u32, by: u32 },
    /// What comes in begins with a frame that is longer than any may be (RFC 9113 §4.2), as all text would: it is no HTTP/2,
    /// and nothing more is read of it.
    Foreign,
}

impl Fact {
    /// As it would have been told of a frame in pieces.
    #[cfg(any(test, fuzzing))]
    pub(super) fn apart(self) -> Vec<Self> {
        let (facts, stream, ends) = match self {
            Self::Head { stream, ends, length, status } => {
                let begin = Self::HeadersBegin { stream, ends, cut: false };
                (vec![begin, Self::HeadersEnd { stream, length, status, interim: None }], stream, ends)
            }
            Self::Piece { stream, ends, length } => {
                (vec![Self::DataBegin { stream }, Self::Data { stream, length }], stream, ends)
            }
            other => return vec![other],
        };
        facts.into_iter().chain(ends.then_some(Self::StreamEnd { stream })).collect()
    }
}

/// The scanner of one direction.
pub(super) struct Frames {
    /// Bytes that are still to come and are no frames: the client's preface, or all that is no HTTP/2.
    preface: usize,
    /// Nothing is known yet of the first frame that comes in.
    first: bool,
    header: [u8; HEADER],
    /// How much of `header` is filled.
    filled: usize,
    /// The header was begun by bytes that passed before.
    cut: bool,
    length: usize,
    /// Payload bytes still to come of the frame that is under way.
    left: usize,
    /// The first bytes of the payload, as many as its kind is worth.
    payload: Vec<u8>,
    /// A header block without END_HEADERS, and whether the stream ends with it: CONTINUATIONs are to come.
    unfinished: Option<bool>,
    /// The header block that is under way; `None` outbound, where nobody reads it.
    block: Option<Vec<u8>>,
    /// All of its bytes, kept or not.
    block_length: usize,
}

const HEADER: usize = 9;
/// The longest payload, unless more is announced (`SETTINGS_MAX_FRAME_SIZE`), which this client does not do.
const MAX_FRAME: usize = 1 << 14;
const PREFACE: usize = 24;
/// Enough of a block for its status, behind two changes of the table's size.
const STATUS: usize = 24;
/// Most of an interim response's block that is kept: as h2 takes them by default.
const MAX_INTERIM: usize = 16 * 1024;
/// Most of a SETTINGS payload that is read: every setting there is, several times over.
const MAX_SETTINGS: usize = 40 * SETTING;
const SETTING: usize = 6;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// END_STREAM of DATA and HEADERS, ACK of SETTINGS and PING.
const FIRST: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

impl Frames {
    /// What the client sends: its preface comes first (RFC 9113 §3.4).
    pub(super) fn outbound() -> Self {
        Self { preface: PREFACE, first: false, block: None, ..Self::inbound() }
    }

    pub(super) fn inbound() -> Self {
        Self {
            preface: 0,
            first: true,
            header: [0; HEADER],
            filled: 0,
            cut: false,
            length: 0,
            left: 0,
            payload: Vec::new(),
            unfinished: None,
            block: Some(Vec::new()),
            block_length: 0,
        }
    }

    /// Takes what has passed, and tells what it completed.
    pub(super) fn pass(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Fact)) {
        self.cut = self.is_within_header();
        while !bytes.is_empty() {
            if self.preface > 0 {
                let skipped = self.preface.min(bytes.len());
                self.preface -= skipped;
                bytes = &bytes[skipped..];
            } else if self.filled == 0
                && let Some((header, rest)) = bytes.split_first_chunk()
            {
                // Nearly every header is whole, and most frames are.
                (self.header, bytes) = (*header, rest);
                if !self.first
                    && let Some(after) = self.whole(rest, &mut tell)
                {
                    bytes = after;
                    continue;
                }
                self.filled = HEADER;
                self.begin(&mut tell);
            } else if self.filled < HEADER {
                let taken = (HEADER - self.filled).min(bytes.len());
                self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
                self.filled += taken;
                bytes = &bytes[taken..];
                if self.filled == HEADER {
                    self.begin(&mut tell);
                }
            } else {
                let (taken, after) = bytes.split_at(self.left.min(bytes.len()));
                self.keep(taken);
                self.left -= taken.len();
                bytes = after;
            }
            if self.filled == HEADER && self.left == 0 {
                self.end(&mut tell);
                (self.filled, self.cut) = (0, false);
            }
        }
    }

    /// Whether nothing has passed yet, or not even the header of the first frame.
    pub(super) fn is_at_start(&self) -> bool {
        self.first
    }

    /// Bytes that are kept, and room for more.
    #[cfg(any(test, fuzzing))]
    pub(super) fn kept(&self) -> usize {
        self.payload.capacity() + self.block.as_ref().map_or(0, Vec::capacity)
    }

    /// Whether what passed last was the beginning of a frame's header.
    pub(super) fn is_within_header(&self) -> bool {
        (1..HEADER).contains(&self.filled)
    }

    fn kind(&self) -> u8 {
        self.header[3]
    }

    fn has(&self, flag: u8) -> bool {
        self.header[4] & flag != 0
    }

    fn stream(&self) -> u32 {
        number([self.header[5], self.header[6], self.header[7], self.header[8]])
    }

    /// The length of the payload.
    fn announced(&self) -> usize {
        let [a, b, c, ..] = self.header;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    /// Tells a frame of which nothing has to be kept, since all of it is here; returns what comes after it.
    fn whole<'a>(&mut self, rest: &'a [u8], tell: &mut impl FnMut(Fact)) -> Option<&'a [u8]> {
        let (payload, after) = rest.split_at_checked(self.announced())?;
        let (stream, ends) = (self.stream(), self.has(FIRST));
        match self.kind() {
            DATA => tell(Fact::Piece { stream, ends, length: u32::try_from(payload.len()).unwrap_or(u32::MAX) }),
            HEADERS if self.has(END_HEADERS) && !self.has(PADDED | PRIORITY) => {
                let read = self.block.is_some();
                let status = if read { status_of_block(split(payload, STATUS).0) } else { None };
                if is_interim(status) {
                    return None;
                }
                self.unfinished = None;
                tell(Fact::Head { stream, ends, length: if read { payload.len() } else { 0 }, status });
            }
            _ => return None,
        }
        Some(after)
    }

    fn begin(&mut self, tell: &mut impl FnMut(Fact)) {
        self.length = self.announced();
        self.left = self.length;
        self.payload.clear();
        let stream = self.stream();
        if std::mem::take(&mut self.first) && self.length > MAX_FRAME {
            (self.preface, self.filled) = (usize::MAX, 0);
            return tell(Fact::Foreign);
        }
        match self.kind() {
            HEADERS => {
                self.block_length = 0;
                if let Some(block) = &mut self.block {
                    block.clear();
                }
                tell(Fact::HeadersBegin { stream, ends: self.has(FIRST), cut: self.cut });
            }
            DATA => tell(Fact::DataBegin { stream }),
            _ => {}
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let offset = self.length - self.left;
        let worth = match self.kind() {
            RST_STREAM | WINDOW_UPDATE => 4,
            PING | GOAWAY => 8,
            SETTINGS => MAX_SETTINGS,
            // The padding's length.
            HEADERS if self.has(PADDED) => 1,
            HEADERS | CONTINUATION => 0,
            _ => return,
        };
        let room = worth.saturating_sub(self.payload.len()).min(bytes.len());
        self.payload.extend_from_slice(&bytes[..room]);
        if self.is_of_block() {
            self.keep_fragment(bytes, offset);
        }
    }

    /// A CONTINUATION that continues nothing is not (RFC 9113 §6.10: a connection error, which is hyper's affair).
    fn is_of_block(&self) -> bool {
        match self.kind() {
            HEADERS => true,
            CONTINUATION => self.unfinished.is_some(),
            _ => false,
        }
    }

    /// The part of a header block in these bytes of the payload: without padding and priority (RFC 9113 §6.2).
    fn keep_fragment(&mut self, bytes: &[u8], offset: usize) {
        if self.block.is_none() {
            return;
        }
        let first = self.kind() == HEADERS;
        let padded = first && self.has(PADDED);
        let begin = usize::from(padded) + if first && self.has(PRIORITY) { 5 } else { 0 };
        let padding = if padded { self.payload.first().copied().map_or(0, usize::from) } else { 0 };
        let end = self.length.saturating_sub(padding);
        let Some(block) = &mut self.block else { return };
        let fragment = bytes.get(begin.saturating_sub(offset)..end.saturating_sub(offset).min(bytes.len()));
        self.block_length += fragment.map_or(0, <[u8]>::len);
        // First as much as shows the status, then the rest, if that is worth it.
        let (status, rest) = split(fragment.unwrap_or_default(), STATUS.saturating_sub(block.len()));
        block.extend_from_slice(status);
        if is_interim(status_of_block(block)) {
            block.extend_from_slice(split(rest, MAX_INTERIM.saturating_sub(block.len())).0);
        }
    }

    fn end(&mut self, tell: &mut impl FnMut(Fact)) {
        let stream = self.stream();
        let word = |at: usize| self.payload.get(at..at + 4).map(|word| [word[0], word[1], word[2], word[3]]);
        match self.kind() {
            DATA => {
                tell(Fact::Data { stream, length: u32::try_from(self.length).unwrap_or(u32::MAX) });
                if self.has(FIRST) {
                    tell(Fact::StreamEnd { stream });
                }
            }
            HEADERS | CONTINUATION if self.is_of_block() => self.end_of_headers(stream, tell),
            RST_STREAM => tell(Fact::Reset { stream, code: word(0).map_or(0, u32::from_be_bytes) }),
            SETTINGS if !self.has(FIRST) => {
                for entry in self.payload.chunks_exact(SETTING) {
                    let id = u16::from_be_bytes([entry[0], entry[1]]);
                    tell(Fact::Setting { id, value: u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]) });
                }
            }
            PING => {
                if let Ok(payload) = self.payload.as_slice().try_into() {
                    tell(Fact::Ping { payload, ack: self.has(FIRST) });
                }
            }
            // What is not whole, or on a stream, is none (RFC 9113 §6.8): no request is sent again for it.
            GOAWAY if stream == 0 => {
                if let (Some(last), Some(code)) = (word(0), word(4)) {
                    let code = u32::from_be_bytes(code);
                    tell(Fact::GoAway { last_stream: number(last), code });
                }
            }
            WINDOW_UPDATE => {
                if let Some(by) = word(0) {
                    tell(Fact::WindowUpdate { stream, by: number(by) });
                }
            }
            _ => {}
        }
    }

    fn end_of_headers(&mut self, stream: u32, tell: &mut impl FnMut(Fact)) {
        let ends = if self.kind() == HEADERS { self.has(FIRST) } else { self.unfinished == Some(true) };
        self.unfinished = (!self.has(END_HEADERS)).then_some(ends);
        if self.unfinished.is_some() {
            return;
        }
        let status = self.block.as_deref().and_then(status_of_block);
        let interim = self.block.as_ref().filter(|_| is_interim(status)).cloned();
        tell(Fact::HeadersEnd { stream, length: self.block_length, status, interim });
        if ends {
            tell(Fact::StreamEnd { stream });
        }
    }
}

fn is_interim(status: Option<u16>) -> bool {
    status.is_some_and(|status| status < 200)
}

/// As much of it as is wanted, and the rest.
fn split(bytes: &[u8], wanted: usize) -> (&[u8], &[u8]) {
    bytes.split_at(wanted.min(bytes.len()))
}

/// 31 bits: the first one is reserved.
fn number([a, b, c, d]: [u8; 4]) -> u32 {
    u32::from_be_bytes([a & 0x7f, b, c, d])
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

    /// Behind the frame that everything begins with.
    fn begun() -> Frames {
        let mut frames = Frames::inbound();
        assert_eq!(told(&mut frames, [frame(SETTINGS, FIRST, 0, &[])]), []);
        frames
    }

    fn told(frames: &mut Frames, pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for piece in pieces {
            frames.pass(&piece, |fact| facts.extend(fact.apart()));
        }
        facts
    }

    const EARLY_HINTS: &[u8] = b"\x08\x03103\x00\x04link\x03</>";

    fn a_conversation() -> (Vec<u8>, Vec<Fact>) {
        let mut bytes = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100, 0, 4, 0, 1, 0, 0]);
        bytes.extend(frame(SETTINGS, FIRST, 0, &[]));
        // Padded, with a priority, and cut in two frames.
        let mut padded = vec![2, 0, 0, 0, 0, 16];
        padded.extend_from_slice(&EARLY_HINTS[..4]);
        padded.extend_from_slice(&[0, 0]);
        bytes.extend(frame(HEADERS, PADDED | PRIORITY, 1, &padded));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &EARLY_HINTS[4..]));
        bytes.extend(frame(HEADERS, FIRST, 1, &[0x88]));
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[7; 3]));
        bytes.extend(frame(HEADERS, END_HEADERS, 3, &[]));
        bytes.extend(frame(DATA, 0, 3, &[1; 100]));
        bytes.extend(frame(DATA, FIRST, 3, &[]));
        bytes.extend(frame(RST_STREAM, 0, 5, &[0, 0, 0, 8]));
        bytes.extend(frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 1, 0]));
        bytes.extend(frame(PING, FIRST, 0, b"pingpong"));
        bytes.extend(frame(GOAWAY, 0, 0, &[0x80, 0, 0, 3, 0, 0, 0, 11, b'x']));
        let facts = vec![
            Fact::Setting { id: 3, value: 100 },
            Fact::Setting { id: 4, value: 65_536 },
            Fact::HeadersBegin { stream: 1, ends: false, cut: false },
            Fact::HeadersEnd {
                stream: 1,
                length: EARLY_HINTS.len(),
                status: Some(103),
                interim: Some(EARLY_HINTS.to_vec()),
            },
            Fact::HeadersBegin { stream: 1, ends: true, cut: false },
            Fact::HeadersEnd { stream: 1, length: 4, status: Some(200), interim: None },
            Fact::StreamEnd { stream: 1 },
            Fact::HeadersBegin { stream: 3, ends: false, cut: false },
            Fact::HeadersEnd { stream: 3, length: 0, status: None, interim: None },
            Fact::DataBegin { stream: 3 },
            Fact::Data { stream: 3, length: 100 },
            Fact::DataBegin { stream: 3 },
            Fact::Data { stream: 3, length: 0 },
            Fact::StreamEnd { stream: 3 },
            Fact::Reset { stream: 5, code: 8 },
            Fact::WindowUpdate { stream: 0, by: 256 },
            Fact::Ping { payload: *b"pingpong", ack: true },
            Fact::GoAway { last_stream: 3, code: 11 },
        ];
        (bytes, facts)
    }

    #[test]
    fn the_preface_of_a_client_is_no_frame_and_its_blocks_are_not_read() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(HEADERS, FIRST | END_HEADERS, 1, &[0x88]));
        let facts = told(&mut Frames::outbound(), [bytes]);
        let end = Fact::HeadersEnd { stream: 1, length: 0, status: None, interim: None };
        assert_eq!(
            facts,
            [Fact::HeadersBegin { stream: 1, ends: true, cut: false }, end, Fact::StreamEnd { stream: 1 }]
        );
    }

    #[test]
    fn a_frame_whose_header_is_cut_says_that_it_began_before() {
        let bytes = frame(HEADERS, FIRST | END_HEADERS, 1, &[0x88]);
        for at in 0..=HEADER {
            let mut frames = begun();
            let mut facts = told(&mut frames, [bytes[..at].to_vec()]);
            assert_eq!(frames.is_within_header(), (1..HEADER).contains(&at));
            facts.extend(told(&mut frames, [bytes[at..].to_vec()]));
            let cut = (1..HEADER).contains(&at);
            assert_eq!(facts[0], Fact::HeadersBegin { stream: 1, ends: true, cut }, "cut at {at}");
        }
    }

    #[test]
    fn a_whole_frame_is_one_fact() {
        let mut bytes = frame(HEADERS, END_HEADERS, 1, &[0x88, 0x40]);
        bytes.extend(frame(DATA, FIRST, 1, b"hello"));
        let mut facts = Vec::new();
        begun().pass(&bytes, |fact| facts.push(fact));
        let head = Fact::Head { stream: 1, ends: false, length: 2, status: Some(200) };
        assert_eq!(facts, [head, Fact::Piece { stream: 1, ends: true, length: 5 }]);
    }

    #[test]
    fn what_begins_with_text_is_no_http2_and_is_not_read() {
        for bytes in [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), b"SSH-2.0-x\r\n", b"\x15\x03\x01\0\x02\x02\x0a\0\0"] {
            let bytes = [bytes, &frame(GOAWAY, 0, 0, &[0; 8])].concat();
            for pieces in [vec![bytes.clone()], bytes.iter().map(|byte| vec![*byte]).collect()] {
                assert_eq!(told(&mut Frames::inbound(), pieces), [Fact::Foreign]);
            }
            assert_eq!(told(&mut Frames::inbound(), [bytes[..HEADER - 1].to_vec()]), [], "not yet");
            // Later it is a mistake as any other: a server that speaks HTTP/2 made it.
            assert!(!told(&mut begun(), [bytes]).contains(&Fact::Foreign));
        }
    }

    #[test]
    fn a_continuation_of_nothing_is_no_head() {
        let whole = frame(HEADERS, END_HEADERS, 1, &[0x88]);
        let mut padded = frame(HEADERS, END_HEADERS | PADDED, 1, &[0, 0x88]);
        let stray = frame(CONTINUATION, END_HEADERS, 1, &[0x89]);
        let (mut bytes, mut other) = (whole, stray.clone());
        bytes.extend_from_slice(&stray);
        padded.extend_from_slice(&stray);
        other.extend_from_slice(&bytes);
        let begin = Fact::HeadersBegin { stream: 1, ends: false, cut: false };
        let facts = [begin, Fact::HeadersEnd { stream: 1, length: 1, status: Some(200), interim: None }];
        for bytes in [bytes, padded, other] {
            assert_eq!(told(&mut begun(), [bytes]), facts);
        }
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
            let mut told = told(&mut Frames::inbound(), pieces);
            for fact in &mut told {
                if let Fact::HeadersBegin { cut, .. } = fact {
                    *cut = false;
                }
            }
            prop_assert_eq!(told, facts);
        }

        #[test]
        fn no_bytes_break_the_scanner(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            told(&mut Frames::inbound(), [bytes.clone()]);
            // Whole frames of every kind, with any payload.
            let kind = bytes.first().copied().unwrap_or_default() % 12;
            let flags = bytes.get(1).copied().unwrap_or_default();
            told(&mut Frames::inbound(), [frame(kind, flags, 1, bytes.get(2..).unwrap_or_default())]);
        }
    }
}
