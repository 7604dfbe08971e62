//! When a connection has been idle for too long.
//!
//! In: the begin and end of each request. Out: a future that resolves once none has been under way for so long.

use std::time::Duration;

use tokio::sync::watch;

/// The requests under way on one connection.
pub(crate) struct Idle {
    limit: Duration,
    under_way: watch::Sender<usize>,
}

/// A request under way, until it is dropped.
pub(crate) struct Busy<'a>(&'a Idle);

impl Idle {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, under_way: watch::Sender::new(0) }
    }

    pub(crate) fn begin(&self) -> Busy<'_> {
        self.under_way.send_modify(|under_way| *under_way += 1);
        Busy(self)
    }

    /// Resolves when nothing has been under way for as long as the limit.
    pub(crate) async fn over(&self) {
        let mut news = self.under_way.subscribe();
        loop {
            let busy = *news.borrow_and_update() > 0;
            tokio::select! {
                // The sender is in `self`: there is always another change to wait for.
                _ = news.changed() => {}
                () = tokio::time::sleep(self.limit), if !busy => return,
            }
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|under_way| *under_way -= 1);
    }
}
