//! A resolver that answers as the test says, counts what it was asked, and waits at a gate where it is told to.
//!
//! A name without an answer is not found. A name with several gives them one after the other, the last one again and
//! again.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use httptrace::dial::{Resolve, ResolveError, Resolving};

use super::gate::Gate;

/// Cheap to clone; all clones are the same resolver.
#[derive(Clone, Default)]
pub(crate) struct FakeResolver(Arc<Mutex<HashMap<String, Name>>>);

#[derive(Default)]
struct Name {
    answers: Vec<Answer>,
    gate: Option<Gate>,
    lookups: usize,
}

#[derive(Clone)]
enum Answer {
    Addresses(Vec<IpAddr>),
    Failure(Failure),
}

/// Why a lookup fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    HostNotFound,
    TryAgain,
    NoRecovery,
    NoAddresses,
}

impl FakeResolver {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `name` has these addresses.
    pub(crate) fn answer(self, name: &str, addrs: impl IntoIterator<Item = IpAddr>) -> Self {
        self.script(name, |name| name.answers.push(Answer::Addresses(addrs.into_iter().collect())))
    }

    /// `name` is this machine.
    pub(crate) fn local(self, name: &str) -> Self {
        self.answer(name, [IpAddr::V4(Ipv4Addr::LOCALHOST)])
    }

    /// The lookup of `name` fails.
    pub(crate) fn fail(self, name: &str, failure: Failure) -> Self {
        self.script(name, |name| name.answers.push(Answer::Failure(failure)))
    }

    /// Every lookup of `name` waits at this gate before it answers.
    pub(crate) fn hold(self, name: &str, gate: &Gate) -> Self {
        self.script(name, |name| name.gate = Some(gate.clone()))
    }

    /// How often `name` was asked for.
    pub(crate) fn lookups(&self, name: &str) -> usize {
        self.0.lock().expect("nothing panics under the lock").get(name).map_or(0, |name| name.lookups)
    }

    fn script(self, name: &str, change: impl FnOnce(&mut Name)) -> Self {
        change(self.0.lock().expect("nothing panics under the lock").entry(name.to_owned()).or_default());
        self
    }

    fn next(&self, name: &str) -> (Answer, Option<Gate>) {
        let mut names = self.0.lock().expect("nothing panics under the lock");
        let name = names.entry(name.to_owned()).or_default();
        name.lookups += 1;
        let answer = match name.answers.len() {
            0 => Answer::Failure(Failure::HostNotFound),
            1 => name.answers[0].clone(),
            _ => name.answers.remove(0),
        };
        (answer, name.gate.clone())
    }
}

impl Resolve for FakeResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let (answer, gate) = self.next(host);
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.wait().await;
            }
            match answer {
                Answer::Addresses(addrs) => Ok(addrs),
                Answer::Failure(failure) => Err(error(failure)),
            }
        })
    }
}

fn error(failure: Failure) -> ResolveError {
    match failure {
        Failure::HostNotFound => ResolveError::host_not_found(),
        Failure::TryAgain => ResolveError::try_again(),
        Failure::NoRecovery => ResolveError::no_recovery(),
        Failure::NoAddresses => ResolveError::no_addresses(),
    }
}
