//! httptrace where there is more of something than one request needs: what it costs must not grow with it.
//!
//! Comes in: of what there is more, and how much. What is measured are requests like all others, one after the other, with
//! nothing installed.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::Uri;
use httptrace::{
    Client,
    dial::{Resolve, Resolving},
};

use super::{get, length, ours};
use crate::{Bench, BoxError, Meter};

/// Of what there is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// So many hosts with an idle connection each; the requests go to one after the other.
    Hosts,
    /// So many idle connections to the one host.
    Idle,
    /// So many requests in the queue for the one connection.
    Waiters,
}

impl Crowd {
    /// The name on the command line.
    ///
    /// # Errors
    ///
    /// When nothing has that name.
    pub fn parse(name: &str) -> Result<Self, BoxError> {
        Ok(match name {
            "hosts" => Self::Hosts,
            "idle" => Self::Idle,
            "waiters" => Self::Waiters,
            other => return Err(format!("there is no crowd of {other}: hosts, idle, waiters").into()),
        })
    }
}

/// Requests after which nothing of the opening of connections is left to be done.
const SETTLED: usize = 500;

/// Every name is the origin's.
struct Everybody;

impl Resolve for Everybody {
    fn resolve(&self, _: &str) -> Resolving {
        Box::pin(async { Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)]) })
    }
}

pub(crate) fn run(bench: &Bench, crowd: Crowd, size: usize, meter: &mut impl Meter) -> Result<(), BoxError> {
    let builder = ours::builder(bench)?.resolver(Arc::new(Everybody));
    let builder = builder.pool_max_idle(size + 1).pool_max_idle_per_host(size + 1);
    match crowd {
        Crowd::Hosts => hosts(bench, &builder.build()?, size, meter),
        Crowd::Idle => idle(bench, &builder.build()?, size, meter),
        Crowd::Waiters => waiters(bench, &builder.max_connections_per_host(1).build()?, size, meter),
    }
}

async fn fetch(client: &Client, uri: &Uri) -> Result<(), BoxError> {
    length(client.request(get(uri)).await?).await.map(drop)
}

fn hosts(bench: &Bench, client: &Client, size: usize, meter: &mut impl Meter) -> Result<(), BoxError> {
    let port = bench.uri()?.port_u16().ok_or("a port")?;
    let uris: Result<Vec<Uri>, _> = (0..size).map(|host| format!("http://host-{host}.test:{port}/").parse()).collect();
    let uris = uris?;
    bench.runtime().block_on(async {
        for uri in &uris {
            fetch(client, uri).await?;
        }
        Ok::<_, BoxError>(())
    })?;
    let requests = bench.workload().requests;
    bench.measure(meter, async {
        for uri in uris.iter().cycle().take(requests) {
            fetch(client, uri).await?;
        }
        Ok(())
    })
}

fn idle(bench: &Bench, client: &Client, size: usize, meter: &mut impl Meter) -> Result<(), BoxError> {
    let uri = bench.uri()?;
    bench.runtime().block_on(async {
        // A connection whose response is not read is in use, so each request gets another one.
        let mut unread = Vec::with_capacity(size);
        for _ in 0..size {
            unread.push(client.request(get(&uri)).await?);
        }
        for response in unread {
            length(response).await?;
        }
        // Their tasks have a last look, and the allocator sorts what they let go.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for _ in 0..SETTLED {
            fetch(client, &uri).await?;
        }
        Ok::<_, BoxError>(())
    })?;
    bench.measure(meter, async {
        for _ in 0..bench.workload().requests {
            fetch(client, &uri).await?;
        }
        Ok(())
    })
}

fn waiters(bench: &Bench, client: &Client, size: usize, meter: &mut impl Meter) -> Result<(), BoxError> {
    let uri = bench.uri()?;
    let asked = Cell::new(0);
    let ask = || async {
        asked.set(asked.get() + 1);
        fetch(client, &uri).await
    };
    let mut queue: FuturesUnordered<_> = (0..=size).map(|_| ask()).collect();
    bench.runtime().block_on(async {
        while asked.get() <= size {
            queue.next().await.ok_or("an answer")??;
            queue.push(ask());
        }
        Ok::<_, BoxError>(())
    })?;
    bench.measure(meter, async {
        for _ in 0..bench.workload().requests {
            queue.next().await.ok_or("an answer")??;
            queue.push(ask());
        }
        Ok(())
    })
}
