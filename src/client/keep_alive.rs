//! Servers that close idle connections before the client would: noticed wherever it shows, said once per server.
//!
//! In: what a server announced, and idle connections that it closed. Out: the hook, and the one record that has it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    facts::{KeepAlive, KeepAliveSource},
    hooks::{ClientTrace, KeepAliveMismatchInfo, emit::Hooks},
};

/// What is known of each server's patience.
pub(crate) struct KeepAlives {
    /// This client's own.
    idle_timeout: Option<Duration>,
    /// What a server announces is obeyed.
    pub(super) obeys: bool,
    hooks: Hooks,
    /// By server: what is still to be put into a record.
    known: Mutex<HashMap<(String, u16), Option<KeepAlive>>>,
}

impl KeepAlives {
    pub(crate) fn new(idle_timeout: Option<Duration>, obeys: bool, trace: Option<Arc<dyn ClientTrace>>) -> Self {
        Self { idle_timeout, obeys, hooks: Hooks::new(None, trace), known: Mutex::default() }
    }

    /// The server announced how long it keeps an idle connection. Returns what its record is to say of that.
    pub(super) fn announced(&self, host: &str, port: u16, server: Duration) -> Option<KeepAlive> {
        // Who obeys is never surprised.
        let shorter = !self.obeys && self.idle_timeout.is_none_or(|own| server < own);
        let mismatch = self.mismatch(KeepAliveSource::Announced, server);
        (shorter && self.note(host, port, mismatch, None)).then_some(mismatch)
    }

    /// The server closed a connection that had been idle for so long. The next connection's first record is to say it.
    pub(super) fn closed(&self, host: &str, port: u16, idle: Duration) {
        let mismatch = self.mismatch(KeepAliveSource::Closed, idle);
        self.note(host, port, mismatch, Some(mismatch));
    }

    /// What a new connection's record is to say.
    pub(super) fn news(&self, host: &str, port: u16) -> Option<KeepAlive> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Most clients never have any: then nothing is made to look it up by.
        if known.is_empty() { None } else { known.get_mut(&name(host, port))?.take() }
    }

    fn mismatch(&self, source: KeepAliveSource, server: Duration) -> KeepAlive {
        KeepAlive { source, server, client: self.idle_timeout }
    }

    /// Says it, unless it was said of this server before. Whether it was not.
    fn note(&self, host: &str, port: u16, mismatch: KeepAlive, news: Option<KeepAlive>) -> bool {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.contains_key(&name(host, port)) {
                return false;
            }
            if known.len() >= MOST {
                // Rather said twice than kept for ever.
                known.clear();
            }
            known.insert(name(host, port), news);
        }
        if let Some(at) = self.hooks.now() {
            self.hooks.emit(|t| t.keep_alive_mismatch(&KeepAliveMismatchInfo { at, host, port, mismatch }));
        }
        true
    }

    /// A hint of a second less: what is sent in a server's last moment comes too late.
    pub(super) fn limit(announced: Duration) -> Duration {
        announced.saturating_sub(Duration::from_secs(1))
    }
}

fn name(host: &str, port: u16) -> (String, u16) {
    (host.to_ascii_lowercase(), port)
}

/// Most servers that are remembered.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_spoken_of_once_and_the_memory_of_it_is_bounded() {
        let known = KeepAlives::new(Some(Duration::from_secs(90)), false, None);
        let five = Duration::from_secs(5);
        assert!(known.announced("A.test", 80, five).is_some());
        assert!(known.announced("a.test", 80, five).is_none() && known.announced("a.test", 81, five).is_some());
        for number in 0..5_000 {
            known.closed(&format!("h{number}.test"), 80, five);
            assert!(known.known.lock().expect("no panic").len() <= MOST);
        }
        assert!(known.news("h4999.test", 80).is_some() && known.news("h4999.test", 80).is_none());
    }

    #[test]
    fn a_server_that_waits_as_long_as_the_client_is_none_to_speak_of() {
        let known = |own, obeys| KeepAlives::new(own, obeys, None);
        let of = |known: KeepAlives, seconds| known.announced("a.test", 80, Duration::from_secs(seconds)).is_some();
        let ninety = Some(Duration::from_secs(90));
        assert!(of(known(ninety, false), 89) && !of(known(ninety, false), 90) && of(known(None, false), 3600));
        assert!(!of(known(ninety, true), 5));
    }
}
