//! The one place where time is read.
//!
//! Every mark is a monotonic [`Instant`]; wall time exists only at the edge, through a [`TimeAnchor`]. The monotonic
//! clock is tokio's, so that a test that pauses tokio's time moves the marks as well. `clippy.toml` bans reading a
//! clock anywhere else.

use std::time::{Duration, Instant, SystemTime};

/// The monotonic now.
#[allow(clippy::disallowed_methods, reason = "this is the place")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One monotonic and one wall-clock reading of the same moment.
///
/// All wall times of a record are derived from its single anchor, so that a stepping system clock can't tear a
/// record apart.
#[derive(Debug, Clone, Copy)]
pub struct TimeAnchor {
    instant: Instant,
    system: SystemTime,
}

impl TimeAnchor {
    /// Reads both clocks now.
    ///
    /// If the thread is held up between the two readings, all wall times of the record are late by that much. So they are
    /// read again, if it took long, and the closest pair is kept.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    pub fn new() -> Self {
        let read = || {
            let pair = Self { instant: now(), system: SystemTime::now() };
            (now().duration_since(pair.instant), pair)
        };
        let mut best = read();
        for _ in 0..3 {
            if best.0 <= CLOSE {
                break;
            }
            let again = read();
            if again.0 < best.0 {
                best = again;
            }
        }
        best.1
    }

    /// The monotonic half of the pair.
    #[must_use]
    pub fn instant(&self) -> Instant {
        self.instant
    }

    /// The wall time of a monotonic moment, before or after the anchor.
    #[must_use]
    pub fn system(&self, at: Instant) -> SystemTime {
        if at == self.instant {
            // What starts with the anchor: every CLIENT span.
            self.system
        } else if at > self.instant {
            self.system + at.duration_since(self.instant)
        } else {
            self.system.checked_sub(self.instant.duration_since(at)).unwrap_or(SystemTime::UNIX_EPOCH)
        }
    }

    /// Nanoseconds since the Unix epoch of a monotonic moment, as OTLP counts them.
    #[must_use]
    pub fn unix_nanos(&self, at: Instant) -> u64 {
        let since = self.system(at).duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Default for TimeAnchor {
    fn default() -> Self {
        Self::new()
    }
}

/// Three readings of a clock take a tenth of this.
const CLOSE: Duration = Duration::from_micros(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_before_the_anchor_has_an_earlier_wall_time() {
        let anchor = TimeAnchor::new();
        let later = anchor.instant() + Duration::from_millis(5);
        assert_eq!(anchor.system(later).duration_since(anchor.system).expect("later"), Duration::from_millis(5));
        let moved = TimeAnchor { instant: later, system: anchor.system };
        assert!(moved.system(anchor.instant()) < moved.system(later));
    }
}
