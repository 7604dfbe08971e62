//! What the two processes say to each other: an order in one line, and the stamps of it in another.

use std::{collections::BTreeMap, fmt, str::FromStr};

use crate::wire::Nanos;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http1Tls,
    Http2Tls,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http1Tls, Self::Http2Tls];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "h1",
            Self::Http1Tls => "h1+tls",
            Self::Http2Tls => "h2+tls",
        }
    }
}

/// One request, and how the origin treats it. Every delay is 20 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A new connection. Delays: before the last byte of the server's handshake, before the response, behind its first
    /// byte, before its last byte.
    Get,
    /// The same connection again. Delay: before the last byte of the response.
    Again,
    /// A body that does not fit into the socket. Delays: between head and body, behind the request, between an interim
    /// response and the final one, before the trailers.
    Upload,
    /// A head that does not fit into the socket. Delays: before anything is read, inside the response's head, which is
    /// all of it.
    BigHead,
    /// The first SYN is dropped.
    SynDropped,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Get, Self::Again, Self::Upload, Self::BigHead, Self::SynDropped];
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) protocol: Protocol,
    pub(crate) kind: Kind,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.protocol, self.kind)
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let known = |order: &Self| order.to_string() == line;
        let all = Protocol::ALL.into_iter().flat_map(|protocol| Kind::ALL.map(|kind| Self { protocol, kind }));
        all.into_iter().find(known).ok_or_else(|| format!("no order: {line}"))
    }
}

/// Moments and counts of one request, by name.
#[derive(Debug, Default)]
pub(crate) struct Stamps(BTreeMap<String, u64>);

impl Stamps {
    pub(crate) fn set(&mut self, name: &str, value: Nanos) {
        self.0.insert(name.to_owned(), value);
    }

    pub(crate) fn find(&self, name: &str) -> Option<Nanos> {
        self.0.get(name).copied()
    }

    pub(crate) fn get(&self, name: &str) -> Nanos {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {self}"))
    }
}

impl fmt::Display for Stamps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write!(f, "{name}={value} "))
    }
}

impl FromStr for Stamps {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let pair = |word: &str| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let stamps: Option<_> = line.split_whitespace().map(pair).collect();
        stamps.map(Self).ok_or_else(|| format!("no stamps: {line}"))
    }
}
