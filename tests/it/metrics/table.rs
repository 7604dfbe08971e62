//! Each metric against a table: name, kind, unit, buckets and attributes, to the letter.

use http::{Method, Request};
use http_body_util::Full;

use super::reading::{Meters, Seen};
use crate::{
    spans::scene::hello,
    support::{client::Traced, client::read, origin::Origin},
};

const SECONDS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const LONG: &[f64] = &[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
const COUNTS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 10_000.0];
const BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
    1073741824.0,
];

const REQUEST: &str =
    "http.request.method http.response.status_code network.protocol.version server.address server.port";
const SERVER: &str = "server.address server.port";

/// Name, kind, unit, buckets, and the attributes beside each other's.
type Row = (&'static str, &'static str, &'static str, &'static [f64], &'static str);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("dns.lookup.duration", "histogram", "s", SECONDS, "dns.question.name"),
    ("http.client.active_requests", "up-down", "{request}", &[], "http.request.method server.address server.port"),
    ("http.client.connection.duration", "histogram", "s", LONG, "network.protocol.version server.address server.port"),
    ("http.client.open_connections", "up-down", "{connection}", &[], "http.connection.state network.protocol.version server.address server.port"),
    ("http.client.request.body.size", "histogram", "By", BYTES, REQUEST),
    ("http.client.request.duration", "histogram", "s", SECONDS, REQUEST),
    ("http.client.response.body.size", "histogram", "By", BYTES, REQUEST),
    ("httptrace.connect.duration", "histogram", "s", SECONDS, "network.type server.address server.port"),
    ("httptrace.connection.acquisitions", "counter", "{acquisition}", &[], "httptrace.connection.reused server.address server.port"),
    ("httptrace.connection.idle.duration", "histogram", "s", LONG, "httptrace.idle.outcome server.address server.port"),
    ("httptrace.connection.requests", "histogram", "{request}", COUNTS, "httptrace.connection.close_reason server.address server.port"),
    ("httptrace.connection.reuse_ratio", "gauge", "1", &[], SERVER),
    ("httptrace.request.pending", "up-down", "{request}", &[], SERVER),
    ("httptrace.request.queue.duration", "histogram", "s", SECONDS, SERVER),
    ("httptrace.request.time_to_first_byte", "histogram", "s", SECONDS, REQUEST),
    ("httptrace.tls.handshake.duration", "histogram", "s", SECONDS, "server.address server.port tls.protocol.version tls.resumed"),
];

fn row<'a>(name: &'a str, seen: &'a Seen) -> (&'a str, &'a str, &'a str, &'a [f64], Vec<String>) {
    let mut labels: Vec<_> =
        seen.points.iter().map(|p| p.labels.keys().cloned().collect::<Vec<_>>().join(" ")).collect();
    labels.dedup();
    (name, seen.kind, &seen.unit, &seen.bounds, labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_as_the_table_says() {
    let meters = Meters::new(1);
    let origin = Origin::tls_with_alpn(&["http/1.1"]).serve(hello);
    let traced = Traced::new(origin.client_builder().meter_provider(&meters.provider));
    let url = origin.url_at("origin.test", "/");
    for _ in 0..2 {
        let request = Request::builder().method(Method::POST).uri(&url).body(Full::from("ping")).expect("a request");
        read(traced.client.request(request).await.expect("a response")).await.expect("its body");
        traced.log.settled().await;
    }
    traced.client.close_idle_connections();
    traced.log.wait_for("conn_closed", 1).await;
    traced.timelines(2).await;
    let collection = meters.first();
    let found: Vec<_> = collection.iter().map(|(name, seen)| row(name, seen)).collect();
    let wanted: Vec<_> = TABLE
        .iter()
        .map(|(name, kind, unit, bounds, labels)| (*name, *kind, *unit, *bounds, vec![(*labels).to_owned()]))
        .collect();
    assert_eq!(found, wanted);
    for (name, seen) in &collection {
        let convention = DESCRIPTIONS.iter().find(|(known, _)| known == name);
        assert!(!seen.description.is_empty(), "{name}");
        assert!(convention.is_none_or(|(_, text)| seen.description == *text), "{name}: {}", seen.description);
    }
    for point in collection.values().flat_map(|seen| &seen.points) {
        let port = origin.addr().port().to_string();
        for (key, value) in [("server.address", "origin.test"), ("server.port", &port), ("tls.resumed", "false")] {
            assert!(point.labels.get(key).is_none_or(|found| found == value), "{point:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_is_counted_once() {
    let meters = Meters::new(1);
    let origin = Origin::tls_with_alpn(&["http/1.1"]).serve(hello);
    let traced = Traced::new(origin.client_builder().meter_provider(&meters.provider));
    for _ in 0..3 {
        traced.read(origin.url_at("origin.test", "/")).await.expect("a response");
        traced.log.settled().await;
    }
    traced.client.close_idle_connections();
    traced.log.wait_for("conn_closed", 1).await;
    traced.timelines(3).await;
    let collection = meters.first();
    let points = |name: &str| {
        let points = collection.get(name).map_or(&[][..], |seen| &seen.points);
        let label = |point: &super::reading::Point, key: &str| point.labels.get(key).cloned().unwrap_or_default();
        let mut all: Vec<_> = points
            .iter()
            .map(|p| {
                (label(p, "httptrace.idle.outcome") + &label(p, "httptrace.connection.close_reason"), p.count, p.sum)
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    for once in [
        "dns.lookup.duration",
        "httptrace.connect.duration",
        "httptrace.tls.handshake.duration",
        "http.client.connection.duration",
    ] {
        let [(_, count, sum)] = &points(once)[..] else { panic!("{once}: {:?}", points(once)) };
        assert!(*count == 1.0 && *sum > 0.0, "{once}: {count} {sum}");
    }
    assert_eq!(points("httptrace.connection.requests"), [("pool_closed".to_owned(), 1.0, 3.0)]);
    let idle: Vec<_> =
        points("httptrace.connection.idle.duration").into_iter().map(|(outcome, count, _)| (outcome, count)).collect();
    assert_eq!(idle, [("closed".to_owned(), 1.0), ("reused".to_owned(), 2.0)]);
    assert_eq!(points("httptrace.request.queue.duration")[0].1, 3.0, "zero waits too");
    assert_eq!(points("http.client.request.body.size"), [], "no body, no size");
    assert_eq!(points("http.client.response.body.size")[0].1, 3.0);
}

/// The conventions' own words for their metrics.
const DESCRIPTIONS: [(&str, &str); 7] = [
    ("dns.lookup.duration", "Measures the time taken to perform a DNS lookup."),
    ("http.client.active_requests", "Number of active HTTP requests."),
    ("http.client.connection.duration", "The duration of the successfully established outbound HTTP connections."),
    (
        "http.client.open_connections",
        "Number of outbound HTTP connections that are currently active or idle on the client.",
    ),
    ("http.client.request.body.size", "Size of HTTP client request bodies."),
    ("http.client.request.duration", "Duration of HTTP client requests."),
    ("http.client.response.body.size", "Size of HTTP client response bodies."),
];

/// The rows of the page of metrics: name, kind and unit, meaning, attributes.
fn documented() -> Vec<[&'static str; 4]> {
    let page = include_str!("../../../src/views/metrics.rs");
    let rows = page.lines().filter_map(|line| line.strip_prefix("//! | `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_end_matches(" |").split(" | ").collect();
        let [name, kind, meaning, attributes] = cells[..] else { panic!("four cells: {row}") };
        [name.trim_end_matches('`'), kind, meaning, attributes]
    })
    .collect()
}

#[test]
fn every_metric_has_a_row_of_documentation_and_every_row_a_metric() {
    // `every_metric_is_as_the_table_says` holds the table against what is registered.
    let mut rows: Vec<_> = documented().iter().map(|[name, kind, ..]| (*name, (*kind).to_owned())).collect();
    rows.sort();
    let mut table: Vec<_> = TABLE.iter().map(|(name, kind, unit, ..)| (*name, format!("{kind}, {unit}"))).collect();
    table.sort();
    assert_eq!(rows, table);
    for [name, _, meaning, attributes] in documented() {
        assert!(meaning.contains('?'), "which question does {name} answer? {meaning}");
        assert!(!attributes.is_empty(), "{name}");
    }
}
