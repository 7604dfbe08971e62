//! What can be had for programs on reqwest. Its client can't be swapped: `reqwest::Client` is hyper-util's, for good, and what
//! its `connector_layer` and `dns_resolver` see is not the request. But its requests and responses are plain HTTP, so they
//! can be kept, with all that a program does with them, and only the sending changes.
//!
//! What `reqwest::ClientBuilder` was told (redirects, cookies, default headers, decompression, proxies) is the business of
//! reqwest's client, and is not applied here: `examples/middleware/recipes.rs` has most of it as layers.

use async_trait::async_trait;
use http::Extensions;
use httptrace::{BoxError, Client, RequestTimeout};
use reqwest::{Body, Request, Response, ResponseBuilderExt};
use reqwest_middleware::{Middleware, Next};

/// `reqwest::Client::execute`, by the traced client.
///
/// # Errors
///
/// [`httptrace::Error`], as a [`BoxError`]; reqwest's own where the request is none.
pub async fn execute(client: &Client, request: Request) -> Result<Response, BoxError> {
    let (url, timeout) = (request.url().clone(), request.timeout().copied());
    let mut request = http::Request::<Body>::try_from(request)?;
    if let Some(timeout) = timeout {
        request.extensions_mut().insert(RequestTimeout(timeout));
    }
    let mut response = client.request(request).await?.map(Body::wrap);
    // For `Response::url`.
    response.extensions_mut().extend(http::Response::builder().url(url).body(())?.into_parts().0.extensions);
    Ok(response.into())
}

/// The last middleware of a stack of reqwest-middleware: it sends by the traced client, and those before it (retries,
/// caches, signatures) stay as they are. `ClientBuilder::new(reqwest::Client::new()).with(…).with(Traced(client)).build()`
///
/// It takes the place of reqwest-tracing's.
#[derive(Debug, Clone)]
pub struct Traced(pub Client);

#[async_trait]
impl Middleware for Traced {
    async fn handle(&self, request: Request, _: &mut Extensions, _: Next<'_>) -> reqwest_middleware::Result<Response> {
        let sent = execute(&self.0, request).await;
        sent.map_err(|error| {
            // So that it can be got at by its own type.
            let error = error.downcast::<httptrace::Error>().map(|error| anyhow::Error::new(*error));
            reqwest_middleware::Error::Middleware(error.unwrap_or_else(anyhow::Error::from_boxed))
        })
    }
}
