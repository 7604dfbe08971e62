//! Whether the body of a request may go on: the wait for `100 Continue` (RFC 9110 §10.1.1), and the answer that comes before
//! the upload has ended.
//!
//! An upload that is refused early is neither ended nor failed: ended, a cut upload would look whole to the server; failed,
//! hyper would break the connection off before the answer is read. It is left pending (RFC 9112 §9.5 lets the client stop).
//! On HTTP/2, its stream is reset once the application has the answer.

use std::{
    task::{Context, Waker},
    time::{Duration, Instant},
};

use crate::config::DRAIN_TIME;

/// The gate in front of one request's body.
#[derive(Debug, Default)]
pub(super) struct Upload {
    gate: Gate,
    /// The body's.
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
enum Gate {
    #[default]
    Open,
    /// Until the server says go on, or for this long from the moment when the head was written.
    Expect { timeout: Duration, since: Option<Instant> },
    /// Refused: nothing more of it is sent.
    Held,
    /// The application has its answer; what is left of the upload has a moment more.
    Late { since: Instant },
    /// Refused, and the application has its answer.
    Stopped,
}

/// What a body may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum May {
    Go,
    /// Nothing, until it is woken or the time has come.
    Wait(Option<Instant>),
    /// Go until then.
    GoUntil(Instant),
    /// End the stream.
    Stop,
}

impl Upload {
    /// A body that waits for `100 Continue`.
    pub(super) fn expecting(timeout: Duration) -> Self {
        Self { gate: Gate::Expect { timeout, since: None }, waker: None }
    }

    pub(super) fn may(&mut self, cx: &Context<'_>) -> May {
        let may = match self.gate {
            Gate::Open => May::Go,
            Gate::Expect { timeout, since } => May::Wait(since.map(|since| since + timeout)),
            Gate::Held => May::Wait(None),
            Gate::Late { since } => May::GoUntil(since + DRAIN_TIME),
            Gate::Stopped => May::Stop,
        };
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        may
    }

    /// Whether it waits for `100 Continue`.
    pub(super) fn expects(&self) -> bool {
        matches!(self.gate, Gate::Expect { .. })
    }

    /// The head was written: the wait begins.
    pub(super) fn head_written(&mut self, at: Instant) -> Option<Waker> {
        let Gate::Expect { since: since @ None, .. } = &mut self.gate else { return None };
        *since = Some(at);
        self.waker.take()
    }

    /// The server wants it, or has said nothing for too long.
    pub(super) fn go_on(&mut self) -> Option<Waker> {
        let Gate::Expect { .. } = self.gate else { return None };
        self.gate = Gate::Open;
        self.waker.take()
    }

    /// The server has refused it before it had it all.
    pub(super) fn hold(&mut self) {
        self.gate = Gate::Held;
    }

    /// The application is done with the answer.
    pub(super) fn answered(&mut self, at: Instant) -> Option<Waker> {
        self.gate = match self.gate {
            Gate::Held | Gate::Stopped => Gate::Stopped,
            Gate::Open | Gate::Expect { .. } | Gate::Late { .. } => Gate::Late { since: at },
        };
        self.waker.take()
    }
}
