//! What one exchange is given: what it is held to, and the fields that it reports.

use std::time::Duration;

use http::{HeaderMap, Method, Uri};

use crate::{connection::Protocol, facts::Wanted};

/// What one exchange is held to.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Terms {
    /// The body waits for `100 Continue`, at most for so long.
    pub(crate) expect: Option<Duration>,
    /// Interim responses that are taken.
    pub(crate) max_informational: u16,
    /// Bytes of a head or of trailers that are taken.
    pub(crate) max_head_bytes: usize,
    /// Fields of a head or of trailers that are taken.
    pub(crate) max_headers: usize,
    /// CONNECT: the stream stays open behind a head without a body.
    pub(crate) is_connect: bool,
    /// From the request's last byte to the head of its response.
    pub(crate) response_header: Option<Duration>,
    /// Between two pieces of the body, while its reader waits.
    pub(crate) body_idle: Option<Duration>,
    /// What is gathered beside the marks, if anybody listens.
    pub(crate) facts: Wanted,
}

/// What `wrote_header_field` reports: kept only where somebody asks for it.
pub(crate) struct Fields {
    pub(crate) protocol: Protocol,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Fields {
    pub(super) fn each(&self, mut tell: impl FnMut(&str, &[u8])) {
        if self.protocol == Protocol::Http2 {
            tell(":method", self.method.as_str().as_bytes());
            tell(":scheme", self.uri.scheme_str().unwrap_or_default().as_bytes());
            tell(":authority", self.uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
            tell(":path", self.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
        }
        for (name, value) in &self.headers {
            tell(name.as_str(), value.as_bytes());
        }
    }
}
