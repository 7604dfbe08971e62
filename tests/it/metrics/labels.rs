//! Which labels there are: a closed set of keys, and values that nobody outside can make more of.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::{Method, Request};
use http_body_util::Full;

use super::reading::{Meters, total};
use crate::{
    spans::scene::hello,
    support::{
        client::{Traced, read},
        dns::FakeResolver,
        origin::{Origin, Refusing},
    },
};

const KEYS: [&str; 15] = [
    "dns.question.name",
    "error.type",
    "http.connection.state",
    "http.request.method",
    "http.response.status_code",
    "httptrace.connection.close_reason",
    "httptrace.connection.reused",
    "httptrace.error.phase",
    "httptrace.idle.outcome",
    "network.protocol.version",
    "network.type",
    "server.address",
    "server.port",
    "tls.protocol.version",
    "tls.resumed",
];

/// All values of each label of each metric.
fn labels(meters: &Meters) -> BTreeMap<String, BTreeSet<String>> {
    let mut labels = BTreeMap::<String, BTreeSet<String>>::new();
    for point in meters.first().values().flat_map(|seen| &seen.points) {
        for (key, value) in &point.labels {
            labels.entry(key.clone()).or_default().insert(value.clone());
        }
    }
    labels
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_the_labels_stay_few() {
    let meters = Meters::new(1);
    let origin = Origin::plain().serve(hello);
    let refusing = Refusing::new();
    let resolver = FakeResolver::new().local("origin.test");
    let builder = origin.client_builder().resolver(Arc::new(resolver)).meter_provider(&meters.provider);
    let traced = Traced::new(builder);
    let port = origin.addr().port();
    let methods = ["GET", "get", "planted-1", "PLANTED-2", "BREW", "x!#$%&'*+-.^_`|~"];
    for (n, method) in methods.iter().enumerate() {
        for host in ["origin.test", "ORIGIN.test", "planted:planted@origin.test"] {
            let url = format!("http://{host}:{port}/planted/{n}?planted={n}");
            let request = Request::builder()
                .method(Method::from_bytes(method.as_bytes()).expect("a token"))
                .uri(url)
                .header(format!("x-planted-{n}"), "planted")
                .body(Full::from("planted"))
                .expect("a request");
            read(traced.client.request(request).await.expect("a response")).await.expect("its body");
        }
    }
    let dead = format!("http://planted@{}/planted", refusing.addr()).parse().expect("a URL");
    traced.read(dead).await.expect_err("nobody listens");
    traced.read("http://MISSING.test/planted".parse().expect("a URL")).await.expect_err("no such host");
    traced.log.settled().await;
    traced.client.close_idle_connections();
    traced.log.wait_for("conn_closed", 1).await;
    traced.timelines(methods.len() * 3 + 2).await;

    let labels = labels(&meters);
    for (key, values) in &labels {
        assert!(KEYS.contains(&key.as_str()), "{key}");
        for value in values {
            assert!(!value.to_lowercase().contains("planted"), "{key}={value}");
            // A label is the host's name or the family of its address, not who answered there.
            assert!(key.starts_with("server.") || !value.contains("127.0.0.1"), "{key}={value}");
        }
    }
    let values = |key: &str| labels[key].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(values("http.request.method"), ["GET", "_OTHER"]);
    assert_eq!(
        values("server.address"),
        ["127.0.0.1", "missing.test", "origin.test"],
        "one name however it is written"
    );
    assert_eq!(values("dns.question.name"), ["missing.test", "origin.test"]);
    assert_eq!(values("error.type"), ["connection_refused", "host_not_found"]);
    assert_eq!(values("httptrace.error.phase"), ["connect", "dns"]);
    let others = Some(("http.request.method", "_OTHER"));
    assert_eq!(total(&meters.first(), "http.client.request.duration", others), 15.0);
}
