//! Deaths at a proxy: each in its phase, with its type, and said to be the proxy's where it is.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use httptrace::{
    Client,
    dial::{Proxy, ProxyRefusal},
};

use super::{origin, relay::Speaks, relaying, scripted, steps, through};
use crate::{
    failures::assert_says,
    support::{
        certificate::Identity,
        client::Traced,
        dns::{Failure, FakeResolver},
        frames::{HEADERS, PREFACE, answer, frame},
        origin::{Origin, Refusing},
        pass,
        script::{
            Step::{self, AwaitClose, Close, Flood, Gate as AtGate, Read, ReadFrame, ReadHead, Reset, Stall},
            write,
        },
        timeline::ExpectedTimeline,
        within,
    },
};

const LIMIT: Duration = Duration::from_secs(600);

/// A client whose requests go to this script, as the proxy, and the error of one to `https://origin.test/`.
async fn asking(proxy: &Origin, scheme: &str) -> (Traced, httptrace::Error) {
    let resolver = FakeResolver::new().local("localhost").local("origin.test");
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver)).proxy(scripted(proxy, scheme)));
    let uri = http::Uri::from_static("https://origin.test/");
    let error = within("an error", traced.get(uri)).await.expect_err("no tunnel");
    (traced, error)
}

/// It died in `tunnel`, which is told with this status.
async fn assert_died_in_tunnel(traced: &Traced, scheme: &str, error_type: &str, status: Option<u16>) {
    let mut phases = steps(scheme, true);
    phases.pop();
    let expected = ExpectedTimeline::new().phases(phases).error("tunnel", error_type).outcome("none");
    expected.check(&traced.timeline().await);
    traced.log.settled().await.assert_paired();
    let status = status.map_or("None".to_owned(), |status| format!("Some({status})"));
    assert_eq!(traced.log.details("tunnel_done"), [format!("{status} error=tunnel/{error_type}")]);
    assert_eq!(traced.log.count("tls_handshake_start"), usize::from(scheme == "https"), "{}", traced.log);
}

#[tokio::test]
async fn a_proxy_that_refuses_says_why_and_it_dies_in_tunnel() {
    for (status, error_type) in [
        (403, "proxy_refused"),
        (407, "proxy_auth_required"),
        (502, "proxy_refused"),
        (302, "proxy_refused"),
        (404, "proxy_refused"),
    ] {
        for scheme in ["http", "https"] {
            for interim in ["", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"] {
                let head = format!("{interim}HTTP/1.1 {status} No\r\ncontent-length: 6\r\n\r\ngeheim");
                let script = [ReadHead, write(head), AwaitClose];
                let proxy = if scheme == "https" { Origin::tls_with_alpn(&["http/1.1"]) } else { Origin::plain() };
                let proxy = proxy.script(script);
                let (traced, error) = asking(&proxy, scheme).await;
                assert_says(&error, "tunnel", error_type, &["connect", "proxy"]);
                let source = std::error::Error::source(&error).expect("a cause");
                let refusal = source.downcast_ref::<ProxyRefusal>().expect("its own words");
                assert!(matches!(refusal, ProxyRefusal::Status(it) if it.as_u16() == status), "{refusal:?}");
                assert!(!format!("{error:?} {refusal}").contains("geheim"));
                assert_died_in_tunnel(&traced, scheme, error_type, Some(status)).await;
                proxy.until_closed(1).await;
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_of_a_proxy_dies_in_tunnel() {
    let endless = || Flood(Bytes::from("x-header: of an endless head\r\n".repeat(100)));
    let interim = || Flood(Bytes::from("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(10)));
    let scripts: Vec<(&str, Vec<Step>)> = vec![
        ("garbage", vec![ReadHead, write("what is this\r\n\r\n"), AwaitClose]),
        ("a closed connection", vec![ReadHead, Close]),
        ("a reset", vec![ReadHead, Reset]),
        ("half an answer", vec![ReadHead, write("HTTP/1.1 200 Connection esta"), Close]),
        ("an endless head", vec![ReadHead, write("HTTP/1.1 200 OK\r\n"), endless()]),
        ("endless interim responses", vec![ReadHead, interim()]),
        (
            "too many fields",
            vec![ReadHead, write(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101))), AwaitClose],
        ),
    ];
    for (what, script) in scripts {
        let proxy = Origin::plain().script(script);
        let (traced, error) = asking(&proxy, "http").await;
        println!("{what}: {error:?}");
        assert_says(&error, "tunnel", "proxy_protocol_error", &["connect", "proxy"]);
        assert_died_in_tunnel(&traced, "http", "proxy_protocol_error", None).await;
    }
}

#[tokio::test]
async fn what_a_socks_proxy_says_is_told_by_its_number() {
    let reply = |reply: u8| {
        vec![Read(3), write(vec![5, 0]), Read(18), write(vec![5, reply, 0, 1, 0, 0, 0, 0, 0, 0]), AwaitClose]
    };
    let mut scripts = vec![
        ("proxy_auth_required", Some(ProxyRefusal::SocksMethods), vec![Read(3), write(vec![5, 255]), AwaitClose]),
        // Asks for what was not offered.
        ("proxy_auth_required", Some(ProxyRefusal::SocksMethods), vec![Read(3), write(vec![5, 2]), AwaitClose]),
        ("proxy_protocol_error", None, vec![Read(3), write(vec![5, 7]), AwaitClose]),
        ("proxy_protocol_error", None, vec![Read(3), write("HTTP/1.1 400 Bad Request\r\n\r\n"), AwaitClose]),
        ("proxy_protocol_error", None, vec![Read(3), Close]),
        ("proxy_protocol_error", None, vec![Read(3), write(vec![5]), Close]),
        ("proxy_protocol_error", None, vec![Read(3), write(vec![5, 0]), Read(18), write(vec![5, 0, 0]), Close]),
        ("proxy_protocol_error", None, reply(99)),
    ];
    scripts.extend((1..=8).map(|number| ("proxy_refused", Some(ProxyRefusal::SocksReply(number)), reply(number))));
    for (error_type, refusal, script) in scripts {
        let proxy = Origin::plain().script(script);
        let (traced, error) = asking(&proxy, "socks5h").await;
        assert_says(&error, "tunnel", error_type, &["connect", "proxy"]);
        let source = std::error::Error::source(&error).expect("a cause");
        assert_eq!(source.downcast_ref::<ProxyRefusal>().copied(), refusal, "{source}");
        assert_died_in_tunnel(&traced, "socks5h", error_type, None).await;
        assert_eq!(proxy.accepted(), 1);
    }
}

#[tokio::test]
async fn a_proxy_that_is_silent_costs_the_connect_timeout() {
    for scheme in ["http", "socks5h"] {
        let script = if scheme == "http" { vec![ReadHead, Stall] } else { vec![Read(3), AtGate("asked"), Stall] };
        let proxy = Origin::plain().script(script);
        let traced = Traced::new(Client::builder().proxy(scripted(&proxy, scheme)).connect_timeout(LIMIT));
        let request = tokio::spawn(traced.get(http::Uri::from_static("https://origin.test/")));
        if scheme == "http" {
            proxy.until("a CONNECT", |record| record.requests.len() == 1).await;
        } else {
            within("a greeting", proxy.gate("asked").reached()).await;
        }
        pass(LIMIT).await;
        let error = within("an error", request).await.expect("no panic").expect_err("it is silent");
        assert_says(&error, "tunnel", "timeout", &["connect", "proxy", "timeout"]);
        assert_died_in_tunnel(&traced, scheme, "timeout", None).await;
    }
}

#[tokio::test]
async fn a_request_dropped_in_its_tunnel_is_canceled_there_and_the_dial_goes_on() {
    let proxy = Origin::plain().script([ReadHead, AtGate("answer"), write("HTTP/1.1 403 No\r\n\r\n"), AwaitClose]);
    let traced = Traced::new(Client::builder().proxy(scripted(&proxy, "http")));
    let request = tokio::spawn(traced.get(http::Uri::from_static("https://origin.test/")));
    within("a CONNECT", proxy.gate("answer").reached()).await;
    request.abort();
    let timeline = traced.timeline().await;
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect", "tunnel"]);
    expected.error("tunnel", "canceled").check(&timeline);
    proxy.gate("answer").open();
    traced.log.wait_for("tunnel_done", 1).await;
    assert_eq!(traced.log.details("tunnel_done"), ["Some(403) error=tunnel/proxy_refused"]);
    traced.log.settled().await.assert_paired();
}

#[tokio::test]
async fn a_request_timeout_in_the_tunnel_is_told_there() {
    let proxy = Origin::plain().script([ReadHead, Stall]);
    let traced =
        Traced::new(Client::builder().proxy(scripted(&proxy, "http")).timeout(LIMIT).connect_timeout(LIMIT * 2));
    let request = tokio::spawn(traced.get(http::Uri::from_static("https://origin.test/")));
    proxy.until("a CONNECT", |record| record.requests.len() == 1).await;
    pass(LIMIT).await;
    let error = within("an error", request).await.expect("no panic").expect_err("it is silent");
    assert_says(&error, "tunnel", "timeout", &["connect", "proxy", "timeout"]);
}

#[tokio::test]
async fn a_dead_proxy_dies_in_connect_and_its_unknown_name_in_dns() {
    for (scheme, https) in [("http", false), ("http", true), ("https", true), ("socks5h", false)] {
        let (refusing, resolver) = (Refusing::new(), FakeResolver::new().local("dead.test"));
        let proxy = |host: &str| Proxy::all(&format!("{scheme}://{host}:{}", refusing.addr().port())).expect("a URL");
        let url = http::Uri::from_static(if https { "https://origin.test/" } else { "http://origin.test/" });
        let resolver = resolver.fail("gone.test", Failure::HostNotFound);
        let builder = || Client::builder().resolver(Arc::new(resolver.clone()));
        let traced = Traced::new(builder().proxy(proxy("dead.test")));
        let error = traced.get(url.clone()).await.expect_err("nobody listens");
        assert_says(&error, "connect", "connection_refused", &["connect", "proxy"]);
        assert_eq!(error.to_string(), "connect: proxy: connection refused");
        assert!(
            std::error::Error::source(&error).is_some_and(|source| source.is::<std::io::Error>()),
            "the system's own"
        );
        let expected = ExpectedTimeline::new().phases(["get-connection", "dns", "connect"]);
        expected.error("connect", "connection_refused").check(&traced.timeline().await);
        traced.log.settled().await.assert_paired();
        let traced = Traced::new(builder().proxy(proxy("gone.test")));
        let error = traced.get(url).await.expect_err("no such name");
        assert_says(&error, "dns", "host_not_found", &["connect", "dns", "proxy"]);
        traced.log.settled().await.assert_paired();
    }
}

#[tokio::test]
async fn a_servers_unknown_name_is_not_the_proxys_and_reaches_no_proxy_by_socks5() {
    let proxy = relaying(Speaks::Socks, false);
    let resolver = FakeResolver::new().fail("gone.test", Failure::HostNotFound);
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver)).proxy(proxy.client_side("socks5", "")));
    let error = traced.get(http::Uri::from_static("http://gone.test/")).await.expect_err("no such name");
    assert_says(&error, "dns", "host_not_found", &["connect", "dns"]);
    assert_eq!(proxy.seen().accepted, 0);
}

#[tokio::test]
async fn a_server_that_the_proxy_can_not_reach_is_refused_or_answered_502() {
    let refusing = Refusing::new();
    for (speaks, scheme) in super::KINDS {
        let proxy = relaying(speaks, false);
        let resolver = FakeResolver::new().local("origin.test").local("localhost");
        let builder = Client::builder().resolver(Arc::new(resolver)).proxy(proxy.client_side(scheme, ""));
        let traced = Traced::new(builder);
        let url = format!("https://origin.test:{}/", refusing.addr().port());
        let error = traced.get(url.parse().expect("a URL")).await.expect_err("nobody listens");
        assert_says(&error, "tunnel", "proxy_refused", &["connect", "proxy"]);
        traced.log.settled().await.assert_paired();
    }
}

#[tokio::test]
async fn a_proxys_own_tls_fails_as_the_proxys() {
    // Its authority is nobody's, also where the client would take any certificate of a server.
    let identity = Identity::new(&["http/1.1"]);
    let proxy = Origin::tls_as(identity).script([ReadHead]);
    let url = format!("https://localhost:{}", proxy.addr().port());
    let resolver = Arc::new(FakeResolver::new().local("localhost"));
    let client = |proxy: Proxy| {
        let builder = Client::builder().resolver(Arc::clone(&resolver) as _).danger_accept_invalid_certs(true);
        Traced::new(builder.proxy(proxy))
    };
    for target in ["https://origin.test/", "http://origin.test/"] {
        let traced = client(Proxy::all(&url).expect("a URL"));
        let error = traced.get(http::Uri::from_static(target)).await.expect_err("nobody trusts it");
        assert_eq!((error.phase().as_str(), error.is_proxy()), ("tls", true), "{error:?}");
        assert!(error.error_type().starts_with("certificate_"), "{error:?}");
        let expected = ExpectedTimeline::new().phases(["get-connection", "dns", "connect", "tls"]);
        expected.error("tls", error.error_type()).check(&traced.timeline().await);
        traced.log.settled().await.assert_paired();
    }
    assert!(proxy.record().requests.is_empty(), "it is told nothing");
    let traced = client(Proxy::all(&url).expect("a URL").danger_accept_invalid_certs(true));
    let request = tokio::spawn(traced.get(http::Uri::from_static("https://origin.test/")));
    proxy.until("a CONNECT", |record| record.requests.len() == 1).await;
    request.abort();
    // One that speaks no TLS at all.
    let plain = Origin::plain().script([Read(1), write("HTTP/1.1 400 Bad Request\r\n\r\n"), AwaitClose]);
    let traced = client(Proxy::all(&format!("https://localhost:{}", plain.addr().port())).expect("a URL"));
    let error = traced.get(http::Uri::from_static("https://origin.test/")).await.expect_err("no TLS");
    assert_says(&error, "tls", "tls_protocol_error", &["connect", "proxy", "tls"]);
}

#[tokio::test]
async fn bytes_after_200_that_are_not_tls_die_in_tls() {
    let at_once = "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 this is not TLS\r\n\r\n";
    let scripts = [
        vec![ReadHead, write(at_once), AwaitClose],
        vec![
            ReadHead,
            write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"),
            Read(1),
            write("this is not TLS"),
            AwaitClose,
        ],
    ];
    for script in scripts {
        let proxy = Origin::plain().script(script);
        let (traced, error) = asking(&proxy, "http").await;
        assert_says(&error, "tls", "tls_protocol_error", &["connect", "tls"]);
        let expected = ExpectedTimeline::new().phases(steps("http", true)).error("tls", "tls_protocol_error");
        expected.check(&traced.timeline().await);
        traced.log.settled().await.assert_paired();
        assert_eq!(traced.log.details("tunnel_done"), ["Some(200) "]);
    }
}

// mutant: dial/tunnel.rs, `with_unread`: always the bare socket → still waiting
#[tokio::test]
async fn what_a_server_says_at_once_behind_the_proxys_200_is_heard() {
    let settings = frame(4, 0, 0, &[]);
    let first = [b"HTTP/1.0 200 Connection established\r\nproxy-agent: test\r\n\r\n".as_slice(), &settings].concat();
    let proxy = Origin::plain().script([
        ReadHead,
        write(first),
        Read(PREFACE),
        ReadFrame(HEADERS, 1),
        answer(1, "hello"),
        AwaitClose,
    ]);
    let traced = Traced::new(Client::builder().http2_prior_knowledge().proxy(scripted(&proxy, "http")));
    let body = traced.read(http::Uri::from_static("http://origin.test/")).await;
    assert_eq!(body.expect("an answer"), "hello");
    assert_eq!(traced.timeline().await.connection.expect("a connection").info.peer, Some(proxy.addr()));
}

#[tokio::test]
async fn a_tunnel_that_was_closed_while_idle_is_not_used_again() {
    let (origin, proxy) = (origin(true), relaying(Speaks::Https, false));
    let traced = Traced::new(through(&origin, proxy.client_side("https", "")).0);
    traced.read(origin.url_at("origin.test", "/")).await.expect("an answer");
    traced.log.settled().await;
    drop(proxy);
    traced.log.wait_for("conn_closed", 1).await;
    let error = traced.read(origin.url_at("origin.test", "/")).await.expect_err("no proxy any more");
    assert_says(&error, "connect", "connection_refused", &["connect", "proxy"]);
    traced.log.settled().await.assert_paired_over(2);
}
