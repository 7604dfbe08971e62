//! How long requests were blocked by HTTP/2 flow control (RFC 9113 §5.2). Pure: what passed comes in, times go out.
//!
//! A stream is blocked while bytes of its body wait at hyper and its window, or the connection's, is used up. Only streams
//! whose moments are wanted are accounted for.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// The windows in which we send.
#[derive(Debug)]
pub(super) struct Flow {
    connection: i64,
    /// What a stream begins with.
    initial: i64,
    streams: BTreeMap<u32, Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// Beside the initial window: increments, less what was sent.
    window: i64,
    /// Bytes at hyper that have not been sent.
    waiting: i64,
    since: Option<Instant>,
    blocked: Duration,
}

/// RFC 9113 §6.9.2.
const INITIAL: i64 = 65_535;

impl Default for Flow {
    fn default() -> Self {
        Self { connection: INITIAL, initial: INITIAL, streams: BTreeMap::new() }
    }
}

impl Flow {
    /// hyper took bytes of a body.
    pub(super) fn given(&mut self, stream: u32, bytes: usize, at: Instant) {
        let account = self.streams.entry(stream).or_default();
        account.waiting += i64::try_from(bytes).unwrap_or(i64::MAX);
        account.look(self.initial, self.connection, at);
    }

    /// DATA was sent.
    pub(super) fn sent(&mut self, stream: u32, length: u32, at: Option<Instant>) {
        self.connection -= i64::from(length);
        if let Some(account) = self.streams.get_mut(&stream) {
            account.window -= i64::from(length);
            account.waiting = (account.waiting - i64::from(length)).max(0);
        }
        self.look(stream, at);
    }

    /// The peer opened a window further; stream 0 is the connection's.
    pub(super) fn window_update(&mut self, stream: u32, by: u32, at: Option<Instant>) {
        if stream == 0 {
            let was_shut = self.connection <= 0;
            self.connection += i64::from(by);
            if was_shut {
                self.look_at_all(at);
            }
        } else if let Some(account) = self.streams.get_mut(&stream) {
            account.window += i64::from(by);
            self.look(stream, at);
        }
    }

    /// The peer changed what streams begin with: those that are open move with it (RFC 9113 §6.9.2).
    pub(super) fn initial_window(&mut self, size: u32, at: Option<Instant>) {
        self.initial = i64::from(size);
        self.look_at_all(at);
    }

    /// The last byte of a body was sent: how long it was blocked; `None` where no body was accounted for.
    pub(super) fn ended(&mut self, stream: u32, at: Option<Instant>) -> Option<Duration> {
        self.look(stream, at);
        let account = self.streams.remove(&stream)?;
        Some(account.blocked)
    }

    pub(super) fn forget(&mut self, stream: u32) {
        self.streams.remove(&stream);
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn streams(&self) -> usize {
        self.streams.len()
    }

    fn look(&mut self, stream: u32, at: Option<Instant>) {
        if let (Some(account), Some(at)) = (self.streams.get_mut(&stream), at) {
            account.look(self.initial, self.connection, at);
        }
        // The one that used up the connection's window shut it for all.
        if self.connection <= 0 {
            self.look_at_all(at);
        }
    }

    fn look_at_all(&mut self, at: Option<Instant>) {
        let Some(at) = at else { return };
        for account in self.streams.values_mut() {
            account.look(self.initial, self.connection, at);
        }
    }
}

impl Account {
    fn look(&mut self, initial: i64, connection: i64, at: Instant) {
        let blocked = self.waiting > 0 && (initial + self.window <= 0 || connection <= 0);
        match (blocked, self.since) {
            (true, None) => self.since = Some(at),
            (false, Some(since)) => {
                self.blocked += at.saturating_duration_since(since);
                self.since = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(crate::clock::now) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_stream_is_blocked_from_the_last_byte_of_its_window_to_the_update() {
        let mut flow = Flow::default();
        flow.given(1, 100_000, at(0));
        flow.sent(1, 65_535, Some(at(10)));
        flow.window_update(0, 100_000, Some(at(20)));
        flow.window_update(1, 100_000, Some(at(50)));
        flow.sent(1, 34_465, Some(at(60)));
        assert_eq!(flow.ended(1, Some(at(60))), Some(Duration::from_millis(40)));
        assert_eq!(flow.ended(1, Some(at(70))), None);
    }

    #[test]
    fn one_stream_that_uses_up_the_connections_window_blocks_the_others() {
        let mut flow = Flow::default();
        flow.initial_window(1_000_000, None);
        flow.given(1, 65_535, at(0));
        flow.given(3, 10, at(0));
        flow.given(5, 10, at(0));
        flow.sent(5, 10, Some(at(1)));
        flow.sent(1, 65_525, Some(at(5)));
        flow.window_update(0, 1, Some(at(25)));
        flow.window_update(0, 1_000, Some(at(25)));
        flow.sent(3, 10, Some(at(26)));
        assert_eq!(flow.ended(3, Some(at(26))), Some(Duration::from_millis(20)));
        assert_eq!(flow.ended(5, Some(at(26))), Some(Duration::ZERO), "nothing of it waited");
    }

    #[test]
    fn a_smaller_initial_window_makes_an_open_one_negative() {
        let mut flow = Flow::default();
        flow.given(1, 60_000, at(0));
        flow.sent(1, 50_000, Some(at(1)));
        flow.initial_window(40_000, Some(at(2)));
        flow.window_update(1, 10_000, Some(at(7)));
        flow.window_update(1, 1, Some(at(9)));
        assert_eq!(flow.ended(1, Some(at(9))), Some(Duration::from_millis(7)));
    }
}
