//! The client of those who make none: one for the whole process, made when it is first asked.

use std::sync::OnceLock;

use http::Uri;

use super::{Client, ResponseFuture};

/// Sends a GET request by the process's shared client.
///
/// For programs that need no settings, and for first steps. [`ResponseExt`](crate::ResponseExt) reads the body.
///
/// ```no_run
/// use httptrace::ResponseExt as _;
///
/// # async fn example() -> Result<(), httptrace::Error> {
/// let text = httptrace::get("https://example.com/").await?.text().await?;
/// # Ok(()) }
/// ```
///
/// The client is made by the first call and kept to the end of the process, with the defaults of [`Client::new`]:
///
/// - All calls share its pool, so a second request to a host reuses the connection.
/// - It reports to the OpenTelemetry providers that are global at the first call. Call `otlp::init()` before.
/// - It has no overall timeout; [`RequestTimeout`](crate::RequestTimeout) is for requests that are built. Make a
///   [`Client::builder`] for anything else.
/// - A connection is driven by the tokio runtime that made it, and ends with it. A process may use several runtimes, one
///   after the other or beside each other: what a runtime left behind when it was dropped is noticed and not used. But a
///   runtime that is kept and no longer run, such as a `current_thread` one after its `block_on`, drives nothing: requests
///   that get one of its connections wait. There, give each runtime a [`Client`] of its own.
///
/// # Errors
///
/// As [`Client::get`].
///
/// # Cancel safety
///
/// As [`Client::request`].
///
/// # Panics
///
/// When polled outside of a tokio runtime with its time and IO drivers enabled.
pub fn get<U>(url: U) -> ResponseFuture
where
    U: TryInto<Uri>,
    U::Error: Into<http::Error>,
{
    static SHARED: OnceLock<Client> = OnceLock::new();
    SHARED.get_or_init(Client::new).get(url)
}
