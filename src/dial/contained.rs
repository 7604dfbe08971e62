//! A user's future whose panic is a value: a dial that vanished would only be begun again, by all who wait for it.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
};

/// The future's output, or what it panicked with. `make` is the user's as well, and may panic too.
pub(super) async fn contained<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(async move { make().await });
    // After a panic it is dropped and never polled again.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}
