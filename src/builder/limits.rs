//! Options for limits: of time, and of what a server may send.
//!
//! In: durations, sizes and counts. Out: the settings that [`super`] gives to dialer and exchange.

use std::time::Duration;

use super::ClientBuilder;

/// Time.
impl ClientBuilder {
    /// The most that one dial may take: lookup, connects and handshake. Default 30 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.dial.connect_timeout = timeout;
        self
    }

    /// The most that one TLS handshake may take. Default 10 s.
    pub fn tls_handshake_timeout(mut self, timeout: Duration) -> Self {
        self.dial.tls_timeout = timeout;
        self
    }

    /// How long a request body waits for `100 Continue` where the request has `Expect: 100-continue`, before it is sent
    /// anyway (RFC 9110 §10.1.1). From the moment when the socket took the head. Default 1 s, as Go and curl.
    pub fn expect_continue_timeout(mut self, timeout: Duration) -> Self {
        self.exchange.expect_continue_timeout = timeout;
        self
    }

    /// The most that a response's head may take, from the moment when the socket took the last byte of the request, body
    /// included. Interim responses do not begin it anew; a head that comes before the request is written is in time. Then
    /// the request fails with `timeout` in `response-wait`, or in `response-read` if the head had begun. Each attempt has
    /// its own. Default: none, since a long answer in the making looks the same as a dead server.
    pub fn response_header_timeout(mut self, timeout: Duration) -> Self {
        self.exchange.response_header_timeout = Some(timeout);
        self
    }

    /// The most that a body's reader may wait for its next piece, the first one included. Then the body fails with
    /// `timeout` in `response-read`. It counts only while somebody waits: who reads slowly has no timeout of his own
    /// making. Default: none, since a stream of events may be silent for hours.
    pub fn body_idle_timeout(mut self, timeout: Duration) -> Self {
        self.exchange.body_idle_timeout = Some(timeout);
        self
    }

    /// The most that a request may take, from the call to the last byte of the response, retries included. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.exchange.timeout = Some(timeout);
        self
    }
}

/// Sizes and counts.
impl ClientBuilder {
    /// The most bytes of a response's head, and of its trailers; more is `head_too_large`. Default 256 KiB: twice the
    /// largest seen in the wild.
    pub fn max_head_bytes(mut self, max: usize) -> Self {
        self.exchange.max_head_bytes = max;
        self
    }

    /// The most interim responses (1xx) to one request; more is `too_many_informational`, whether or not a hook listens.
    /// Default 50: real servers send one or two, and each costs work before any answer.
    pub fn max_informational(mut self, max: u16) -> Self {
        self.exchange.max_informational = max;
        self
    }

    /// The most header fields of a response. Default 100; more costs an allocation of 16 KiB per HTTP/1 response.
    pub fn max_headers(mut self, max: usize) -> Self {
        self.exchange.max_headers = max;
        self
    }
}
