//! Two threads, one host: 64 requests at once that meet in one pool.
//!
//! Comes in: a row. What is measured is the processor time of both threads, since what they wait for each other shows in no
//! count of instructions: callgrind runs one thread at a time.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use http::{Response, Uri};
use http_body::Body;
use httptrace::otlp;
use tokio::runtime::Builder;

use super::{Row, get, length, ours, plain};
use crate::{Bench, BoxError, Meter, workload::CONCURRENCY};

pub(crate) fn run(bench: &Bench, row: Row, meter: &mut impl Meter) -> Result<(), BoxError> {
    match row {
        Row::HyperUtil => {
            let plain::Legacy::Plain(client) = plain::legacy(bench)? else {
                return Err("two workers are measured without TLS".into());
            };
            contend(bench, meter, move |uri| client.request(get(uri)))
        }
        Row::NothingInstalled => {
            let client = ours::builder(bench)?.build()?;
            contend(bench, meter, move |uri| client.request(get(uri)))
        }
        Row::Sampled => {
            let guard = otlp::builder()
                .endpoint(bench.origin().collector())
                .protocol(otlp::Protocol::HttpProtobuf)
                .set_globals(false)
                .init()?;
            let client = ours::builder(bench)?.tracer_provider(guard.tracer_provider()).build()?;
            contend(bench, meter, move |uri| client.request(get(uri)))?;
            drop(guard.shutdown());
            Ok(())
        }
        other => Err(format!("{other:?} has no two workers: hyper-util, nothing-installed, sampled").into()),
    }
}

fn contend<A, B, E>(
    bench: &Bench,
    meter: &mut impl Meter,
    ask: impl Fn(&Uri) -> A + Send + Sync + 'static,
) -> Result<(), BoxError>
where
    A: Future<Output = Result<Response<B>, E>> + Send,
    B: Body<Data = Bytes> + Unpin + Send,
    B::Error: Into<BoxError>,
    E: Into<BoxError>,
{
    let (ask, uri) = (Arc::new(ask), bench.uri()?);
    let each = bench.many() / CONCURRENCY;
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let all = async |each: usize| {
        let tasks: Vec<_> = (0..CONCURRENCY)
            .map(|_| {
                let (ask, uri) = (Arc::clone(&ask), uri.clone());
                tokio::spawn(async move {
                    for _ in 0..each {
                        length(ask(&uri).await.map_err(Into::into)?).await?;
                    }
                    Ok::<_, BoxError>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok::<_, BoxError>(())
    };
    runtime.block_on(all(10))?;
    let mut result = Ok(());
    meter.meter(|| result = runtime.block_on(all(each)));
    result
}
