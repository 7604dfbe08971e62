//! The rows: four ways to send the same request.
//!
//! Plain hyper-util is what the others are measured against; plain reqwest is what most programs pay today. httptrace
//! has two rows: with nothing installed that wants a record, and with every request sampled.

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};

use crate::{Bench, BoxError, Fetch, Meter, Origin, exporter::Discard};

/// One way of sending the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// hyper-util's pooled client, nothing around it.
    HyperUtil,
    /// httptrace with no tracer, no meter, no hooks.
    NothingInstalled,
    /// httptrace with an SDK tracer provider that samples everything, a batch processor and a discarding exporter.
    Sampled,
    /// reqwest, nothing around it.
    Reqwest,
}

impl Row {
    /// The name on the command line.
    ///
    /// # Errors
    ///
    /// When no row has that name.
    pub fn parse(name: &str) -> Result<Self, BoxError> {
        match name {
            "hyper-util" => Ok(Self::HyperUtil),
            "nothing-installed" => Ok(Self::NothingInstalled),
            "sampled" => Ok(Self::Sampled),
            "reqwest" => Ok(Self::Reqwest),
            other => Err(format!("no row is called {other}").into()),
        }
    }
}

pub(crate) fn run(bench: &Bench, row: Row, origin: &Origin, meter: &mut impl Meter) -> Result<(), BoxError> {
    let uri: Uri = origin.url().parse()?;
    match row {
        Row::HyperUtil => bench.drive(&HyperUtil::new(uri), meter),
        Row::NothingInstalled => bench.drive(&Httptrace { client: httptrace::Client::new(), uri }, meter),
        Row::Sampled => sampled(bench, uri, meter),
        Row::Reqwest => {
            // A proxy from the environment would change what is measured.
            let client = reqwest::Client::builder().no_proxy().build()?;
            bench.drive(&Reqwest { client, url: origin.url().to_owned() }, meter)
        }
    }
}

fn sampled(bench: &Bench, uri: Uri, meter: &mut impl Meter) -> Result<(), BoxError> {
    let exporter = Discard::default();
    let config = BatchConfigBuilder::default().with_max_queue_size(QUEUE).build();
    let processor = BatchSpanProcessor::builder(exporter.clone()).with_batch_config(config).build();
    let provider = SdkTracerProvider::builder().with_sampler(Sampler::AlwaysOn).with_span_processor(processor).build();
    let client = httptrace::Client::builder().tracer_provider(&provider).build()?;
    bench.drive(&Httptrace { client: client.clone(), uri }, meter)?;
    bench.runtime().block_on(client.shutdown(std::time::Duration::from_secs(5)));
    provider.shutdown()?;
    if exporter.spans() < bench.requests {
        return Err(format!("{} requests, but only {} spans", bench.requests, exporter.spans()).into());
    }
    Ok(())
}

struct HyperUtil {
    client: Client<HttpConnector, Empty<Bytes>>,
    uri: Uri,
}

impl HyperUtil {
    fn new(uri: Uri) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client, uri }
    }
}

impl Fetch for HyperUtil {
    async fn fetch(&self) -> Result<(), BoxError> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        let response = self.client.request(request).await?;
        let body = response.into_body().collect().await?;
        expect_whole(&body.to_bytes())
    }
}

struct Httptrace {
    client: httptrace::Client,
    uri: Uri,
}

impl Fetch for Httptrace {
    async fn fetch(&self) -> Result<(), BoxError> {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = self.uri.clone();
        let response = self.client.request(request).await?;
        let body = response.into_body().collect().await?;
        expect_whole(&body.to_bytes())
    }
}

struct Reqwest {
    client: reqwest::Client,
    url: String,
}

impl Fetch for Reqwest {
    async fn fetch(&self) -> Result<(), BoxError> {
        expect_whole(&self.client.get(&self.url).send().await?.bytes().await?)
    }
}

fn expect_whole(body: &[u8]) -> Result<(), BoxError> {
    if body == b"hello" { Ok(()) } else { Err("the body was not the origin's".into()) }
}

/// Room for every span of a run: a full queue would drop spans, and dropping is cheaper than keeping.
const QUEUE: usize = 65_536;
