//! What stays in memory: of a connection that is idle, of a request that waits for its answer.
//!
//! Comes in: a row, and how many there are to be. What the meter sees is what opened them; they end behind it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Uri, header};
use httptrace::{Client, otlp};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Row, get, length, ours};
use crate::{Bench, BoxError, Meter};

/// What there is many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Connections that carried one request, and wait for another.
    Idle,
    /// Requests without an answer, each on a connection of its own.
    InFlight,
    /// Nothing: requests one after the other on one connection, all over.
    Over,
}

impl Held {
    /// The name on the command line.
    ///
    /// # Errors
    ///
    /// When nothing has that name.
    pub fn parse(name: &str) -> Result<Self, BoxError> {
        Ok(match name {
            "idle" => Self::Idle,
            "in-flight" => Self::InFlight,
            "over" => Self::Over,
            other => return Err(format!("nothing is held as {other}: idle, in-flight, over").into()),
        })
    }
}

type Task = Pin<Box<dyn Future<Output = Result<(), BoxError>>>>;

/// Until all requests are on the wire; nothing is counted in time here.
const SENT: Duration = Duration::from_secs(3);

pub(crate) fn run(bench: &Bench, row: Row, held: Held, many: usize, meter: &mut impl Meter) -> Result<(), BoxError> {
    match row {
        Row::Raw => raw(bench, held, many, meter),
        Row::NothingInstalled => {
            let client = ours::builder(bench)?.pool_max_idle(many + 1).pool_max_idle_per_host(many + 1).build()?;
            traced(bench, &client, held, many, meter)
        }
        Row::SampledMetrics => {
            let guard = otlp::builder()
                .endpoint(bench.origin().collector())
                .protocol(otlp::Protocol::HttpProtobuf)
                .set_globals(false)
                .init()?;
            let builder = ours::builder(bench)?.pool_max_idle(many + 1).pool_max_idle_per_host(many + 1);
            let builder = builder.tracer_provider(guard.tracer_provider()).meter_provider(guard.meter_provider());
            traced(bench, &builder.timeline(true).build()?, held, many, meter)?;
            drop(guard.shutdown());
            Ok(())
        }
        other => Err(format!("nothing is held by {other:?}: raw, nothing-installed, sampled-metrics").into()),
    }
}

fn never(bench: &Bench) -> Result<Uri, BoxError> {
    Ok(format!("{}never", bench.uri()?).parse()?)
}

fn traced(bench: &Bench, client: &Client, held: Held, many: usize, meter: &mut impl Meter) -> Result<(), BoxError> {
    let (uri, never) = (bench.uri()?, never(bench)?);
    let runtime = bench.runtime();
    // What there is once is there.
    runtime.block_on(async { length(client.request(get(&uri)).await?).await })?;
    match held {
        Held::Idle => meter.meter(|| {
            let opened: Result<(), BoxError> = runtime.block_on(async {
                let mut unread = Vec::new();
                for _ in 0..many {
                    unread.push(client.request(get(&uri)).await?);
                }
                for response in unread {
                    length(response).await?;
                }
                Ok(())
            });
            opened.expect("the origin answers");
        }),
        Held::InFlight => {
            let ask = || {
                let (client, uri) = (client.clone(), never.clone());
                Box::pin(async move { length(client.request(get(&uri)).await?).await.map(drop) }) as Task
            };
            in_flight(bench, ask, many, meter);
        }
        Held::Over => meter.meter(|| {
            let over: Result<(), BoxError> = runtime.block_on(async {
                for _ in 0..many {
                    length(client.request(get(&uri)).await?).await?;
                }
                Ok(())
            });
            over.expect("the origin answers");
        }),
    }
    Ok(())
}

fn in_flight(bench: &Bench, ask: impl Fn() -> Task, many: usize, meter: &mut impl Meter) {
    let mut waiting = FuturesUnordered::new();
    meter.meter(|| {
        waiting.extend((0..many).map(|_| ask()));
        let answered = bench.runtime().block_on(async { tokio::time::timeout(SENT, waiting.next()).await });
        assert!(answered.is_err(), "nobody is answered");
    });
}

fn raw(bench: &Bench, held: Held, many: usize, meter: &mut impl Meter) -> Result<(), BoxError> {
    let (uri, never) = (bench.uri()?, never(bench)?);
    let authority: Arc<str> = uri.authority().ok_or("an absolute URL")?.as_str().into();
    let ask = |uri: &Uri| {
        let (authority, path) = (Arc::clone(&authority), uri.path().to_owned());
        async move {
            let stream = TcpStream::connect(&*authority).await?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let mut request = get(&path.parse()?);
            request.headers_mut().insert(header::HOST, authority.parse()?);
            length(sender.send_request(request).await?).await?;
            sender.ready().await?;
            Ok::<_, BoxError>(sender)
        }
    };
    bench.runtime().block_on(ask(&uri))?;
    match held {
        Held::Idle => {
            let mut senders = Vec::with_capacity(many);
            meter.meter(|| {
                for _ in 0..many {
                    senders.push(bench.runtime().block_on(ask(&uri)).expect("the origin answers"));
                }
            });
            Ok(())
        }
        Held::InFlight => {
            let ask = || {
                let asked = ask(&never);
                Box::pin(async move { asked.await.map(drop) }) as Task
            };
            in_flight(bench, ask, many, meter);
            Ok(())
        }
        Held::Over => Err("the raw row has one request for each connection".into()),
    }
}
