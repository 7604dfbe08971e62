//! Finds the heads of a response in its bytes: interim ones (RFC 9110 §15.2), of which hyper says too little or nothing, and
//! where the final one begins. Pure: bytes in, what was seen out.
//!
//! HTTP/1 heads are text and end with an empty line. An HTTP/2 head is a block of HPACK (RFC 7541); since a table of size 0
//! is announced, a block can be read without those before it, and its first field is `:status`.

use http::{HeaderMap, HeaderName, HeaderValue};

/// What was seen of an HTTP/1 response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The first byte of a head.
    Begin,
    /// The last byte of an interim head, which is here if it was to be kept.
    Interim { status: u16, head: Vec<u8> },
    /// A head that is no interim one.
    Final,
}

/// The scanner of one HTTP/1 response.
#[derive(Default)]
pub(super) struct Heads {
    state: State,
    /// The first bytes of the head: up to its status.
    start: [u8; START],
    filled: usize,
    head: Vec<u8>,
    /// Bytes on the line that is under way.
    line: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Start,
    Interim(u16),
    Final,
}

/// As long as `HTTP/1.1 103`.
const START: usize = 12;
const STATUS_AT: usize = 9;

impl Heads {
    /// Whether only a body can follow.
    pub(super) fn is_final(&self) -> bool {
        self.state == State::Final
    }

    /// Whether these first bytes show by themselves that the response has no interim head; if so, they are taken.
    pub(super) fn skip_final(&mut self, bytes: &[u8]) -> bool {
        let plain = self.state == State::Start
            && self.filled == 0
            && bytes.starts_with(b"HTTP/1.1 ")
            && matches!(bytes.get(STATUS_AT), Some(b'2'..=b'5'));
        if plain {
            self.state = State::Final;
        }
        plain
    }

    /// Takes what has passed. `keep`: whether interim heads are wanted, and not just their status.
    pub(super) fn pass(&mut self, bytes: &[u8], keep: bool, mut tell: impl FnMut(Seen)) {
        for byte in bytes {
            match self.state {
                State::Final => return,
                // Empty lines before a head are skipped, as hyper does.
                State::Start if self.filled == 0 && matches!(byte, b'\r' | b'\n') => {}
                State::Start => {
                    if self.filled == 0 {
                        tell(Seen::Begin);
                    }
                    self.start[self.filled] = *byte;
                    self.filled += 1;
                    if self.filled == START {
                        self.state = state_of(&self.start);
                        self.line = START;
                        self.head.clear();
                        if keep {
                            self.head.extend_from_slice(&self.start);
                        }
                        if self.state == State::Final {
                            tell(Seen::Final);
                        }
                    }
                }
                State::Interim(status) => {
                    if keep {
                        self.head.push(*byte);
                    }
                    match byte {
                        b'\n' if self.line == 0 => {
                            (self.state, self.filled) = (State::Start, 0);
                            tell(Seen::Interim { status, head: std::mem::take(&mut self.head) });
                        }
                        b'\n' => self.line = 0,
                        b'\r' => {}
                        _ => self.line += 1,
                    }
                }
            }
        }
    }
}

/// What a head is by its first line; what is malformed is hyper's affair.
fn state_of(start: &[u8; START]) -> State {
    match &start[STATUS_AT..] {
        [b'1', tens @ b'0'..=b'9', ones @ b'0'..=b'9'] if start.starts_with(b"HTTP/1.") => {
            match 100 + u16::from(tens - b'0') * 10 + u16::from(ones - b'0') {
                // The last head of HTTP/1.1 on this connection (RFC 9110 §15.2.2).
                101 => State::Final,
                status => State::Interim(status),
            }
        }
        _ => State::Final,
    }
}

/// The fields of an interim HTTP/1 head; empty if it is malformed.
pub(super) fn fields_of_head(head: &[u8]) -> HeaderMap {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(_) => map(response.headers.iter().map(|field| (field.name.as_bytes(), field.value))),
        Err(_) => HeaderMap::new(),
    }
}

/// The fields of an interim HTTP/2 head; empty if it can't be read.
pub(super) fn fields_of_block(block: &[u8]) -> HeaderMap {
    let mut decoder = loona_hpack::Decoder::new();
    decoder.set_max_allowed_table_size(0);
    decoder.set_max_table_size(0);
    match decoder.decode(block) {
        Ok(fields) => map(fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))),
        Err(_) => HeaderMap::new(),
    }
}

fn map<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        // Pseudo-header fields are no field names.
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// The status that an HTTP/2 header block begins with; `None` for trailers, and for what can't be read by itself.
pub(super) fn status_of_block(mut block: &[u8]) -> Option<u16> {
    // Changes of the table's size come first (RFC 7541 §6.3): a number with a prefix of 5 bits.
    while let [first, rest @ ..] = block
        && first & 0xe0 == 0x20
    {
        let more = if first & 0x1f == 0x1f { rest.iter().position(|byte| byte & 0x80 == 0)? + 1 } else { 0 };
        block = rest.get(more..)?;
    }
    let (first, rest) = block.split_first()?;
    match first {
        // The static table (RFC 7541, appendix A) has seven of them whole …
        0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500].get(usize::from(first - 0x88)).copied(),
        // … and the name for all others, in a field that goes into the table, does not, or never may.
        0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e => {
            let (length, rest) = rest.split_first()?;
            let value = rest.get(..usize::from(length & 0x7f))?;
            match length & 0x80 {
                0 => number(value.iter().copied()),
                // Three digits have 18 bits at most.
                _ if value.len() <= 3 => number(huffman_digits(value)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Three digits, from 100 on: what is none is hyper's affair.
fn number(digits: impl Iterator<Item = u8>) -> Option<u16> {
    let mut count = 0;
    let mut status = 0;
    for digit in digits {
        count += 1;
        status = status * 10 + u16::from(digit.checked_sub(b'0').filter(|digit| *digit < 10 && count <= 3)?);
    }
    (count == 3 && status >= 100).then_some(status)
}

/// The digits in a Huffman string (RFC 7541, appendix B): `0`, `1` and `2` have five bits, the others six. Ends with the
/// padding, which is all ones and less than a byte (§5.2); what is neither is no digit.
fn huffman_digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let bits: u64 = bytes.iter().take(3).fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    let mut left = bytes.len().min(3) * 8;
    let peek =
        move |left: usize, count: usize| if left < count { 0x3f } else { bits >> (left - count) & ((1 << count) - 1) };
    std::iter::from_fn(move || {
        let (length, digit) = match (peek(left, 5), peek(left, 6)) {
            (digit @ 0..=2, _) => (5, digit),
            (_, code @ 0x19..=0x1f) => (6, code - 0x19 + 3),
            _ => {
                let padding = (1 << left) - 1;
                return (left >= 8 || bits & padding != padding).then_some(b'?');
            }
        };
        left -= length;
        u8::try_from(digit).ok().map(|digit| b'0' + digit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_skipped_is_what_would_have_been_final() {
        for status in 100..1000 {
            let head = format!("HTTP/1.1 {status} x\r\n\r\n");
            if Heads::default().skip_final(head.as_bytes()) {
                assert_eq!(seen(&[head.as_bytes()]), [Seen::Begin, Seen::Final], "{status}");
            }
        }
        let mut heads = Heads::default();
        assert!(!heads.skip_final(b"HTTP/1.1 103 x") && !heads.skip_final(b"HTTP/1.1"));
        assert!(heads.skip_final(b"HTTP/1.1 200") && !heads.skip_final(b"HTTP/1.1 200"), "a body can't be a head");
    }

    fn seen(pieces: &[&[u8]]) -> Vec<Seen> {
        let mut heads = Heads::default();
        let mut all = Vec::new();
        for piece in pieces {
            heads.pass(piece, true, |seen| all.push(seen));
        }
        all
    }

    #[test]
    fn interim_heads_are_found_however_they_are_cut() {
        let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n".as_slice();
        let bytes =
            [b"\r\nHTTP/1.1 100 Continue\r\n\r\n", hints, b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 100 no head\r\n\r\n"]
                .concat();
        let interim = |status, head: &[u8]| Seen::Interim { status, head: head.to_vec() };
        let expected = [
            Seen::Begin,
            interim(100, b"HTTP/1.1 100 Continue\r\n\r\n"),
            Seen::Begin,
            interim(103, hints),
            Seen::Begin,
            Seen::Final,
        ];
        for cut in 0..bytes.len() {
            assert_eq!(seen(&[&bytes[..cut], &bytes[cut..]]), expected, "cut at {cut}");
        }
        let links: Vec<_> = fields_of_head(hints).get_all("link").iter().cloned().collect();
        assert_eq!(links, ["</a>", "</b>"]);
    }

    #[test]
    fn bare_line_feeds_end_an_interim_head_as_they_do_for_hyper() {
        let all = seen(&[b"HTTP/1.1 102 x\na: b\n\nHTTP/1.1 204 x\n\n"]);
        assert!(matches!(all[1], Seen::Interim { status: 102, .. }), "{all:?}");
        assert_eq!(all[3], Seen::Final);
    }

    #[test]
    fn a_switch_of_protocols_is_a_final_head() {
        assert_eq!(seen(&[b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]), [Seen::Begin, Seen::Final]);
    }

    #[test]
    fn every_status_is_read_from_every_form_of_its_field() {
        let mut encoder = loona_hpack::Encoder::new();
        for status in 100_u16..600 {
            let text = status.to_string();
            let block = encoder.encode([(&b":status"[..], text.as_bytes()), (&b"a"[..], &b"b"[..])]);
            if block[0] < 0xbe {
                assert_eq!(status_of_block(&block), Some(status), "{block:x?}");
            }
            for first in [0x48, 0x08, 0x18, 0x0e] {
                let raw = [&[first, 3][..], text.as_bytes()].concat();
                assert_eq!(status_of_block(&raw), Some(status));
                let huffman = huffman(&text);
                let coded = [
                    &[0x20, 0x3f, 0xe1, 0x1f, first, 0x80 | u8::try_from(huffman.len()).expect("short")],
                    &huffman[..],
                ];
                assert_eq!(status_of_block(&coded.concat()), Some(status));
            }
        }
        for unreadable in
            [&b""[..], &[0xbe], &[0x40, 1, b'a', 1, b'b'], &[0x08, 2, b'2', b'0'], b"\x08\x03051", &[0x3f, 0xff]]
        {
            assert_eq!(status_of_block(unreadable), None, "{unreadable:x?}");
        }
    }

    fn huffman(digits: &str) -> Vec<u8> {
        let mut bits = String::new();
        for digit in digits.bytes() {
            match digit - b'0' {
                digit @ 0..=2 => bits += &format!("{digit:05b}"),
                digit => bits += &format!("{:06b}", 0x19 + digit - 3),
            }
        }
        bits += &"1".repeat(bits.len().next_multiple_of(8) - bits.len());
        bits.as_bytes()
            .chunks(8)
            .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).expect("digits"), 2).expect("eight bits"))
            .collect()
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_readers(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Heads::default().pass(&bytes, true, |_| {});
            let _ = (status_of_block(&bytes), fields_of_head(&bytes), fields_of_block(&bytes));
            let mut block = vec![0x08, 3, b'1', b'0', b'3'];
            block.extend_from_slice(&bytes);
            prop_assert_eq!(status_of_block(&block), Some(103));
            fields_of_block(&block);
        }
    }
}
