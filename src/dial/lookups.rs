//! Lookups that are shared: who asks for a name while it is being looked up gets the same answer.
//!
//! ```text
//!   sharer ─┐  owns    ┌──────────┐ owns (aborts when the last sharer goes)
//!   sharer ─┼────────▶ │  Lookup  │ ─────▶ task: the resolver ─▶ its answer to all sharers, at once
//!   sharer ─┘          └──────────┘
//! ```
//!
//! In: a host. Out: its answer, and whether others got it too. Nothing is kept once the answer is there: how long it
//! would be true, only the resolver knows.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use tokio::{sync::watch, task::AbortHandle};

use super::{
    contained::contained,
    resolve::{self, Resolve, ResolveError},
};
use crate::{clock, error::Error, phase::Phase};

/// A resolver whose lookups are shared.
pub(crate) struct Lookups {
    resolver: Arc<dyn Resolve>,
    running: Arc<Running>,
}

/// By host in lower case.
type Running = Mutex<HashMap<Arc<str>, Weak<Lookup>>>;

/// What came of a lookup.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// When it came.
    pub(super) at: Instant,
    pub(super) result: Result<Arc<resolve::Answer>, Error>,
}

impl Lookups {
    pub(crate) fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, running: Arc::default() }
    }

    /// The host's addresses, and whether this lookup was shared, by whoever began it.
    ///
    /// # Cancel safety
    ///
    /// A lookup goes on as long as one of its sharers waits. Dropping the last one gives it up.
    pub(super) async fn lookup(&self, host: &str) -> (Answer, bool) {
        loop {
            let lookup = self.join(host);
            let mut answer = lookup.answer.clone();
            let answered = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
            if let Some(answer) = answered {
                return (answer, lookup.shared.load(Ordering::Relaxed));
            }
            // The runtime that it ran on has ended. A client may be used on several: this one asks again.
        }
    }

    /// The lookup of this host that is under way, or a new one.
    fn join(&self, host: &str) -> Arc<Lookup> {
        let key: Arc<str> = host.to_ascii_lowercase().into();
        let (tell, answer) = watch::channel(None);
        let lookup = {
            let mut running = lock(&self.running);
            if let Some(other) = running.get(&key).and_then(Weak::upgrade) {
                other.shared.store(true, Ordering::Relaxed);
                return other;
            }
            let lookup = Arc::new(Lookup { answer, task: OnceLock::new(), shared: AtomicBool::new(false) });
            running.insert(Arc::clone(&key), Arc::downgrade(&lookup));
            lookup
        };
        let entry = Entry { running: Arc::clone(&self.running), key, lookup: Arc::downgrade(&lookup) };
        let task = tokio::spawn(ask(Arc::clone(&self.resolver), host.to_owned(), tell, entry));
        let _ = lookup.task.set(task.abort_handle());
        lookup
    }
}

/// A lookup under way, owned by those who wait for it.
struct Lookup {
    answer: watch::Receiver<Option<Answer>>,
    /// A task of its own, so that it does not hang on one of the sharers being polled.
    task: OnceLock<AbortHandle>,
    /// A second one has joined.
    shared: AtomicBool,
}

impl Drop for Lookup {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

/// A lookup's place among those that can be joined. Owned by its task, however that ends.
struct Entry {
    running: Arc<Running>,
    key: Arc<str>,
    lookup: Weak<Lookup>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        // A lookup that was given up may have a successor already.
        if running.get(&self.key).is_some_and(|lookup| lookup.ptr_eq(&self.lookup)) {
            running.remove(&self.key);
        }
    }
}

fn lock(running: &Running) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Lookup>>> {
    // Nothing of a user's runs under it, so it can't be poisoned half way.
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(resolver: Arc<dyn Resolve>, host: String, tell: watch::Sender<Option<Answer>>, entry: Entry) {
    let result = match resolve(&*resolver, &host).await {
        Ok(answer) if answer.addrs.is_empty() => Err(ResolveError::no_addresses()),
        Ok(answer) => Ok(Arc::new(answer)),
        Err(error) => Err(error),
    };
    let result = result.map_err(|error| Error::with(error.kind(), Phase::Dns, error));
    // First the entry, then the clock: whoever has joined began before the answer came.
    drop(entry);
    tell.send_replace(Some(Answer { at: clock::now(), result }));
}

/// A resolver that panics has failed. Else those who wait would ask it again, and again.
async fn resolve(resolver: &dyn Resolve, host: &str) -> Result<resolve::Answer, ResolveError> {
    let failed = |_| Err(ResolveError::no_recovery().because("the resolver panicked"));
    contained(|| resolver.answer(host)).await.unwrap_or_else(failed)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        future::Future,
        net::IpAddr,
        pin::Pin,
        sync::atomic::AtomicUsize,
        task::{Context, Waker},
    };

    use tokio::sync::oneshot;

    use super::*;
    use crate::dial::resolve::Resolving;

    type Reply = Box<dyn FnOnce() -> Result<Vec<IpAddr>, ResolveError> + Send>;

    /// Answers when the test says so.
    #[derive(Default)]
    struct Told {
        asked: AtomicUsize,
        given_up: Arc<AtomicUsize>,
        replies: Mutex<VecDeque<oneshot::Receiver<Reply>>>,
    }

    struct GivenUp(Arc<AtomicUsize>);

    impl Drop for GivenUp {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Resolve for Told {
        fn resolve(&self, _: &str) -> Resolving {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let reply = self.replies.lock().expect("no panic").pop_front().expect("a lookup that was foreseen");
            let given_up = GivenUp(Arc::clone(&self.given_up));
            Box::pin(async move {
                let reply = reply.await.expect("the test replies");
                std::mem::forget(given_up);
                reply()
            })
        }
    }

    impl Told {
        /// Another lookup that will be asked for, and how to answer it.
        fn foresee(&self) -> oneshot::Sender<Reply> {
            let (tell, told) = oneshot::channel();
            self.replies.lock().expect("no panic").push_back(told);
            tell
        }
    }

    fn lookups() -> (Lookups, Arc<Told>) {
        let resolver = Arc::new(Told::default());
        (Lookups::new(Arc::clone(&resolver) as Arc<dyn Resolve>), resolver)
    }

    fn reply(tell: oneshot::Sender<Reply>, result: Result<Vec<IpAddr>, ResolveError>) {
        assert!(tell.send(Box::new(|| result)).is_ok(), "the lookup was given up");
    }

    fn home() -> Vec<IpAddr> {
        vec![[127, 0, 0, 1].into()]
    }

    /// A lookup that has been polled once, and so has joined.
    fn begun<'a>(lookups: &'a Lookups, host: &'a str) -> Pin<Box<impl Future<Output = (Answer, bool)> + 'a>> {
        let mut lookup = Box::pin(lookups.lookup(host));
        assert!(lookup.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        lookup
    }

    /// Lets the lookups' own tasks run.
    async fn others_run() {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn lookups_of_one_host_at_the_same_time_are_one_and_told_so_to_all() {
        let (lookups, resolver) = lookups();
        let tell = resolver.foresee();
        let (first, second) = (begun(&lookups, "a.test"), begun(&lookups, "A.Test"));
        others_run().await;
        reply(tell, Ok(home()));
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.0.result.expect("an answer").addrs, home());
        assert_eq!(second.0.result.expect("an answer").addrs, home());
        assert_eq!((first.1, second.1, resolver.asked.load(Ordering::SeqCst)), (true, true, 1));
        assert_eq!(first.0.at, second.0.at);
    }

    #[tokio::test]
    async fn another_host_and_a_later_lookup_are_their_own() {
        let (lookups, resolver) = lookups();
        let (a, b) = (resolver.foresee(), resolver.foresee());
        let (first, second) = (begun(&lookups, "a.test"), begun(&lookups, "b.test"));
        others_run().await;
        reply(a, Ok(home()));
        reply(b, Ok(home()));
        assert!(!first.await.1 && !second.await.1);
        let again = resolver.foresee();
        let later = begun(&lookups, "a.test");
        reply(again, Ok(Vec::new()));
        let (answer, shared) = later.await;
        assert_eq!(answer.result.expect_err("nothing is kept").error_type(), "no_addresses");
        assert!(!shared);
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 3);
        assert!(lookups.running.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn a_lookup_goes_on_for_the_others_when_the_one_that_began_it_goes() {
        let (lookups, resolver) = lookups();
        let tell = resolver.foresee();
        let (first, second) = (begun(&lookups, "a.test"), begun(&lookups, "a.test"));
        others_run().await;
        drop(first);
        others_run().await;
        reply(tell, Ok(home()));
        let (answer, shared) = second.await;
        assert!(answer.result.is_ok() && shared);
    }

    #[tokio::test]
    async fn a_lookup_that_nobody_waits_for_is_given_up_and_not_joined() {
        let (lookups, resolver) = lookups();
        let (_never, tell) = (resolver.foresee(), resolver.foresee());
        let (first, second) = (begun(&lookups, "a.test"), begun(&lookups, "a.test"));
        others_run().await;
        drop((first, second));
        let third = begun(&lookups, "a.test");
        others_run().await;
        assert_eq!(resolver.given_up.load(Ordering::SeqCst), 1);
        // The end of the first did not take the place of its successor.
        let fourth = begun(&lookups, "a.test");
        reply(tell, Ok(home()));
        assert!(third.await.1 && fourth.await.1);
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
        assert!(lookups.running.lock().expect("no panic").is_empty());
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_with_its_kind() {
        let (lookups, resolver) = lookups();
        let tell = resolver.foresee();
        let (first, second) = (begun(&lookups, "a.test"), begun(&lookups, "a.test"));
        others_run().await;
        reply(tell, Err(ResolveError::try_again().because("no server")));
        for (answer, shared) in [first.await, second.await] {
            let error = answer.result.expect_err("it failed");
            assert_eq!((error.error_type(), error.phase(), shared), ("try_again", Phase::Dns, true));
        }
    }

    #[tokio::test]
    async fn a_resolver_that_panics_has_failed_and_is_asked_again_by_nobody_who_waited() {
        let (lookups, resolver) = lookups();
        let tell = resolver.foresee();
        let (first, second) = (begun(&lookups, "a.test"), begun(&lookups, "a.test"));
        others_run().await;
        assert!(tell.send(Box::new(|| panic!("a bug of the resolver's"))).is_ok());
        for (answer, _) in [first.await, second.await] {
            assert_eq!(answer.result.expect_err("it failed").error_type(), "no_recovery");
        }
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_runtime_that_ends_takes_its_lookup_along_and_who_waits_elsewhere_asks_again() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (lookups, resolver) = lookups();
        let (_never, tell) = (resolver.foresee(), resolver.foresee());
        let (ends, stays) = (runtime(), runtime());
        let mut first = None;
        ends.block_on(async {
            first = Some(begun(&lookups, "a.test"));
            others_run().await;
        });
        stays.block_on(async {
            let second = begun(&lookups, "a.test");
            ends.shutdown_background();
            reply(tell, Ok(home()));
            assert!(second.await.0.result.is_ok());
        });
        drop(first);
        assert_eq!(resolver.asked.load(Ordering::SeqCst), 2);
    }

    struct Yielding;

    impl Resolve for Yielding {
        fn resolve(&self, host: &str) -> Resolving {
            let turns = host.len();
            Box::pin(async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                Ok(home())
            })
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn whoever_stays_is_answered_however_many_come_and_go_on_all_threads() {
        let lookups = Arc::new(Lookups::new(Arc::new(Yielding)));
        let mut staying = Vec::new();
        for number in 0..3_000_usize {
            let lookups = Arc::clone(&lookups);
            let host = ["a", "ab", "abc"][number % 3];
            let task = tokio::spawn(async move { lookups.lookup(host).await.0.result.is_ok() });
            if number % 2 == 0 {
                task.abort();
            } else {
                staying.push(task);
            }
            if number % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for task in staying {
            assert!(task.await.expect("no panic"));
        }
        // The tasks of lookups that were given up end a moment later.
        let patience = clock::now() + std::time::Duration::from_secs(20);
        while !lookups.running.lock().expect("no panic").is_empty() {
            assert!(clock::now() < patience, "an entry was left behind");
            tokio::task::yield_now().await;
        }
    }
}
