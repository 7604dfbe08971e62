//! A gate between the test and what it tests: one side waits at it, the test sees that it got there and lets it go.
//!
//! Once open, a gate stays open.

use std::sync::Arc;

use tokio::sync::watch;

use super::within;

/// Cheap to clone; all clones are the same gate.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    open: bool,
    arrived: usize,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// For the side that is held: returns once the gate is open.
    ///
    /// Here nobody's patience ends: who is held may be meant to be held forever.
    pub(crate) async fn wait(&self) {
        self.0.send_modify(|state| state.arrived += 1);
        self.until(|state| state.open).await;
    }

    /// For the test: returns once somebody has come to the gate.
    pub(crate) async fn reached(&self) {
        within("somebody to reach a gate", self.until(|state| state.arrived > 0)).await;
    }

    /// For the test: lets go who waits and who will come.
    pub(crate) fn open(&self) {
        self.0.send_modify(|state| state.open = true);
    }

    async fn until(&self, when: impl FnMut(&State) -> bool) {
        self.0.subscribe().wait_for(when).await.expect("the sender is in self");
    }
}
