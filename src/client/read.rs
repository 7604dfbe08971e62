//! A response's body as a whole: bytes, text, JSON, never more than a limit.
//!
//! In: a response whose head is here. Out: its body in one piece, or the error that broke it off. What is read is what the
//! server sent: a `Content-Encoding` is not undone (tower-http's `Decompression` around the client does that), and trailers
//! are dropped.

use std::{fmt, future::Future};

use bytes::{Bytes, BytesMut};
use http::Response;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::{
    error::{BoxError, Error, Kind, Why},
    exchange::ResponseBody,
    phase::Phase,
};

/// The most of a body that is read into memory unless [`ResponseExt::limit`] says otherwise: 16 MiB. More than APIs answer
/// and pages have, and little enough that a server that never ends can't take the process down.
pub const DEFAULT_BODY_LIMIT: usize = 16 << 20;

/// Reads the body of a response whole.
///
/// ```no_run
/// use httptrace::ResponseExt as _;
///
/// # async fn example(client: httptrace::Client) -> Result<(), httptrace::Error> {
/// let page = client.get("https://example.com/").await?.text().await?;
/// let image = client.get("https://example.com/image").await?.limit(100 << 20).bytes().await?;
/// # Ok(()) }
/// ```
///
/// A body piece by piece, or its trailers, are had of [`ResponseBody`] itself, which is an [`http_body::Body`].
///
/// # Errors
///
/// Those of all three methods. The error of an exchange that breaks off comes as it is. A body that is whole, and not
/// what was asked for, is an error of the caller's wish alone: [`is_body`](Error::is_body) holds, the phase is
/// `response-read`, and the attempt's record knows nothing of it.
///
/// | it is | `error_type()` | `source()` |
/// |---|---|---|
/// | larger than the limit | `body_incomplete` | says the limit; the rest is dropped, as if by the application |
/// | text that is not UTF-8 | `malformed_response` | [`FromUtf8Error`](std::string::FromUtf8Error), which has the bytes |
/// | JSON that does not fit | `malformed_response` | `serde_json::Error` |
///
/// # Cancel safety
///
/// Dropping one of the futures drops the body: what was read is lost, the attempt ends as `dropped`.
pub trait ResponseExt: sealed::Sealed + Sized {
    /// The same, with at most so many bytes of body instead of [`DEFAULT_BODY_LIMIT`].
    fn limit(self, bytes: usize) -> LimitedResponse;

    /// The body.
    fn bytes(self) -> impl Future<Output = Result<Bytes, Error>> + Send {
        self.limit(DEFAULT_BODY_LIMIT).bytes()
    }

    /// The body as UTF-8, whatever charset `Content-Type` names: of its bytes nothing is replaced or left out. Text in another
    /// charset is for [`bytes`](Self::bytes) and a decoder such as `encoding_rs`.
    fn text(self) -> impl Future<Output = Result<String, Error>> + Send {
        self.limit(DEFAULT_BODY_LIMIT).text()
    }

    /// The body as JSON (RFC 8259), whatever `Content-Type` says.
    #[cfg(feature = "json")]
    fn json<T: serde::de::DeserializeOwned>(self) -> impl Future<Output = Result<T, Error>> + Send {
        self.limit(DEFAULT_BODY_LIMIT).json()
    }
}

impl ResponseExt for Response<ResponseBody> {
    fn limit(self, bytes: usize) -> LimitedResponse {
        LimitedResponse { body: self.into_body(), limit: bytes }
    }
}

/// A response whose body will be read up to a limit: see [`ResponseExt`].
#[must_use = "nothing is read before one of its methods is awaited"]
pub struct LimitedResponse {
    body: ResponseBody,
    limit: usize,
}

impl LimitedResponse {
    /// The body.
    ///
    /// # Errors
    ///
    /// As [`ResponseExt`] says.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        let Self { mut body, limit } = self;
        let declared = body.size_hint().lower();
        if declared > limit as u64 {
            return Err(too_large(limit));
        }
        // Most bodies are one piece, which is handed on without a copy.
        let (mut first, mut all) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if data.len() > limit - first.len() - all.len() {
                return Err(too_large(limit));
            }
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            if all.is_empty() {
                // What is declared is the server's word: room for some of it, and the rest as it comes.
                let room = usize::try_from(declared).unwrap_or(limit).min(MOST_ROOM);
                all.reserve(room.max(first.len() + data.len()));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// The body as UTF-8.
    ///
    /// # Errors
    ///
    /// As [`ResponseExt`] says.
    pub async fn text(self) -> Result<String, Error> {
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(unfit)
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// As [`ResponseExt`] says.
    #[cfg(feature = "json")]
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.bytes().await?).map_err(unfit)
    }
}

impl fmt::Debug for LimitedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedResponse").field("limit", &self.limit).finish_non_exhaustive()
    }
}

mod sealed {
    /// Methods may be added.
    pub trait Sealed {}

    impl Sealed for http::Response<crate::exchange::ResponseBody> {}
}

/// Memory that is set aside on a server's word alone.
const MOST_ROOM: usize = 1 << 20;

fn too_large(limit: usize) -> Error {
    let why = format!("it has more than {limit} bytes: raise `limit`, or read it piece by piece");
    Error::with(Kind::BodyTooLarge, Phase::ResponseRead, Why::new(why))
}

fn unfit(why: impl Into<BoxError>) -> Error {
    Error::with(Kind::BodyUnfit, Phase::ResponseRead, why)
}
