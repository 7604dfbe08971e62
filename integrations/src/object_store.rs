//! [`object_store`] over the client: `AmazonS3Builder::new().with_http_connector(Traced(client))`, likewise for its other
//! stores. Of its `ClientOptions` nothing is applied: timeouts, roots and protocols are the client's own settings.

use async_trait::async_trait;
use http_body_util::BodyExt;
use httptrace::{Client, Error};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
};

/// The transport of a store.
#[derive(Debug, Clone)]
pub struct Traced(pub Client);

impl HttpConnector for Traced {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Traced {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.0.request(request).await.map_err(failed)?;
        Ok(response.map(|body| HttpResponseBody::new(body.map_err(failed))))
    }
}

/// The kind decides whether the store tries again: `Connect` always, since nothing was sent; `Timeout` and `Interrupted`
/// where the operation is idempotent; the others never.
fn failed(error: Error) -> HttpError {
    let kind = match error.error_type() {
        "timeout" => HttpErrorKind::Timeout,
        _ if error.is_connect() => HttpErrorKind::Connect,
        "connection_closed" | "connection_reset" | "write_failed" | "body_incomplete" | "http2_stream_reset"
        | "http2_goaway" | "canceled" => HttpErrorKind::Interrupted,
        "malformed_response" | "head_too_large" | "too_many_informational" | "http2_protocol_error" => {
            HttpErrorKind::Decode
        }
        _ => HttpErrorKind::Unknown,
    };
    HttpError::new(kind, error)
}
