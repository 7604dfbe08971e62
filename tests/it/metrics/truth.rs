//! Metrics against what happened: the origin's connections, requests that were given up, several clients and readers.

use http::{Request, Response};
use http_body_util::Full;
use std::sync::Arc;

use super::{
    levels::levels,
    reading::{Meters, total},
};
use crate::{
    spans::scene::hello,
    support::{PATIENCE, client::Traced, dns::FakeResolver, gate::Gate, origin::Origin, within},
};

#[tokio::test(flavor = "multi_thread")]
async fn first_uses_are_the_connections_that_the_origin_served() {
    for alpn in ["http/1.1", "h2"] {
        let meters = Meters::new(1);
        let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
        let traced = Traced::new(origin.client_builder().meter_provider(&meters.provider));
        for _ in 0..3 {
            let requests: Vec<_> = (0..5).map(|_| tokio::spawn(traced.read_later(origin.url("/")))).collect();
            for request in requests {
                within("a response", request).await.expect("no panic").expect("a response");
            }
        }
        let timelines = traced.timelines(15).await;
        let served = origin.record().connections_used() as f64;
        // Each of these wrote its first byte: all were answered.
        let first = timelines.iter().filter(|t| t.connection.as_ref().is_some_and(|used| !used.reused())).count();
        let collection = meters.first();
        let reused = |value| {
            let label = Some(("httptrace.connection.reused", value));
            total(&collection, "httptrace.connection.acquisitions", label)
        };
        assert_eq!((reused("false"), reused("true")), (served, 15.0 - served), "{alpn}");
        assert_eq!(first as f64, served);
        traced.client.shutdown(PATIENCE).await;
        let collection = meters.first();
        let requests = &collection["httptrace.connection.requests"].points;
        assert_eq!(requests.iter().map(|p| p.sum).sum::<f64>(), 15.0, "{alpn}: each request was served once");
        assert_eq!(requests.iter().map(|p| p.count).sum::<f64>(), origin.accepted() as f64, "{alpn}: and each closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_up_comes_down_after_requests_that_were_given_up() {
    for alpn in ["http/1.1", "h2"] {
        let (meters, lookup, answer) = (Meters::new(1), Gate::new(), Gate::new());
        let origin = Origin::tls_with_alpn(&[alpn]).serve({
            let answer = answer.clone();
            move |_: Request<hyper::body::Incoming>| {
                let answer = answer.clone();
                async move {
                    answer.wait().await;
                    Response::new(Full::from("late"))
                }
            }
        });
        let resolver = FakeResolver::new().local("origin.test").hold("origin.test", &lookup);
        let builder = origin.client_builder().resolver(Arc::new(resolver)).meter_provider(&meters.provider);
        let traced = Traced::new(builder);
        let url = origin.url_at("origin.test", "/");
        // Given up while it waits for its dial.
        let waiting = tokio::spawn(traced.read_later(url.clone()));
        lookup.reached().await;
        assert_eq!(levels(&meters), [1.0, 1.0, 0.0], "{alpn}: under way, and waiting");
        waiting.abort();
        traced.timelines(1).await;
        assert_eq!(levels(&meters), [0.0; 3], "{alpn}");
        lookup.open();
        // Given up while it waits for its answer.
        let asking = tokio::spawn(traced.read_later(url));
        answer.reached().await;
        assert_eq!(levels(&meters), [1.0, 0.0, 1.0], "{alpn}: under way on one connection");
        asking.abort();
        traced.timelines(2).await;
        answer.open();
        traced.client.shutdown(PATIENCE).await;
        assert_eq!(levels(&meters), [0.0; 3], "{alpn}: all over");
        let collection = meters.first();
        assert_eq!(total(&collection, "dns.lookup.duration", None), 1.0, "{alpn}: one dial, whoever waited for it");
        assert_eq!(total(&collection, "httptrace.tls.handshake.duration", None), 1.0, "{alpn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_and_two_readers_agree() {
    let meters = Meters::new(2);
    let origin = Origin::plain().serve(hello);
    let clients = [0, 1].map(|_| Traced::new(origin.client_builder().meter_provider(&meters.provider)));
    for client in &clients {
        for _ in 0..2 {
            client.read(origin.url("/")).await.expect("a response");
            client.log.settled().await;
        }
        client.timelines(2).await;
    }
    for collection in meters.collect() {
        // The first of them ended the interval; the SDK tells the other reader what was observed then.
        let ratio: Vec<_> = collection["httptrace.connection.reuse_ratio"].points.iter().map(|p| p.sum).collect();
        assert_eq!(ratio, [0.5], "one host, whoever asked");
        assert_eq!(total(&collection, "httptrace.connection.acquisitions", None), 4.0, "each reader has the truth");
        assert_eq!(total(&collection, "http.client.request.duration", None), 4.0);
        assert_eq!(total(&collection, "http.client.active_requests", None), 0.0);
        let open = |state| total(&collection, "http.client.open_connections", Some(("http.connection.state", state)));
        assert_eq!((open("idle"), open("active")), (2.0, 0.0), "one of each client");
    }
}

/// One interval: so many requests at once to each, and what the meters and the origins say of it.
async fn interval(meters: &Meters, traced: &Traced, origins: &[(&Origin, &str, usize)]) {
    let used = || origins.iter().map(|(origin, ..)| origin.record().connections_used()).collect::<Vec<_>>();
    let before = used();
    let requests: Vec<_> = origins
        .iter()
        .flat_map(|(origin, host, requests)| (0..*requests).map(|_| origin.url_at(host, "/")))
        .map(|url| tokio::spawn(traced.read_later(url)))
        .collect();
    for request in requests {
        within("a response", request).await.expect("no panic").expect("a response");
    }
    traced.log.settled().await;
    let collection = meters.first();
    for (((origin, host, requests), before), after) in origins.iter().zip(before).zip(used()) {
        let port = origin.addr().port().to_string();
        let of_host = |name: &str| {
            let points = collection[name].points.iter();
            let mine = |point: &&super::reading::Point| {
                point.labels["server.address"] == *host && point.labels["server.port"] == port
            };
            points.filter(mine).map(|point| point.sum).collect::<Vec<_>>()
        };
        let reused = *requests - (after - before);
        assert_eq!(of_host("httptrace.connection.reuse_ratio"), [reused as f64 / *requests as f64], "{host}");
        assert_eq!(of_host("httptrace.request.pending"), [0.0], "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reuse_ratio_of_each_of_two_hosts_is_what_its_origin_counted_in_each_interval() {
    let meters = Meters::new(1);
    let (one, two) = (Origin::plain().serve(hello), Origin::plain().serve(hello));
    let resolver = FakeResolver::new().local("one.test").local("two.test");
    let builder = one.client_builder().resolver(Arc::new(resolver)).max_connections_per_host(4);
    let traced = Traced::new(builder.meter_provider(&meters.provider));
    interval(&meters, &traced, &[(&one, "one.test", 100), (&two, "two.test", 10)]).await;
    interval(&meters, &traced, &[(&one, "one.test", 7), (&two, "two.test", 30)]).await;
    traced.client.close_idle_connections();
    interval(&meters, &traced, &[(&one, "one.test", 1), (&two, "two.test", 12)]).await;
}
