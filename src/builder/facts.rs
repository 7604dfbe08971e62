//! Facts beside the marks: each is off unless it is asked for, since it costs something on every request.

use super::ClientBuilder;

/// Facts that cost something: see [`facts`](crate::facts). All are off by default.
impl ClientBuilder {
    /// Whether the kernel is asked for its view of the connection (`TCP_INFO`) when a request gets one and when its response
    /// is over: round-trip time, retransmissions, congestion window, delivery rate, bytes that wait:
    /// [`Facts::tcp`](crate::facts::Facts::tcp). Linux since 4.19; absent elsewhere, and through a
    /// [`connector`](Self::connector). Default: off, since it is two system calls per request.
    #[cfg(feature = "tcp-info")]
    pub fn tcp_info(mut self, tcp_info: bool) -> Self {
        self.exchange.facts.tcp = tcp_info;
        self
    }

    /// Whether the response's `Server-Timing` fields (W3C Server Timing, in the header and in trailers) are joined to the
    /// record: names and durations, at most 32: [`Facts::server_timing`](crate::facts::Facts::server_timing). They tell the
    /// server's time from the network's: [`Timeline::network_time`](crate::Timeline::network_time). Default: off, since what a
    /// stranger says of itself would be in your telemetry.
    pub fn server_timing(mut self, server_timing: bool) -> Self {
        self.exchange.facts.server_timing = server_timing;
        self
    }

    /// Whether the descriptions (`desc`) are kept too, where `Server-Timing` is recorded. They are free text of the server's,
    /// are in the record and in no span. Default: off.
    pub fn server_timing_descriptions(mut self, descriptions: bool) -> Self {
        self.exchange.facts.descriptions = descriptions;
        self
    }

    /// Whether polls are timed: how long the application left a body that was here
    /// ([`Facts::reading`](crate::facts::Facts::reading)), and how long the runtime left what was ready
    /// ([`Facts::runtime_delay`](crate::facts::Facts::runtime_delay)). Default: off, since it reads the clock at every wake of
    /// a connection and at every poll of a body.
    pub fn poll_times(mut self, poll_times: bool) -> Self {
        self.exchange.facts.poll_times = poll_times;
        self
    }
}
