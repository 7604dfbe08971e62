//! [`HttpClient`] for [`Client`]: exporters that take a client of your choice send through this one.
//!
//! In comes a request with its bytes, on whatever thread an exporter has; out comes the whole response. What carries
//! telemetry makes none: no span, no metric, no `traceparent`, or every export would be the reason for the next.
//!
//! Exporters poll where there is no runtime (the SDK's batch and metric threads block on them), or block the only thread of
//! one (a simple processor). So requests run on a runtime of this module's own, one for the process.

use std::{io, sync::LazyLock, thread, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use opentelemetry::Context;
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use tokio::{runtime::Handle, task::JoinSet};

use crate::{
    client::{Client, RequestTimeout},
    error::Why,
};

/// For `with_http_client(client)` of `opentelemetry-otlp`'s HTTP exporters, and whatever else takes an [`HttpClient`].
///
/// ```no_run
/// use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
///
/// let client = httptrace::Client::builder().telemetry(false).build()?;
/// let exporter = SpanExporter::builder().with_http().with_http_client(client).build()?;
/// # drop(exporter);
/// # Ok::<(), httptrace::BoxError>(())
/// ```
///
/// May be called from any thread, inside of a runtime or outside. Nothing that it does becomes a span or a metric, also if
/// the client reports elsewhere; its hooks are called. A request takes at most the client's
/// [`timeout`](crate::ClientBuilder::timeout), or, if there is none, the 10 seconds that OTLP gives an export: an exporter
/// would wait for ever for a collector that is silent.
///
/// # Errors
///
/// [`Error`](crate::Error), as a [`BoxError`](crate::BoxError); [`ResponseBodyTooLarge`] for an answer of more than 4 MiB, as
/// the other clients of that crate have it. A response of whatever status is none.
///
/// # Cancel safety
///
/// Dropping the future gives the request up.
#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let runtime = RUNTIME.as_ref().map_err(|error| Why::new(format!("no thread to send from: {error}")))?;
        // A set, since its drop aborts the task.
        let mut sending = JoinSet::new();
        sending.spawn_on(exchange(self.clone(), request), runtime);
        match sending.join_next().await {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => Err(error.into()),
            None => Err(Why::new("the request was not sent").into()),
        }
    }
}

async fn exchange(client: Client, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    limit(&client, &mut request);
    let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
    let body =
        Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
            true => ResponseBodyTooLarge::new().into(),
            false => error,
        })?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// Sees to it that the request ends.
fn limit(client: &Client, request: &mut Request<Bytes>) {
    if !client.has_timeout() && request.extensions().get::<RequestTimeout>().is_none() {
        request.extensions_mut().insert(RequestTimeout(EXPORT_TIMEOUT));
    }
}

/// `OTEL_EXPORTER_OTLP_TIMEOUT`'s default.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// What [`ResponseBodyTooLarge`] says.
const MAX_ANSWER: usize = 4 << 20;

/// Started by the first request. Its one thread sleeps between requests, and lives as long as the process: exporters are
/// shut down at its very end.
static RUNTIME: LazyLock<io::Result<Handle>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().name("httptrace-http".to_owned()).spawn(move || {
        // For all that happens here, connections' ends included.
        let _suppressed = Context::enter_telemetry_suppressed_scope();
        runtime.block_on(std::future::pending::<()>());
    })?;
    Ok(handle)
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_ten_seconds_unless_somebody_said_otherwise() {
        let (own, brief) = (Duration::from_secs(60), RequestTimeout(Duration::from_secs(1)));
        for (client, before, after) in [
            (Client::builder(), None, Some(RequestTimeout(Duration::from_secs(10)))),
            (Client::builder(), Some(brief), Some(brief)),
            (Client::builder().timeout(own), None, None),
            (Client::builder().timeout(own), Some(brief), Some(brief)),
        ] {
            let mut request = Request::new(Bytes::new());
            if let Some(before) = before {
                request.extensions_mut().insert(before);
            }
            limit(&client.telemetry(false).build().expect("settings that fit"), &mut request);
            assert_eq!(request.extensions().get::<RequestTimeout>(), after.as_ref());
        }
    }
}
