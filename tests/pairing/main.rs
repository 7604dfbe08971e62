//! Whatever is broken off, whenever: the client's books balance.
//!
//! Every scenario (`scenarios.rs`) runs over pipes in memory (`net.rs`), in time that is paused, and is broken off at every
//! point that there is (`breaking.rs`): the request's future after its k-th poll, the body after its k-th poll, everything
//! after the k-th step of the scheduler, the origin's bytes after the k-th byte. Then all that is left runs out, and the
//! books (`ledger.rs`) are checked, with the client alive and after it is dropped. `endings.rs` does the same with runtimes
//! that end, and drops what is left outside of any.

mod breaking;
mod endings;
mod kit;
mod ledger;
mod net;
mod origin;
mod scenarios;
