//! Which request of the run an attempt belongs to, and which hop of it: one number that the library hands back in each
//! record. And the records of redirects, which are told once it is known whether they could be followed.
//!
//! In: records from the library, and what the run decided about each response of 3xx. Out: complete records.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
};

use httptrace::{Error, Timeline, timeline::Tag};

/// A request's number, from 1, and its hop, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) request: u64,
    pub(crate) hop: u32,
}

/// The upper bits are the hop: runs have more requests than redirects.
const HOP_SHIFT: u32 = 40;
/// More hops than anybody follows share the last number.
const MAX_HOP: u64 = (1 << (u64::BITS - HOP_SHIFT)) - 1;

impl Mark {
    pub(crate) fn tag(self) -> Tag {
        Tag(self.request | u64::from(self.hop).min(MAX_HOP) << HOP_SHIFT)
    }

    /// That of an attempt. Every request of the run has one.
    pub(crate) fn of(timeline: &Timeline) -> Self {
        let Tag(number) = timeline.request.tag.unwrap_or(Tag(0));
        let hop = u32::try_from(number >> HOP_SHIFT).unwrap_or(u32::MAX);
        Self { request: number & ((1 << HOP_SHIFT) - 1), hop }
    }
}

/// Records of redirects on hold. A record may be complete before the response has been looked at, or after.
#[derive(Debug, Default)]
pub(crate) struct Redirects(Mutex<HashMap<u64, Half>>);

/// What came first.
#[derive(Debug)]
enum Half {
    Record(Box<Timeline>),
    Decision(Option<Error>),
}

impl Redirects {
    /// A record has ended. Returns it if it can be told now.
    pub(crate) fn ended(&self, timeline: &Timeline) -> Option<Box<Timeline>> {
        let timeline = Box::new(timeline.clone());
        let Some(key) = key(&timeline) else { return Some(timeline) };
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match halves.remove(&key) {
            Some(Half::Decision(error)) => Some(with(timeline, error)),
            _ => {
                halves.insert(key, Half::Record(timeline));
                None
            }
        }
    }

    /// Whether a response of 3xx could be followed. Returns its record if that waited for this.
    pub(crate) fn decided(&self, mark: Mark, error: Option<Error>) -> Option<Box<Timeline>> {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Tag(key) = mark.tag();
        match halves.remove(&key) {
            Some(Half::Record(timeline)) => Some(with(timeline, error)),
            _ => {
                halves.insert(key, Half::Decision(error));
                None
            }
        }
    }

    /// The records that nobody decides about any more.
    pub(crate) fn left(&self) -> Vec<Timeline> {
        let halves = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let records = halves.into_values().filter_map(|half| match half {
            Half::Record(timeline) => Some(*timeline),
            Half::Decision(_) => None,
        });
        records.collect()
    }
}

/// Those whose response may be a redirect wait. A retried attempt has no status.
fn key(timeline: &Timeline) -> Option<u64> {
    let redirect = timeline.status.is_some_and(|status| status.is_redirection());
    timeline.request.tag.filter(|_| redirect).map(|Tag(number)| number)
}

fn with(mut timeline: Box<Timeline>, error: Option<Error>) -> Box<Timeline> {
    timeline.error = timeline.error.take().or(error);
    timeline
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_hop_share_a_number() {
        assert_eq!(Mark { request: 7, hop: 0 }.tag(), Tag(7));
        assert_eq!(Mark { request: 7, hop: 2 }.tag(), Tag(7 + (2 << 40)));
        assert_eq!(Mark { request: 1, hop: u32::MAX }.tag(), Tag(1 + (MAX_HOP << 40)));
    }
}
