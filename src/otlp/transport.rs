//! Carries OTLP over HTTP with this crate's own client: without spans, metrics or hooks, on the pipeline's own runtime.
//!
//! The SDK's threads that export have no runtime of their own, and the application's may be the very thread that waits
//! for a flush. So a request is handed to the pipeline's runtime, and only its answer is waited for.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;

use crate::{client::Client, error::Error};

/// The most that a collector may answer: what the SDK's own clients take.
const MAX_ANSWER: usize = 4 << 20;

/// An HTTP client for exporters.
pub(super) struct Transport {
    client: Client,
    runtime: Handle,
}

impl Transport {
    pub(super) fn new(runtime: Handle, timeout: Duration) -> Result<Self, Error> {
        let client = Client::builder().telemetry(false).timeout(timeout).build()?;
        Ok(Self { client, runtime })
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let answer = self.runtime.spawn(async move {
            let (head, body) = client.request(request.map(Full::new)).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        });
        answer.await?
    }
}
