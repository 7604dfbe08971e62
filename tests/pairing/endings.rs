//! Clients whose runtime ends, at twenty seeded points of a load, and what is dropped where there is no runtime.
//!
//! A seed is the number of the point: it says after how many turns of the scheduler the runtime goes, and how.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use httptrace::{Client, Error, ResponseBody, ResponseFuture};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::{Builder, Runtime},
    task::{JoinSet, yield_now},
};

use tokio_rustls::TlsAcceptor;

use crate::{kit::certificate::Identity, ledger::Ledger, net::Net, scenarios::Pieces};

const REQUESTS: usize = 6;

/// Reads each request and answers with a body that takes its time.
async fn serve<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(pipe: T, http2: bool) {
    let service = service_fn(|request: Request<Incoming>| async {
        let _ = request.into_body().collect().await;
        Ok::<_, Infallible>(Response::new(Pieces::new(6)))
    });
    let io = TokioIo::new(pipe);
    let _ = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
    };
}

fn ledger(http2: bool) -> Arc<Ledger> {
    let net = Net::new(None, move |_, pipe| drop(tokio::spawn(serve(pipe, http2))));
    let builder = Client::builder();
    Arc::new(Ledger::new(if http2 { builder.http2_prior_knowledge() } else { builder }, net))
}

/// HTTP/1.1, HTTP/2, and HTTP/1.1 with TLS.
fn three(identity: &Identity) -> [Arc<Ledger>; 3] {
    let config = Arc::clone(&identity.config);
    let net = Net::new(None, move |_, pipe| {
        let accepting = TlsAcceptor::from(Arc::clone(&config)).accept(pipe);
        tokio::spawn(async move {
            if let Ok(stream) = accepting.await {
                serve(stream, false).await;
            }
        });
    });
    let tls = Client::builder().root_certificates(vec![identity.root.clone()]);
    [ledger(false), ledger(true), Arc::new(Ledger::at("https://origin.test/", tls, net))]
}

fn send<B>(ledger: &Ledger, body: B) -> ResponseFuture
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let request = Request::post(ledger.url()).body(body).expect("a request");
    ledger.send(request).expect("a client that was not dropped")
}

/// One request and its body; a response that is not read comes back.
async fn one(ledger: Arc<Ledger>, number: usize) -> Result<Option<Response<ResponseBody>>, Error> {
    let sent = match number % 3 {
        0 => send(&ledger, Empty::<Bytes>::new()),
        _ => send(&ledger, Pieces::new(4)),
    };
    let response = sent.await?;
    if number % 3 == 2 {
        return Ok(Some(response));
    }
    response.into_body().collect().await?;
    Ok(None)
}

/// Requests of all clients, begun in two waves. What is not read comes back.
async fn load(ledgers: [Arc<Ledger>; 3]) -> Vec<Response<ResponseBody>> {
    let mut unread = Vec::new();
    for _ in 0..2 {
        let mut requests = JoinSet::new();
        for ledger in &ledgers {
            for number in 0..REQUESTS {
                requests.spawn(one(Arc::clone(ledger), number));
            }
        }
        while let Some(done) = requests.join_next().await {
            unread.extend(done.expect("no panic").expect("an answer"));
        }
    }
    unread
}

/// Runs a load for so many turns of the scheduler. Whether it came to its end, and what is still in flight then.
async fn turns(ledgers: [Arc<Ledger>; 3], turns: usize) -> (bool, Vec<Response<ResponseBody>>) {
    // A task of its own, so that it is the runtime that ends it.
    let mut load = tokio::spawn(load(ledgers));
    tokio::select! {
        biased;
        unread = &mut load => (true, unread.expect("no panic")),
        () = async { for _ in 0..turns { yield_now().await } } => (false, Vec::new()),
    }
}

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

/// Numbers without a pattern (SplitMix64), so that points are spread over the whole load.
fn spread(seed: u64, below: usize) -> usize {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from((z ^ (z >> 31)) % below as u64).expect("below a usize")
}

/// How many turns the whole load takes.
fn whole(identity: &Identity) -> usize {
    let ends = |most| single().block_on(turns(three(identity), most)).0;
    (1..).find(|most| ends(most * 10)).expect("a load that ends") * 10
}

#[test]
fn a_runtime_that_ends_at_any_seeded_point_leaves_balanced_books() {
    let identity = Identity::new(&["http/1.1"]);
    let whole = whole(&identity);
    let mut cut_short = 0;
    for seed in 0..20 {
        let ledgers = three(&identity);
        let runtime = single();
        let (ended, unread) = runtime.block_on(turns(ledgers.clone(), spread(seed, whole)));
        cut_short += usize::from(!ended);
        // The client goes before its runtime or after it; so does what was not read.
        if seed % 2 == 0 {
            ledgers.iter().for_each(|ledger| drop(ledger.take_client()));
        }
        let left = (seed % 4 < 2).then_some(unread);
        if seed % 3 == 0 {
            runtime.shutdown_background();
        } else {
            drop(runtime);
        }
        drop(left);
        for ledger in ledgers {
            drop(ledger.take_client());
            ledger.check_after_runtime(&format!("seed {seed}"));
        }
    }
    assert!(cut_short >= 10, "only {cut_short} of 20 points were within the load");
}

#[test]
fn a_runtime_of_several_threads_that_ends_under_load_leaves_balanced_books() {
    let identity = Identity::new(&["http/1.1"]);
    for seed in 0..20 {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let ledgers = three(&identity);
        let (_, unread) = runtime.block_on(turns(ledgers.clone(), spread(seed, 400)));
        let left = (seed % 4 < 2).then_some(unread);
        // All tasks are gone when this returns.
        runtime.shutdown_timeout(Duration::from_secs(20));
        drop(left);
        for ledger in ledgers {
            drop(ledger.take_client());
            ledger.check_after_runtime(&format!("seed {seed}"));
        }
    }
}

#[test]
fn nothing_that_is_dropped_needs_a_runtime() {
    for http2 in [false, true] {
        let runtime = single();
        let ledger = ledger(http2);
        let unpolled = send(&ledger, Pieces::new(1));
        let (response, begun, read) = runtime.block_on(async {
            let response = send(&ledger, Empty::<Bytes>::new()).await.expect("an answer");
            let mut begun = send(&ledger, Pieces::new(50));
            for _ in 0..2 {
                tokio::select! {
                    biased;
                    _ = &mut begun => panic!("too fast"),
                    () = yield_now() => {}
                }
            }
            let read = send(&ledger, Empty::<Bytes>::new()).await.expect("an answer");
            let mut read = read.into_body();
            read.frame().await.expect("a frame").expect("bytes");
            (response, begun, read)
        });
        // The runtime is there, but not entered.
        drop((unpolled, response, begun, read));
        drop(ledger.take_client());
        runtime.block_on(async { tokio::time::sleep(Duration::from_secs(60)).await });
        ledger.check_closed(&("outside of the runtime", http2));
    }
}

#[test]
fn what_outlives_its_runtime_can_be_dropped() {
    for http2 in [false, true] {
        let runtime = single();
        let ledger = ledger(http2);
        let (response, mut read) = runtime.block_on(async {
            let response = send(&ledger, Empty::<Bytes>::new()).await.expect("an answer");
            let read = send(&ledger, Empty::<Bytes>::new()).await.expect("an answer").into_body();
            (response, read)
        });
        runtime.block_on(async { read.frame().await }).expect("a frame").expect("bytes");
        let never = send(&ledger, Empty::<Bytes>::new());
        drop(runtime);
        drop((never, response, read));
        drop(ledger.take_client());
        ledger.check_after_runtime(&("after the runtime", http2));
    }
}

#[test]
fn a_client_serves_another_runtime_after_its_own_has_ended() {
    for http2 in [false, true] {
        let (first, second, third) = (single(), single(), single());
        let ledger = ledger(http2);
        let mut begun = send(&ledger, Empty::<Bytes>::new());
        first.block_on(async {
            tokio::select! {
                biased;
                _ = &mut begun => panic!("too fast"),
                () = std::future::ready(()) => {}
            }
        });
        // Its dial is gone, so it makes another one.
        drop(first);
        let response = second.block_on(begun).expect("an answer");
        second.block_on(response.into_body().collect()).expect("a body");
        // So is its idle connection: nobody is given that.
        drop(second);
        let response = third.block_on(send(&ledger, Empty::<Bytes>::new())).expect("an answer");
        third.block_on(response.into_body().collect()).expect("a body");
        drop(third);
        drop(ledger.take_client());
        assert_eq!(ledger.log().count("retry"), 0, "{}", ledger.log());
        ledger.check_after_runtime(&("three runtimes", http2));
    }
}
