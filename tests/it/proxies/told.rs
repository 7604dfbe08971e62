//! What is told of a way through a proxy: spans, moments, the client's connector, Unix sockets.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use httptrace::{Client, dial::Proxy};
use opentelemetry::trace::SpanKind;
use tokio::io::AsyncReadExt;

use super::{
    origin,
    relay::{Speaks, USERINFO},
    relaying, scripted, through,
};
use crate::{
    connector::Pipes,
    spans::scene::Scene,
    support::{
        client::{Traced, read},
        origin::Origin,
        script::{
            Step::{AwaitClose, Gate as AtGate, Read, ReadHead},
            write,
        },
        spans::ExpectedSpan,
        timeline::ExpectedTimeline,
        within,
    },
};

#[tokio::test]
async fn tls_inside_of_tls_is_two_spans_and_no_address_is_anothers() {
    let (origin, proxy) = (origin(true), relaying(Speaks::Https, true));
    let (builder, _) = through(&origin, proxy.client_side("https", USERINFO));
    let scene = Scene::new(builder);
    scene.traced.read(origin.url_at("origin.test", "/")).await.expect("an answer");
    let spans = scene.spans(1, 10).await;
    assert_eq!(
        spans.to_string(),
        "GET\n  get-connection\n    dns\n    connect\n    tls\n    tunnel\n    tls\n  request-write\n  response-wait\n  response-read\n"
    );
    let (server, way) = (i64::from(origin.addr().port()), i64::from(proxy.addr().port()));
    ExpectedSpan::new()
        .kind(SpanKind::Client)
        .with("server.address", "origin.test")
        .with("server.port", server)
        .with("network.peer.address", "127.0.0.1")
        .with("network.peer.port", way)
        .with("httptrace.connection.proxy", format!("https://localhost:{way}"))
        .check(spans.only("GET"));
    ExpectedSpan::new().with("dns.question.name", "localhost").check(spans.only("dns"));
    ExpectedSpan::new().with("network.peer.port", way).check(spans.only("connect"));
    ExpectedSpan::new()
        .under(spans.only("get-connection"))
        .with("server.address", "localhost")
        .with("server.port", way)
        .with("http.response.status_code", 200)
        .check(spans.only("tunnel"));
    let [outer, inner] = *spans.named("tls") else { panic!("two handshakes\n{spans}") };
    ExpectedSpan::new().with("server.address", "localhost").with("tls.next_protocol", "http/1.1").check(outer);
    ExpectedSpan::new().with("server.address", "origin.test").check(inner);
}

#[tokio::test]
async fn a_refused_tunnel_marks_its_span_and_all_above_it() {
    let proxy = Origin::plain().script([ReadHead, write("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n"), AwaitClose]);
    let scene = Scene::new(Client::builder().proxy(scripted(&proxy, "http")));
    scene.traced.read(http::Uri::from_static("https://origin.test/")).await.expect_err("no tunnel");
    let spans = scene.spans(1, 4).await;
    assert_eq!(spans.to_string(), "GET\n  get-connection\n    connect\n    tunnel\n");
    ExpectedSpan::new().check(spans.only("connect"));
    for name in ["GET", "get-connection"] {
        ExpectedSpan::new().error("proxy_refused").check(spans.only(name));
    }
    ExpectedSpan::new().error("proxy_refused").with("http.response.status_code", 403).check(spans.only("tunnel"));
}

// mutants: transport.rs: `holds_back` without the proxy's TLS, or `last_write` not of the lowest socket → early or absent
#[tokio::test]
async fn marks_are_those_of_the_socket_below_a_proxys_tls() {
    const LENGTH: usize = 16 << 20;
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let script = [ReadHead, AtGate("body"), Read(LENGTH), write(OK), AwaitClose];
    let proxy = Origin::tls_with_alpn(&["http/1.1"]).script(script);
    let traced = Traced::new(through(&proxy, scripted(&proxy, "https")).0);
    let request = Request::post("http://origin.test/").body(Full::new(Bytes::from(vec![b'x'; LENGTH])));
    let response = tokio::spawn(traced.client.request(request.expect("a request")));
    traced.log.wait_for("wrote_headers", 1).await;
    within("the head at the proxy", proxy.gate("body").reached()).await;
    assert_eq!(traced.log.count("wrote_request"), 0, "{}", traced.log);
    proxy.gate("body").open();
    read(response.await.expect("no panic").expect("a response")).await.expect("a body");
    traced.log.settled().await.assert_paired();
    let phases = ["get-connection", "dns", "connect", "tls", "request-write", "response-wait", "response-read"];
    ExpectedTimeline::new().phases(phases).check(&traced.timeline().await);
}

#[tokio::test]
async fn a_connector_is_asked_for_the_proxy() {
    let proxy = relaying(Speaks::Http, false);
    let (origin, to) = (origin(true), proxy.addr());
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&asked);
    let pipes = Pipes::new(move |uri| {
        told.lock().expect("no panic").push(uri.to_string());
        async move {
            let (client, mut server) = tokio::io::duplex(4096);
            let mut tcp = tokio::net::TcpStream::connect(to).await?;
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut server, &mut tcp).await });
            Ok(client)
        }
    });
    let (builder, _) = through(&origin, Proxy::all("http://proxy.test:3128").expect("a URL"));
    let traced = Traced::new(builder.connector(pipes));
    assert_eq!(traced.read(origin.url_at("origin.test", "/")).await.expect("an answer"), "hello");
    assert_eq!(*asked.lock().expect("no panic"), ["http://proxy.test:3128/"]);
    assert_eq!(proxy.seen().asked, [format!("CONNECT origin.test:{}", origin.addr().port())]);
    let phases = ["get-connection", "connect", "tunnel", "tls", "request-write", "response-wait", "response-read"];
    ExpectedTimeline::new().phases(phases).check(&traced.timeline().await);
    traced.log.settled().await.assert_paired();
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_takes_the_place_of_the_network() {
    use tokio::io::AsyncWriteExt;
    let path = std::env::temp_dir().join(format!("httptrace-{}.sock", std::process::id()));
    let listener = tokio::net::UnixListener::bind(&path).expect("a path of its own");
    let traced = Traced::new(Client::builder().unix_socket(&path));
    let serving = tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a connection");
        for _ in 0..2 {
            let mut head = vec![0; 4096];
            let length = client.read(&mut head).await.expect("a request");
            assert!(head[..length].starts_with(b"GET / HTTP/1.1\r\nhost: no.such.name\r\n"), "{head:?}");
            client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("a reader");
        }
    });
    for _ in 0..2 {
        assert_eq!(traced.read(http::Uri::from_static("http://no.such.name/")).await.expect("an answer"), "ok");
        traced.log.settled().await;
    }
    serving.await.expect("one connection for both");
    std::fs::remove_file(&path).expect("it is there");
    let timelines = traced.timelines(2).await;
    let phases = ["get-connection", "connect", "request-write", "response-wait", "response-read"];
    ExpectedTimeline::new().phases(phases).outcome("new").check(&timelines[0]);
    ExpectedTimeline::new().outcome("idle").reused(true).check(&timelines[1]);
    let traced = Traced::new(Client::builder().unix_socket(&path));
    let error = traced.read(http::Uri::from_static("http://no.such.name/")).await.expect_err("no such file");
    assert_eq!((error.phase().as_str(), error.error_type()), ("connect", "connect_failed"));
}
