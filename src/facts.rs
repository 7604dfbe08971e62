//! Facts of an exchange beside its marks: what the kernel knows of the connection, what the server says of its own time, and
//! who kept whom waiting.
//!
//! A leaf: plain data. Each is gathered only where its option of the [`ClientBuilder`](crate::ClientBuilder) is on and
//! somebody listens; all of one attempt are in one allocation, [`Timeline::facts`](crate::Timeline::facts).

mod keep_alive;
mod server_timing;
mod tcp;

use std::time::Duration;

pub(crate) use self::{keep_alive::announced, tcp::STEP};
pub use self::{
    keep_alive::{KeepAlive, KeepAliveSource},
    server_timing::{ServerMetric, ServerTiming},
    tcp::{TcpInfo, TcpUse},
};

/// What was gathered of one attempt beside its marks. Absent is absent: an option that is off, a system that does not know.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Facts {
    /// What the kernel knew of the connection, before and after
    /// ([`tcp_info`](crate::ClientBuilder::tcp_info)).
    pub tcp: Option<TcpUse>,
    /// What the server said of its own time ([`server_timing`](crate::ClientBuilder::server_timing)).
    pub server_timing: Option<ServerTiming>,
    /// Who was waited for while the body was read ([`poll_times`](crate::ClientBuilder::poll_times)); absent without a body.
    pub reading: Option<Reading>,
    /// How long the response lay ready while nobody ran who could take it
    /// ([`poll_times`](crate::ClientBuilder::poll_times)). The sum of two kinds of delay, each of which is near zero where
    /// the runtime has a free thread:
    ///
    /// - from the wake of the connection's own task, since bytes were readable, to its poll, which reads them;
    /// - from the read of the bytes that somebody waits for (the end of the head, a piece of the body) to the poll that takes
    ///   them: of the request's future, or of the body.
    ///
    /// A runtime whose threads are all blocked does not see that bytes have come; that time is in
    /// [`TcpUse::unread`].
    pub runtime_delay: Option<Duration>,
}

/// Who was waited for between a response's head and the end of its body.
///
/// Each moment counts for at most one side; what neither kept back (the body was just being handed over, or the runtime was
/// late: [`Facts::runtime_delay`]) counts for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reading {
    /// A piece of the body was here, and the application had not asked for it: from the later of the last piece's handover
    /// and the read of the next one, to the poll that took it.
    pub blocked_by_application: Duration,
    /// The application asked, and nothing was here: from the poll in vain to the read of what came next.
    pub blocked_by_network: Duration,
}

/// Which facts are gathered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) tcp: bool,
    pub(crate) server_timing: bool,
    /// Of `Server-Timing`, with the rest of it.
    pub(crate) descriptions: bool,
    pub(crate) poll_times: bool,
}

impl Wanted {
    pub(crate) fn any(self) -> bool {
        let Self { tcp, server_timing, descriptions: _, poll_times } = self;
        tcp || server_timing || poll_times
    }
}
