//! How late a connection's task is: from its wake to its poll.
//!
//! In: the task that reads and writes. Out: the same, with its wakes noted; what a poll reads knows then how long it had been
//! readable, as far as the runtime knew. Only where polls are timed: each wake reads the clock.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use crate::clock;

/// The lateness of a task's latest poll. Shared by the task and by who reads in it.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// Which poll this is, from 1, and how late it was.
    poll: AtomicU64,
    nanos: AtomicU64,
    woken: Mutex<Woken>,
}

#[derive(Debug, Default)]
struct Woken {
    /// The first wake since the last poll.
    at: Option<Instant>,
    task: Option<Waker>,
}

impl Lateness {
    /// The number of the poll that is under way, and how late it was.
    pub(super) fn now(&self) -> (u64, Duration) {
        (self.poll.load(Ordering::Relaxed), Duration::from_nanos(self.nanos.load(Ordering::Relaxed)))
    }

    fn poll(&self, task: &Waker) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let late = woken.at.take().map_or(Duration::ZERO, |at| clock::now().saturating_duration_since(at));
        match &mut woken.task {
            Some(known) => known.clone_from(task),
            none => *none = Some(task.clone()),
        }
        drop(woken);
        // Read by the same task alone.
        self.nanos.store(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.poll.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for Lateness {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
            woken.at.get_or_insert_with(clock::now);
            woken.task.clone()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A task whose wakes are noted.
pub(super) struct Timed<F> {
    task: Pin<Box<F>>,
    lateness: Arc<Lateness>,
    waker: Waker,
}

impl<F> Timed<F> {
    pub(super) fn new(task: Pin<Box<F>>, lateness: Arc<Lateness>) -> Self {
        let waker = Waker::from(Arc::clone(&lateness));
        Self { task, lateness, waker }
    }
}

impl<F: Future> Future for Timed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.lateness.poll(cx.waker());
        this.task.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    // mutant: the last wake counts instead of the first
    #[tokio::test(start_paused = true)]
    async fn a_poll_is_as_late_as_the_first_wake_before_it() {
        let lateness = Arc::new(Lateness::default());
        let mut seen = Vec::new();
        let (mut polls, heard) = (0, Arc::clone(&lateness));
        let task = poll_fn(|cx| {
            seen.push(heard.now());
            polls += 1;
            if polls == 3 {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let mut timed = Timed::new(Box::pin(task), Arc::clone(&lateness));
        for pause in [0, 30, 0] {
            tokio::time::advance(Duration::from_millis(pause)).await;
            Waker::from(Arc::clone(&lateness)).wake();
            let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut timed).poll(cx))).await;
        }
        drop(timed);
        // Woken before its first poll, by nobody; then 30 ms before its second.
        assert_eq!(seen, [(1, Duration::ZERO), (2, Duration::from_millis(30)), (3, Duration::ZERO)]);
    }
}
