//! Over which protocol the requests go, and in which manner.

use crate::BoxError;

/// How many requests are under way at once in [`Load::Concurrent`].
pub(crate) const CONCURRENCY: usize = 64;
/// The body of [`Load::Big`].
pub(crate) const BIG: usize = 1 << 20;
/// Every other body.
pub(crate) const SMALL: &[u8] = b"hello";

/// What carries the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 over TCP.
    Http1,
    /// HTTP/1.1 over TLS 1.3.
    Http1Tls,
    /// HTTP/2 over TCP, by prior knowledge.
    Http2,
}

/// How they follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// One after the other, on a kept connection.
    Sequential,
    /// 64 at once.
    Concurrent,
    /// One after the other, each on a connection of its own (the origin closes it). Not for HTTP/2.
    NewConnection,
    /// One after the other, each with a body of 1 MiB.
    Big,
}

/// What a row has to do.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Over which protocol.
    pub protocol: Protocol,
    /// In which manner.
    pub load: Load,
    /// How many measured requests.
    pub requests: usize,
}

impl Workload {
    /// Reads `PROTOCOL LOAD REQUESTS` as on the command line.
    ///
    /// # Errors
    ///
    /// When one of them is unknown.
    pub fn parse(protocol: &str, load: &str, requests: &str) -> Result<Self, BoxError> {
        let protocol = match protocol {
            "h1" => Protocol::Http1,
            "h1tls" => Protocol::Http1Tls,
            "h2" => Protocol::Http2,
            other => return Err(format!("no protocol is called {other}: h1, h1tls, h2").into()),
        };
        let load = match load {
            "seq" => Load::Sequential,
            "c64" => Load::Concurrent,
            "new" if protocol == Protocol::Http2 => return Err("HTTP/2 has no load of new connections".into()),
            "new" => Load::NewConnection,
            "big" => Load::Big,
            other => return Err(format!("no load is called {other}: seq, c64, new, big").into()),
        };
        Ok(Self { protocol, load, requests: requests.parse()? })
    }

    pub(crate) fn path(self) -> &'static str {
        match self.load {
            Load::Sequential | Load::Concurrent => "/",
            Load::NewConnection => "/close",
            Load::Big => "/big",
        }
    }

    pub(crate) fn body_bytes(self) -> usize {
        if self.load == Load::Big { BIG } else { SMALL.len() }
    }
}
