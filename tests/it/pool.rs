//! What the pool promises: limits with fair waiters, the cause of every wait, what becomes of every connection and why.

mod limits;
mod looks;
mod outcomes;
