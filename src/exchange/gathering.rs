//! What is gathered of one exchange beside its marks, where an option asks for it: see [`Facts`].
//!
//! In: the reads of the wire, the polls of the application, two looks at the socket, the header of the response. Out: the
//! facts, once. None of it exists for a request whose facts nobody wants.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use http::HeaderMap;

use super::marks::Exchange;
use crate::{
    clock,
    facts::{Facts, Reading, STEP, ServerTiming, TcpInfo, TcpUse, Wanted},
};

/// The facts of one exchange, in the making.
pub(super) struct Gathering {
    wanted: Wanted,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    checkout: Option<TcpInfo>,
    server_timing: Option<ServerTiming>,
    /// The read that brought the last byte of the head.
    head: Option<Instant>,
    /// The first read since the application last asked.
    arrived: Option<Instant>,
    /// It has asked since, in vain: what was read was not enough, and the next read counts.
    in_vain: bool,
    /// The application asked then, and waits.
    asked: Option<Instant>,
    /// It got the head, or the last piece, then.
    given: Option<Instant>,
    reading: Option<Reading>,
    delay: Duration,
    /// The poll of the connection's task whose lateness is in `delay`.
    poll: u64,
}

impl Gathering {
    pub(super) fn new(wanted: Wanted, checkout: impl FnOnce() -> Option<TcpInfo>) -> Box<Self> {
        let state = State { checkout: if wanted.tcp { checkout() } else { None }, ..State::default() };
        Box::new(Self { wanted, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes were read that somebody may wait for; the connection's task was so late for its poll of this number.
    pub(super) fn arrived(&self, at: Instant, late: Option<(u64, Duration)>) {
        if !self.wanted.poll_times {
            return;
        }
        let mut state = self.state();
        if let Some((poll, late)) = late.filter(|(poll, _)| *poll != state.poll) {
            state.poll = poll;
            state.delay += late;
        }
        if state.arrived.is_none() || state.in_vain {
            (state.arrived, state.in_vain) = (Some(at), false);
        }
    }

    /// The final head is whole.
    pub(super) fn head_arrived(&self, at: Instant) {
        if self.wanted.poll_times {
            let mut state = self.state();
            (state.head, state.arrived) = (Some(at), None);
        }
    }

    /// The application has the head.
    pub(super) fn head_given(&self, fields: &HeaderMap) {
        if self.wanted.poll_times {
            let now = clock::now();
            let mut state = self.state();
            state.given = Some(now);
            if let Some(head) = state.head {
                state.delay += now.saturating_duration_since(head);
            }
        }
        self.fields(fields);
    }

    /// A header or trailers came.
    pub(super) fn fields(&self, fields: &HeaderMap) {
        if self.wanted.server_timing && fields.contains_key("server-timing") {
            self.state().server_timing.get_or_insert_default().add(fields, self.wanted.descriptions);
        }
    }

    /// The application asks for a piece of the body. What is to be handed on to [`answered`](Self::answered).
    pub(super) fn asked(&self) -> Option<Asked> {
        self.wanted.poll_times.then(|| {
            let now = clock::now();
            Asked { now, arrived: self.state().arrived.take() }
        })
    }

    /// What it got: a piece or the end of the body, or nothing yet.
    pub(super) fn answered<T>(&self, Asked { now, arrived }: Asked, polled: &Poll<T>) {
        let mut state = self.state();
        let mut reading = state.reading.unwrap_or_default();
        match (polled, state.asked) {
            (Poll::Pending, _) => {
                state.asked.get_or_insert(now);
                // Unless something was read while it was asked.
                if let (None, Some(_)) = (state.arrived, arrived) {
                    (state.arrived, state.in_vain) = (arrived, true);
                }
                return;
            }
            (Poll::Ready(_), Some(asked)) => {
                let arrived = arrived.unwrap_or(now).clamp(asked.min(now), now);
                reading.blocked_by_network += arrived.saturating_duration_since(asked);
                state.delay += now.saturating_duration_since(arrived);
            }
            // It was here when it was asked for: since the last piece was given, or since it came.
            (Poll::Ready(_), None) => {
                let since = state.given.into_iter().chain(arrived).max();
                reading.blocked_by_application +=
                    since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            }
        }
        (state.asked, state.given, state.reading) = (None, Some(now), Some(reading));
    }

    /// All of it. `done`: looks at the socket. `read`: when the last bytes were read, where they were all of the response and
    /// nobody else's.
    pub(super) fn facts(&self, done: impl FnOnce() -> Option<TcpInfo>, read: Option<Instant>) -> Arc<Facts> {
        let mut state = self.state();
        let tcp = state.checkout.map(|checkout| {
            let done = done();
            let came = done.and_then(|done| clock::now().checked_sub(done.since_received));
            let unread = came.zip(read).map(|(came, read)| read.saturating_duration_since(came));
            TcpUse { checkout, done, unread: unread.filter(|unread| *unread >= STEP) }
        });
        let delay = state.head.map(|_| state.delay);
        Arc::new(Facts { tcp, server_timing: state.server_timing.take(), reading: state.reading, runtime_delay: delay })
    }
}

impl Exchange {
    /// What the application may be waiting for was read.
    pub(super) fn arrived(&self, at: Option<Instant>) {
        if let (Some(gathering), Some(at)) = (&self.gathering, at) {
            gathering.arrived(at, self.wire.lateness().map(|lateness| lateness.now()));
        }
    }

    pub(super) fn head_arrived(&self, at: Option<Instant>) {
        if let (Some(gathering), Some(at)) = (&self.gathering, at) {
            gathering.head_arrived(at);
        }
    }

    /// What is gathered beside the marks, if it is.
    pub(super) fn gathering(&self) -> Option<&Gathering> {
        self.gathering.as_deref()
    }

    /// All that was gathered. `complete`: the response was read to its end.
    pub(super) fn facts(&self, complete: bool, done: impl FnOnce() -> Option<TcpInfo>) -> Option<Arc<Facts>> {
        let gathering = self.gathering()?;
        let marks = self.marks();
        // On HTTP/2, what came last may be another's.
        let read = marks.last_read.filter(|_| complete && marks.stream_id.is_none());
        Some(gathering.facts(done, read))
    }
}

/// The application's question for a piece of the body.
pub(super) struct Asked {
    now: Instant,
    arrived: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What happens to a body, in milliseconds since the head was given.
    enum Then {
        Read(u32),
        Pending(u32),
        Ready(u32),
    }
    use Then::{Pending, Read, Ready};

    /// Application, network, runtime.
    fn told(story: &[Then]) -> (u128, u128, u128) {
        let gathering = Gathering::new(Wanted { poll_times: true, ..Wanted::default() }, || None);
        let start = clock::now();
        {
            let mut state = gathering.state();
            (state.head, state.given) = (Some(start), Some(start));
        }
        for step in story {
            let polled = match step {
                Read(at) => {
                    gathering.arrived(start + MS * *at, None);
                    continue;
                }
                Pending(_) => Poll::Pending,
                Ready(_) => Poll::Ready(()),
            };
            let (Pending(at) | Ready(at) | Read(at)) = step;
            let arrived = gathering.state().arrived.take();
            gathering.answered(Asked { now: start + MS * *at, arrived }, &polled);
        }
        let facts = gathering.facts(|| None, None);
        let reading = facts.reading.unwrap_or_default();
        let delay = facts.runtime_delay.expect("a head");
        (reading.blocked_by_application.as_millis(), reading.blocked_by_network.as_millis(), delay.as_millis())
    }

    #[test]
    fn each_moment_counts_for_who_was_waited_for() {
        for (story, expected) in [
            // The network: asked at 0, read at 30, taken at 31.
            (&[Pending(0), Read(30), Ready(31)][..], (0, 30, 1)),
            // The application: read at 10, asked at 50.
            (&[Read(10), Ready(50)], (40, 0, 0)),
            // It was here all along.
            (&[Ready(50)], (50, 0, 0)),
            // A second piece, of which more was read meanwhile.
            (&[Ready(0), Read(5), Read(20), Ready(50)], (45, 0, 0)),
            // The first read is not enough: the second one is what was waited for.
            (&[Pending(0), Read(10), Pending(11), Read(30), Ready(32)], (0, 30, 2)),
            // Asked again without news.
            (&[Pending(0), Pending(5), Read(30), Ready(30)], (0, 30, 0)),
            // What was read before it asked in vain was no piece.
            (&[Read(10), Pending(20), Read(40), Ready(41)], (0, 20, 1)),
            // Two waits and a pause.
            (&[Pending(0), Read(10), Ready(10), Ready(60), Pending(60), Read(90), Ready(95)], (50, 40, 5)),
        ] {
            assert_eq!(told(story), expected);
        }
    }

    #[test]
    fn the_lateness_of_one_poll_counts_once() {
        let gathering = Gathering::new(Wanted { poll_times: true, ..Wanted::default() }, || None);
        let now = clock::now();
        for poll in [1, 1, 2] {
            gathering.arrived(now, Some((poll, MS * 7)));
        }
        gathering.head_arrived(now);
        assert_eq!(gathering.facts(|| None, None).runtime_delay, Some(MS * 14));
    }

    #[test]
    fn what_lay_in_the_kernel_for_less_than_a_step_of_its_clock_is_not_told() {
        // `Gathering::facts` with a look is tested where there is a socket: `tests/it/spans/facts/tcp.rs`.
        let wanted = Wanted { tcp: true, ..Wanted::default() };
        assert_eq!(Gathering::new(wanted, || None).facts(|| panic!("no look without a first one"), None).tcp, None);
    }
}
