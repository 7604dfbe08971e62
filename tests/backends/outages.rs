//! A backend that goes away, or stands still: requests go on, what is lost is counted, and the end comes in time.

use std::time::{Duration, Instant};

use httptrace::Client;

use crate::{
    scene::{PROTOCOLS, SERVICE, Scene},
    support::{client::Traced, origin::Origin},
    waterfalls::hello,
};

/// So many requests, none of which may notice anything.
async fn send(traced: &Traced, origin: &Origin, requests: usize) {
    let before = origin.served();
    for _ in 0..requests {
        traced.read(origin.url("/")).await.expect("a response");
    }
    traced.log.settled().await;
    assert_eq!(origin.served() - before, requests);
}

#[allow(clippy::disallowed_methods, reason = "the wall's time is what is tested")]
fn now() -> Instant {
    Instant::now()
}

async fn in_time<T>(what: &str, at_most: Duration, future: impl Future<Output = T>) -> T {
    let start = now();
    let result = future.await;
    let took = now() - start;
    assert!(took <= at_most, "{what} took {took:?}");
    result
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn what_is_sent_after_a_restart_of_the_backend_arrives() {
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(protocol).await;
        let origin = Origin::plain().serve(hello);
        let traced = scene.client(Client::builder());
        // A new connection has two spans more than a reused one.
        send(&traced, &origin, 3).await;
        scene.flush().await.expect("an export");
        scene.jaeger.traces_with(SERVICE, 14).await;

        scene.jaeger.stop();
        send(&traced, &origin, 2).await;
        in_time("an export to nobody", Duration::from_secs(5), scene.flush()).await.expect_err("nobody listens");
        assert_eq!(scene.guard().dropped_spans(), 8);

        scene.jaeger.restart().await.expect("a Jaeger again");
        send(&traced, &origin, 1).await;
        let ended = in_time("the end", Duration::from_secs(5), scene.end(&traced)).await;
        assert_eq!((ended.exported_spans, ended.dropped_spans), (18, 8), "{protocol:?}: {ended}");
        assert!(ended.metrics_delivered && !ended.timed_out, "{protocol:?}: {ended}");
        let traces = scene.jaeger.traces_with(SERVICE, 4).await;
        assert_eq!(traces.len(), 1, "its memory is new");
        assert_eq!(traces[0].to_string(), "GET\n  request-write\n  response-wait\n  response-read\n");
        // Set up before the restart: nobody has that span any more, and the link says where it was.
        assert_eq!(traces[0].only("GET").links.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_backend_that_stands_still_holds_nobody_up_and_its_end_has_a_deadline() {
    for protocol in PROTOCOLS {
        let mut scene = Scene::with_timeout(protocol, Duration::from_secs(2)).await;
        let origin = Origin::plain().serve(hello);
        let traced = scene.client(Client::builder());
        scene.jaeger.freeze();
        in_time("requests", Duration::from_secs(5), send(&traced, &origin, 10)).await;
        let ended = in_time("the end", Duration::from_secs(4), scene.end(&traced)).await;
        assert_eq!((ended.exported_spans, ended.dropped_spans), (0, 42), "{protocol:?}: {ended}");
        assert!(!ended.metrics_delivered, "{protocol:?}: {ended}");
        scene.jaeger.thaw();
    }
}
