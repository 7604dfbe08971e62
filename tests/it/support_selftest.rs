//! The kit tests itself: an expectation that can't fail and a server that does something else than its script would make
//! every other test worthless.

mod collector;
mod log;
mod servers;
mod spans;
mod timeline;

/// Any moment, from the clock that the crate reads too.
fn moment() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}
