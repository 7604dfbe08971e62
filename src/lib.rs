//! httptrace
pub mod clock;
mod config;
pub mod connection;
pub mod dial;
mod error;
mod exchange;
pub mod hooks;
mod phase;
mod pool;
pub mod timeline;
mod transport;
pub use error::{BoxError, Error};
pub use phase::Phase;
