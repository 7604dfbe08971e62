//! httptrace
pub mod clock;
pub mod connection;
mod error;
pub mod hooks;
mod phase;
pub mod timeline;
pub mod views;
pub use error::{BoxError, Error};
pub use phase::Phase;
pub use timeline::Timeline;
