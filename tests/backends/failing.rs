//! What is red in Jaeger: the phase that died and what it is part of, and nothing else.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use httptrace::{Client, ClientBuilder};

use crate::{
    scene::{PROTOCOLS, Scene},
    support::{
        dns::{Failure, FakeResolver},
        origin::{Origin, Refusing},
        script::{
            Step::{Close, ReadHead},
            write,
        },
    },
    waterfalls::hello,
};

/// A request to this place, alone in a Jaeger: its picture, and `error.type` wherever it is.
async fn picture(builder: impl Fn() -> ClientBuilder, url: Uri) -> (String, Vec<String>) {
    let mut pictures = Vec::new();
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(protocol).await;
        let traced = scene.client(builder());
        let _ = traced.read(url.clone()).await;
        let traces = scene.traces(&traced).await;
        let [trace] = &traces[..] else { panic!("one trace, not {}", traces.len()) };
        trace.assert_readable("GET");
        let failed = trace.rows().into_iter().filter_map(|span| {
            let error_type = span.tag("error.type")?;
            assert_eq!(span.is_error(), error_type != "canceled", "{span:#?}");
            Some(format!("{} {error_type}", span.name))
        });
        pictures.push((trace.to_string(), failed.collect()));
    }
    let [grpc, http]: [_; 2] = pictures.try_into().expect("one for each protocol");
    assert_eq!(grpc, http, "the same by either protocol");
    grpc
}

fn rows(rows: &[&str], error_type: &str) -> Vec<String> {
    rows.iter().map(|row| format!("{row} {error_type}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_refused_connect_is_red_and_all_above_it() {
    let refusing = Refusing::new();
    let resolver = || Client::builder().resolver(Arc::new(FakeResolver::new().local("gone.test")));
    let url = format!("http://gone.test:{}/", refusing.addr().port()).parse().expect("a URL");
    let (tree, failed) = picture(resolver, url).await;
    assert_eq!(tree, "GET !\n  get-connection !\n    dns\n    connect !\n");
    assert_eq!(failed, rows(&["GET", "get-connection", "connect"], "connection_refused"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_name_that_does_not_exist_is_red_in_dns() {
    let resolver =
        || Client::builder().resolver(Arc::new(FakeResolver::new().fail("none.test", Failure::HostNotFound)));
    let (tree, failed) = picture(resolver, "http://none.test/".parse().expect("a URL")).await;
    assert_eq!(tree, "GET !\n  get-connection !\n    dns !\n");
    assert_eq!(failed, rows(&["GET", "get-connection", "dns"], "host_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_certificate_that_is_not_trusted_is_red_in_tls() {
    let (origin, other) = (Origin::tls().serve(hello), Origin::tls().serve(hello));
    let builder = || {
        let resolver = FakeResolver::new().local("origin.test");
        Client::builder().root_certificates(vec![other.root_certificate()]).resolver(Arc::new(resolver))
    };
    let (tree, failed) = picture(builder, origin.url_at("origin.test", "/")).await;
    assert_eq!(tree, "GET !\n  get-connection !\n    dns\n    connect\n    tls !\n");
    assert_eq!(failed, rows(&["GET", "get-connection", "tls"], "certificate_untrusted"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn an_address_that_another_one_made_good_is_red_alone() {
    let origin = Origin::plain().serve(hello);
    let addrs = [IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let builder = || Client::builder().resolver(Arc::new(FakeResolver::new().answer("two.test", addrs)));
    let (tree, failed) = picture(builder, origin.url_at("two.test", "/")).await;
    let set_up = "GET\n  get-connection\n    dns\n    connect !\n    connect\n";
    assert_eq!(tree, format!("{set_up}  request-write\n  response-wait\n  response-read\n"));
    assert_eq!(failed.len(), 1, "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_body_that_breaks_off_is_red_in_response_read() {
    let half = write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    let origin = Origin::plain().script([ReadHead, half, Close]);
    let (tree, failed) = picture(|| origin.client_builder(), origin.url("/")).await;
    let good = "GET !\n  get-connection\n    connect\n  request-write\n  response-wait\n";
    assert_eq!(tree, format!("{good}  response-read !\n"));
    assert_eq!(failed, rows(&["GET", "response-read"], "body_incomplete"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_status_of_500_is_red_on_the_request_alone() {
    let origin = Origin::plain().serve(|_: Request<_>| async {
        let response = Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR);
        response.body(Full::from("broken")).expect("a response")
    });
    let (tree, failed) = picture(|| origin.client_builder(), origin.url("/")).await;
    let rest = "  get-connection\n    connect\n  request-write\n  response-wait\n  response-read\n";
    assert_eq!(tree, format!("GET !\n{rest}"));
    assert_eq!(failed, ["GET 500"]);
}
