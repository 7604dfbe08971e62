//! What goes up comes down again: after failures in every phase, and after a shutdown.

use std::sync::Arc;

use http::Request;

use super::reading::{Meters, total};
use crate::{
    spans::scene::hello,
    support::{
        PATIENCE,
        client::Traced,
        dns::FakeResolver,
        gate::Gate,
        origin::{Origin, Refusing},
        script::Step::{Close, ReadHead},
        script::write,
    },
};

const LEVELS: [&str; 3] = ["http.client.active_requests", "httptrace.request.pending", "http.client.open_connections"];

/// The levels of the metrics that go up and down.
pub(super) fn levels(meters: &Meters) -> [f64; 3] {
    let collection = meters.first();
    LEVELS.map(|name| total(&collection, name, None))
}

/// One failing request; everything is at zero when it is over, and its pool closed.
async fn fails(meters: &Meters, builder: httptrace::ClientBuilder, url: http::Uri, error_type: &str) {
    let traced = Traced::new(builder.meter_provider(&meters.provider));
    let error = traced.read(url).await.expect_err(error_type);
    assert_eq!(error.error_type(), error_type);
    traced.timelines(1).await;
    assert_eq!(levels(meters)[..2], [0.0; 2], "{error_type}: neither under way nor waiting");
    traced.client.shutdown(PATIENCE).await;
    assert_eq!(levels(meters), [0.0; 3], "{error_type}");
    let collection = meters.first();
    let failed = Some(("error.type", error_type));
    assert_eq!(total(&collection, "http.client.request.duration", failed), 1.0, "{error_type}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_up_comes_down_after_a_failure_in_any_phase() {
    let meters = Meters::new(1);
    let origin = Origin::plain().serve(hello);
    fails(&meters, origin.client_builder(), origin.url_at("missing.test", "/"), "host_not_found").await;

    let refusing = Refusing::new();
    let url = format!("http://{}/", refusing.addr()).parse().expect("a URL");
    fails(&meters, origin.client_builder(), url, "connection_refused").await;

    let tls = Origin::tls().serve(hello);
    let untrusting = httptrace::Client::builder()
        .resolver(Arc::new(FakeResolver::new().local("origin.test")))
        .root_certificates(vec![Origin::tls().serve(hello).root_certificate()]);
    fails(&meters, untrusting, tls.url_at("origin.test", "/"), "certificate_untrusted").await;

    for (answer, error_type) in [
        ("", "connection_closed"),
        ("nonsense\r\n\r\n", "malformed_response"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "body_incomplete"),
    ] {
        let origin = Origin::plain().script([ReadHead, write(answer), Close]);
        fails(&meters, origin.client_builder(), origin.url("/"), error_type).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_dropped_half_read_counts_as_under_way_until_then() {
    let meters = Meters::new(1);
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")]);
    let traced = Traced::new(origin.client_builder().meter_provider(&meters.provider));
    let response = traced.get(origin.url("/")).await.expect("a head");
    assert_eq!(levels(&meters), [1.0, 0.0, 1.0]);
    drop(response);
    traced.timelines(1).await;
    assert_eq!(levels(&meters)[..2], [0.0; 2]);
    traced.client.shutdown(PATIENCE).await;
    assert_eq!(levels(&meters), [0.0; 3]);
}

#[test]
fn what_goes_up_comes_down_when_the_runtime_dies() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("one");
    for alpn in ["http/1.1", "h2"] {
        let (meters, answer, servers, clients) = (Meters::new(1), Gate::new(), runtime(), runtime());
        let held = answer.clone();
        let origin = servers.block_on(async {
            Origin::tls_with_alpn(&[alpn]).serve(move |request: Request<hyper::body::Incoming>| {
                let held = held.clone();
                async move {
                    if request.uri().path() == "/held" {
                        held.wait().await;
                    }
                    hello(request).await
                }
            })
        });
        let traced = Traced::new(origin.client_builder().meter_provider(&meters.provider));
        clients.block_on(async {
            traced.read(origin.url("/")).await.expect("a response");
            traced.log.settled().await;
            tokio::spawn(traced.read_later(origin.url("/held")));
            answer.reached().await;
        });
        assert_eq!(levels(&meters), [1.0, 0.0, 1.0], "{alpn}");
        drop(clients);
        assert_eq!(levels(&meters), [0.0; 3], "{alpn}");
    }
}
