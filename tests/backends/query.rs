//! Questions to a backend's HTTP API.
//!
//! In comes a URL with its parameters; out goes the status and the JSON. By hyper-util's client, not by the one that is
//! tested here.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// The JSON of a GET, or why there is none.
pub(crate) async fn get(url: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
    let (status, body) = get_text(url, parameters).await?;
    let json = serde_json::from_str(&body).map_err(|error| format!("{status} {error}: {body}"))?;
    if status.is_success() { Ok(json) } else { Err(format!("{status} {body}")) }
}

/// The text of a GET, whatever its status is.
pub(crate) async fn get_text(url: &str, parameters: &[(&str, &str)]) -> Result<(StatusCode, String), String> {
    get_as("*/*", url, parameters).await
}

/// The same in a form of one's choice.
pub(crate) async fn get_as(
    accept: &str,
    url: &str,
    parameters: &[(&str, &str)],
) -> Result<(StatusCode, String), String> {
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let asked = async {
        let request = Request::get(format!("{url}?{}", query.join("&"))).header("accept", accept);
        let response = client.request(request.body(Empty::new())?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    match tokio::time::timeout(Duration::from_secs(10), asked).await {
        Ok(answered) => answered.map_err(|error| format!("{url}: {error}")),
        Err(_) => Err(format!("{url}: no answer in ten seconds")),
    }
}
