//! The rows: every way to send the same request.
//!
//! Plain hyper-util is what the others are measured against. httptrace comes in the states that it can be in; its peers as
//! their users set them up, with every request sampled and exported to the same sink.

mod crowds;
mod held;
mod ours;
mod peers;
mod plain;
mod workers;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::{BodyExt, Empty};

pub use self::{crowds::Crowd, held::Held};
pub(crate) use self::{crowds::run as run_crowd, held::run as hold, workers::run as run_workers};
use crate::{Bench, BoxError, Meter};

/// One way of sending the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// `hyper::client::conn`, one connection in hand, nothing around it.
    Raw,
    /// hyper-util's pooled client, nothing around it.
    HyperUtil,
    /// The same, sending a `traceparent` of its own with each request: what no client can send for less.
    HyperUtilTraceparent,
    /// reqwest, nothing around it.
    Reqwest,
    /// reqwest-tracing around reqwest: one span a request.
    ReqwestTracing,
    /// tower-otel around hyper-util's client: one span a request.
    TowerOtel,
    /// httptrace with no tracer, no meter, no hooks.
    NothingInstalled,
    /// httptrace with hooks, and nothing else.
    Hooks,
    /// httptrace with a tracer provider, under a parent that is not sampled.
    UnsampledParent,
    /// httptrace with a tracer provider whose sampler says no.
    Unsampled,
    /// httptrace with everything sampled and exported: a CLIENT span, its phases and events.
    Sampled,
    /// The same, and all metrics.
    SampledMetrics,
}

impl Row {
    /// The name on the command line.
    ///
    /// # Errors
    ///
    /// When no row has that name.
    pub fn parse(name: &str) -> Result<Self, BoxError> {
        Ok(match name {
            "raw" => Self::Raw,
            "hyper-util" => Self::HyperUtil,
            "hyper-util-traceparent" => Self::HyperUtilTraceparent,
            "reqwest" => Self::Reqwest,
            "reqwest-tracing" => Self::ReqwestTracing,
            "tower-otel" => Self::TowerOtel,
            "nothing-installed" => Self::NothingInstalled,
            "hooks" => Self::Hooks,
            "unsampled-parent" => Self::UnsampledParent,
            "unsampled" => Self::Unsampled,
            "sampled" => Self::Sampled,
            "sampled-metrics" => Self::SampledMetrics,
            other => return Err(format!("no row is called {other}").into()),
        })
    }
}

pub(crate) fn run(bench: &Bench, row: Row, meter: &mut impl Meter) -> Result<(), BoxError> {
    match row {
        Row::Raw => bench.drive(&plain::Raw::new(bench)?, meter),
        Row::HyperUtil => bench.drive(&plain::HyperUtil::new(bench, false)?, meter),
        Row::HyperUtilTraceparent => bench.drive(&plain::HyperUtil::new(bench, true)?, meter),
        Row::Reqwest => bench.drive(&plain::Reqwest::new(bench)?, meter),
        Row::ReqwestTracing => peers::reqwest_tracing(bench, meter),
        Row::TowerOtel => peers::tower_otel(bench, meter),
        Row::NothingInstalled => ours::nothing_installed(bench, meter),
        Row::Hooks => ours::hooks(bench, meter),
        Row::UnsampledParent => ours::unsampled_parent(bench, meter),
        Row::Unsampled => ours::unsampled(bench, meter),
        Row::Sampled => ours::sampled(bench, false, meter),
        Row::SampledMetrics => ours::sampled(bench, true, meter),
    }
}

fn get(uri: &Uri) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    request
}

/// Reads a body to its end, without keeping it.
async fn length<B>(response: Response<B>) -> Result<usize, BoxError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.map_err(Into::into)?.data_ref().map_or(0, Bytes::len);
    }
    Ok(length)
}
