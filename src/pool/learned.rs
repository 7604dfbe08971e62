//! What a connection has shown of its origin's protocol, and the origins that have shown to speak HTTP/1.1 after the last of
//! their connections is gone: the pool forgets hosts that nobody uses, and this for a while not. Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::key::PoolKey;
use crate::connection::Protocol;

/// What an origin has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Learned {
    pub(super) protocol: Protocol,
    pub(super) at: Instant,
    /// It refuses HTTP/2 with HTTP_1_1_REQUIRED (RFC 9113 §7), whatever ALPN agrees on.
    pub(super) insists: bool,
}

impl Learned {
    /// Whether it spoke HTTP/1.1, not too long ago.
    pub(super) fn is_http1(&self, now: Instant) -> bool {
        self.protocol == Protocol::Http1 && now.saturating_duration_since(self.at) < REMEMBER_PROTOCOL
    }

    /// Whether it refused HTTP/2, not too long ago.
    pub(super) fn insists(&self, now: Instant) -> bool {
        self.insists && self.is_http1(now)
    }
}

/// How long an origin's HTTP/1.1 is remembered: until then its cold requests dial at once, and one that insists on it is
/// offered nothing else.
const REMEMBER_PROTOCOL: Duration = Duration::from_secs(600);

/// When each origin last showed it. By host in lower case, and port: a key would keep its whole URL alive.
#[derive(Debug, Default)]
pub(super) struct Http1Origins(HashMap<(String, u16), Learned>);

impl Http1Origins {
    pub(super) fn keep(&mut self, key: &PoolKey, learned: Learned) {
        if self.0.len() >= MOST {
            // Room for many, so that a client of many hosts does not search for the oldest every time.
            let mut times: Vec<_> = self.0.values().map(|learned| learned.at).collect();
            let (_, median, _) = times.select_nth_unstable(MOST / 2);
            let median = *median;
            self.0.retain(|_, learned| learned.at > median);
        }
        self.0.insert(name(key), learned);
    }

    /// Takes it out: the pool knows the host again.
    pub(super) fn recall(&mut self, key: &PoolKey) -> Option<Learned> {
        if self.0.is_empty() { None } else { self.0.remove(&name(key)) }
    }
}

fn name(key: &PoolKey) -> (String, u16) {
    (key.host().to_ascii_lowercase(), key.port)
}

/// Most origins remembered: more than most clients have, and some 100 KiB.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn key(host: &str) -> PoolKey {
        PoolKey::from_uri(&format!("https://{host}/").parse().expect("a URI")).expect("a key")
    }

    fn shown(at: Instant) -> Learned {
        Learned { protocol: Protocol::Http1, at, insists: false }
    }

    #[test]
    fn what_is_recalled_is_what_was_kept_last_and_only_once() {
        let (mut origins, now) = (Http1Origins::default(), clock::now());
        let later = now + Duration::from_secs(1);
        origins.keep(&key("a.test"), shown(now));
        origins.keep(&key("A.test"), shown(later));
        assert_eq!(origins.recall(&key("b.test")), None);
        assert_eq!(origins.recall(&key("a.test:444")), None);
        assert_eq!(origins.recall(&key("a.test")), Some(shown(later)));
        assert_eq!(origins.recall(&key("a.test")), None);
    }

    #[test]
    fn there_are_never_more_than_the_limit_and_the_newest_stay() {
        let (mut origins, start) = (Http1Origins::default(), clock::now());
        for number in 0..10_000 {
            origins.keep(&key(&format!("h{number}.test")), shown(start + Duration::from_millis(number)));
            assert!(origins.0.len() <= MOST);
        }
        assert!((10_000 - 400..10_000).all(|number| origins.recall(&key(&format!("h{number}.test"))).is_some()));
        assert_eq!(origins.recall(&key("h0.test")), None);
    }
}
