//! Every kind of proxy × `http` and `https` × credentials: what the proxy is asked, what the record says, and that the
//! second request asks for nothing any more.

use http::header::{HOST, PROXY_AUTHORIZATION};

use super::{
    KINDS, origin,
    relay::{Speaks, USERINFO, until_asked},
    relaying, steps, through,
};
use crate::{
    failures::assert_says,
    support::{
        client::{Traced, read},
        origin::Origin,
        timeline::ExpectedTimeline,
    },
};

/// What the proxy is asked for by one request, or by the tunnel for any number.
fn asked(scheme: &str, origin: &Origin, path: &str) -> String {
    let port = origin.addr().port();
    match scheme {
        "socks5" => format!("SOCKS 127.0.0.1:{port}"),
        "socks5h" => format!("SOCKS origin.test:{port}"),
        _ if origin.is_tls() => format!("CONNECT origin.test:{port}"),
        _ => format!("GET http://origin.test:{port}{path}"),
    }
}

// mutants: dial/proxy.rs, `asked`: socks5 looks names up there → the SOCKS line; client/head.rs: no `whole` → the GET line,
// no `name_self` → 407
#[tokio::test]
async fn every_kind_of_proxy_leads_to_every_kind_of_server_and_is_asked_once() {
    for (speaks, scheme) in KINDS {
        for https in [false, true] {
            for guarded in [false, true] {
                let (origin, proxy) = (origin(https), relaying(speaks, guarded));
                let userinfo = if guarded { USERINFO } else { "" };
                let (builder, resolver) = through(&origin, proxy.client_side(scheme, userinfo));
                let traced = Traced::new(builder);
                for path in ["/a?b=c", "/b"] {
                    assert_eq!(traced.read(origin.url_at("origin.test", path)).await.expect("an answer"), "hello");
                    traced.log.settled().await;
                }
                let what = format!("{scheme}, https: {https}, guarded: {guarded}");
                let seen = proxy.seen();
                let forwarded = !https && speaks != Speaks::Socks;
                let second = forwarded.then(|| asked(scheme, &origin, "/b"));
                let expected: Vec<_> = [asked(scheme, &origin, "/a?b=c")].into_iter().chain(second).collect();
                assert_eq!(seen.asked, expected, "{what}");
                assert_eq!(seen.accepted, 1, "{what}");
                for headers in &seen.headers {
                    assert_eq!(headers[HOST], format!("origin.test:{}", origin.addr().port()), "{what}");
                    assert_eq!(headers.contains_key(PROXY_AUTHORIZATION), guarded, "{what}");
                }
                let reached = origin.record();
                assert!(reached.requests.iter().all(|it| !it.headers.contains_key(PROXY_AUTHORIZATION)), "{what}");
                let lookups = (resolver.lookups("localhost"), resolver.lookups("origin.test"));
                assert_eq!(lookups, (usize::from(scheme == "https"), usize::from(scheme == "socks5")), "{what}");
                let timelines = traced.timelines(2).await;
                let exchange = ["request-write", "response-wait", "response-read"];
                let cold = steps(scheme, https).into_iter().chain(exchange);
                ExpectedTimeline::new().phases(cold).outcome("new").idle_return("pooled").check(&timelines[0]);
                ExpectedTimeline::new().phases(exchange).outcome("idle").reused(true).check(&timelines[1]);
                for timeline in &timelines {
                    let info = &timeline.connection.as_ref().expect("a connection").info;
                    assert_eq!((info.peer, info.tls.is_some()), (Some(proxy.addr()), https), "{what}");
                    let told = info.proxy.as_ref().expect("a proxy");
                    assert_eq!((told.text(), told.forwards), (&*proxy.url(scheme, ""), forwarded), "{what}");
                }
                traced.log.assert_paired_over(2);
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_that_wants_other_credentials_says_so_in_tunnel_or_answers_407_itself() {
    for (speaks, scheme) in KINDS {
        for https in [false, true] {
            for userinfo in ["", "joe:wrong@"] {
                let (origin, proxy) = (origin(https), relaying(speaks, true));
                let traced = Traced::new(through(&origin, proxy.client_side(scheme, userinfo)).0);
                let response = traced.get(origin.url_at("origin.test", "/")).await;
                if !https && speaks != Speaks::Socks {
                    let response = response.expect("the proxy's own answer");
                    assert_eq!(response.status(), 407);
                    read(response).await.expect("a body");
                    continue;
                }
                let error = response.expect_err("no tunnel");
                assert_says(&error, "tunnel", "proxy_auth_required", &["connect", "proxy"]);
                let mut phases = steps(scheme, https);
                phases.truncate(phases.len() - usize::from(https));
                let expected = ExpectedTimeline::new().phases(phases).error("tunnel", "proxy_auth_required");
                expected.outcome("none").check(&traced.timeline().await);
                traced.log.settled().await.assert_paired();
                assert_eq!((origin.accepted(), proxy.seen().accepted), (0, 1));
                let status = if speaks == Speaks::Socks { "None" } else { "Some(407)" };
                assert_eq!(traced.log.details("tunnel_done"), [format!("{status} error=tunnel/proxy_auth_required")]);
            }
        }
    }
}

#[tokio::test]
async fn a_url_with_credentials_keeps_them_from_the_request_line_and_gives_each_its_own() {
    let (origin, proxy) = (origin(false), relaying(Speaks::Http, true));
    let traced = Traced::new(through(&origin, proxy.client_side("http", USERINFO)).0);
    let url = origin.url_at("user:pass@origin.test", "");
    traced.read(url).await.expect("an answer");
    assert_eq!(proxy.seen().asked, [format!("GET http://origin.test:{}/", origin.addr().port())]);
    assert_eq!(origin.record().requests[0].headers["authorization"], "Basic dXNlcjpwYXNz");
}

#[tokio::test]
async fn a_request_keeps_the_proxy_authorization_that_it_has_of_its_own() {
    let (origin, proxy) = (origin(false), relaying(Speaks::Http, false));
    let traced = Traced::new(through(&origin, proxy.client_side("http", USERINFO)).0);
    let request = http::Request::get(origin.url_at("origin.test", "/")).header(PROXY_AUTHORIZATION, "Bearer own");
    let request = request.body(http_body_util::Empty::new()).expect("a request");
    read(traced.client.request(request).await.expect("an answer")).await.expect("a body");
    assert_eq!(proxy.seen().headers[0][PROXY_AUTHORIZATION], "Bearer own");
}

#[tokio::test]
async fn http2_shares_one_tunnel() {
    for (speaks, scheme) in KINDS {
        for prior in [false, true] {
            let origin = if prior { Origin::plain().http2() } else { Origin::tls() };
            let origin = origin.serve(crate::spans::scene::hello);
            let proxy = relaying(speaks, true);
            let (builder, _) = through(&origin, proxy.client_side(scheme, USERINFO));
            let traced = Traced::new(if prior { builder.http2_prior_knowledge() } else { builder });
            let url = |path| origin.url_at("origin.test", path);
            let (one, two) = tokio::join!(traced.get(url("/a")), traced.get(url("/b")));
            for response in [one, two] {
                let response = response.expect("an answer");
                assert_eq!(response.version(), http::Version::HTTP_2);
                assert_eq!(read(response).await.expect("a body"), "hello");
            }
            let seen = until_asked(&proxy, 1).await;
            assert_eq!((seen.asked.len(), seen.accepted, origin.accepted()), (1, 1, 1), "{scheme}: {seen:?}");
            assert!(!seen.asked[0].starts_with("GET"), "{seen:?}");
            traced.log.settled().await.assert_paired_over(2);
        }
    }
}

#[tokio::test]
async fn a_host_that_needs_no_proxy_is_reached_directly_by_the_same_client() {
    for https in [false, true] {
        let (origin, proxy) = (origin(https), relaying(Speaks::Http, false));
        let (builder, resolver) = through(&origin, proxy.client_side("http", "").no_proxy("127.0.0.0/8,direct.test"));
        let traced = Traced::new(builder);
        let hosts = [("origin.test", true), ("127.0.0.1", false), ("origin.test", true), ("127.0.0.1", false)];
        for (index, (host, through)) in hosts.into_iter().enumerate() {
            traced.read(origin.url_at(host, "/")).await.expect("an answer");
            traced.log.settled().await;
            let timelines = traced.timelines(index + 1).await;
            let info = &timelines[index].connection.as_ref().expect("a connection").info;
            assert_eq!(info.proxy.is_some(), through, "{host}");
            assert_eq!(info.peer == Some(proxy.addr()), through, "{host}");
        }
        let connections = (proxy.seen().accepted, origin.accepted(), resolver.lookups("origin.test"));
        // A proxy that passes requests on makes a connection for each.
        assert_eq!(connections, (1, if https { 2 } else { 3 }, 0), "each its own, and each reused");
    }
}

#[tokio::test]
async fn of_several_proxies_the_first_that_is_for_a_url_is_taken() {
    let (plain, encrypted) = (origin(false), origin(true));
    let (first, second) = (relaying(Speaks::Http, false), relaying(Speaks::Socks, false));
    let of_https = httptrace::dial::Proxy::https(&second.url("socks5h", "")).expect("a URL");
    let (builder, _) = through(&encrypted, of_https);
    let traced = Traced::new(builder.proxy(first.client_side("http", "")));
    traced.read(plain.url_at("origin.test", "/")).await.expect("an answer");
    traced.read(encrypted.url_at("origin.test", "/")).await.expect("an answer");
    assert_eq!(first.seen().asked, [format!("GET http://origin.test:{}/", plain.addr().port())]);
    assert_eq!(second.seen().asked, [format!("SOCKS origin.test:{}", encrypted.addr().port())]);
}
