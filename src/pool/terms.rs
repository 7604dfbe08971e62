//! The terms of the pool: what is asked of it, and what it answers.

use std::time::Duration;

use crate::{
    error::Error,
    hooks::{CloseReason, ConnOutcome, WaitCause},
};

/// A connection as the pool sees it.
pub(crate) trait Poolable: Sized {
    /// Whether it can carry a request.
    fn is_open(&self) -> bool;
    /// A second handle on it; `None` if it carries one request at a time.
    fn share(&self) -> Option<Self>;
}

/// Where a connection stands in the pool. Never valid again once its connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotId {
    pub(super) index: usize,
    pub(super) serial: u64,
}

/// A dial that is under way, or a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(super) host: usize,
    pub(super) serial: u64,
}

/// A connection on loan.
#[derive(Debug)]
pub(crate) struct Lease<C> {
    pub(crate) conn: C,
    pub(crate) slot: SlotId,
    pub(crate) outcome: ConnOutcome,
    pub(crate) idle_time: Option<Duration>,
    /// Which request on the connection this is to be, from 1. Counted here, so that the numbers follow the order of service.
    pub(crate) number: u64,
}

/// The answer to a checkout.
#[derive(Debug)]
pub(crate) enum Checkout<C> {
    Ready(Lease<C>),
    /// Nothing at hand. `dial`: the waiter is to dial.
    Wait {
        ticket: Ticket,
        dial: bool,
        /// Absent if a connection is just coming back: as good as at hand.
        cause: Option<WaitCause>,
    },
}

/// What the caller does after its lock is released.
#[derive(Debug)]
pub(crate) enum Effect<C, W> {
    /// The waiter has a connection.
    Serve(W, Lease<C>),
    /// The waiter is to dial now; the permit is for `Core::dialed` or `Core::dial_failed`.
    Dial(W, Ticket),
    /// The waiter waits for this now, and no longer for a connection that is just coming back.
    Waits(W, WaitCause),
    /// The waiter gets no connection.
    Fail(W, Error),
    /// The connection is to be closed.
    Close(C, CloseReason),
}
