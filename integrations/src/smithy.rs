//! The AWS SDK, and every other client that Smithy generates, over the client:
//! `aws_config::defaults(version).http_client(Traced::new(Client::builder))`, or `http_client` of a service's own config.
//!
//! The SDK's way to give a connection up after an error (`ReconnectMode`) has no hold here: the pool keeps none that failed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::body::SdkBody;
use httptrace::{Client, ClientBuilder, Error};

/// The transport of Smithy clients. Clones share their connections.
#[derive(Clone)]
pub struct Traced(Arc<Inner>);

struct Inner {
    settings: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    /// An SDK has one pair of timeouts, and perhaps another for single operations.
    made: Mutex<Vec<(Timeouts, SharedHttpConnector)>>,
}

/// To connect, and from the request to the first byte of its response.
type Timeouts = (Option<Duration>, Option<Duration>);

impl Traced {
    /// A transport whose clients are made with these settings, and the SDK's two timeouts: one client for each pair of
    /// them, which then lives as long as this.
    pub fn new(settings: impl Fn() -> ClientBuilder + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { settings: Box::new(settings), made: Mutex::default() }))
    }
}

impl HttpClient for Traced {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let timeouts = (settings.connect_timeout(), settings.read_timeout());
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connector)) = made.iter().find(|(of, _)| *of == timeouts) {
            return connector.clone();
        }
        let mut builder = (self.0.settings)();
        if let Some(timeout) = timeouts.0 {
            builder = builder.connect_timeout(timeout).tls_handshake_timeout(timeout);
        }
        if let Some(timeout) = timeouts.1 {
            builder = builder.response_header_timeout(timeout);
        }
        let connector = SharedHttpConnector::new(Connector(builder.build()));
        made.push((timeouts, connector.clone()));
        connector
    }
}

impl fmt::Debug for Traced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traced")
    }
}

/// A client, or why there is none: Smithy has no other place to say that.
#[derive(Debug)]
struct Connector(Result<Client, Error>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        // Called now, in its caller's context; the rest may be polled anywhere.
        let sent = client.map_err(|error| ConnectorError::user(error.into())).and_then(|client| {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            Ok(client.request(request))
        });
        HttpConnectorFuture::new(async move {
            let response = sent?.await.map_err(failed)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// The kind decides whether the SDK tries again: it does for `timeout` and `io`, and not for `user`.
fn failed(error: Error) -> ConnectorError {
    let never_connected = error.is_connect();
    let failed = if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.is_invalid_request() || error.error_type() == "request_body_failed" {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    };
    if never_connected { failed.never_connected() } else { failed }
}
