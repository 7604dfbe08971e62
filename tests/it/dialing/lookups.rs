//! Lookups of one name at the same time are one, and each of those who share it is told its own.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use httptrace::{Client, Timeline, timeline::SetupDetail};

use super::LIMIT;
use crate::spans::scene::Scene;
use crate::support::{
    client::{Traced, read},
    dns::{Failure, FakeResolver},
    gate::Gate,
    origin::Origin,
    pass,
    script::{
        Step::{AwaitClose, ReadHead, Stall},
        write,
    },
    timeline::ExpectedTimeline,
    within,
};

fn coalesced(timeline: &Timeline) -> Option<bool> {
    timeline.setup.iter().find_map(|step| match step.detail {
        SetupDetail::Dns { coalesced, .. } => Some(coalesced),
        _ => None,
    })
}

#[tokio::test]
async fn requests_that_look_up_one_name_share_the_answer_and_each_is_told() {
    let gate = Gate::new();
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 204 No Content\r\n\r\n"), AwaitClose]);
    let resolver = FakeResolver::new().local("shared.test").hold("shared.test", &gate);
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver.clone())));
    let names = ["shared.test", "Shared.Test", "SHARED.test"];
    let requests = names.map(|name| tokio::spawn(traced.get(origin.url_at(name, "/"))));
    traced.log.wait_for("dns_start", 3).await;
    gate.reached().await;
    gate.open();
    for request in requests {
        read(request.await.expect("no panic").expect("a response")).await.expect("a body");
    }
    for timeline in traced.timelines(3).await {
        assert_eq!(coalesced(&timeline), Some(true), "also for the one that did it");
    }
    assert_eq!(traced.log.settled().await.details("dns_done").len(), 3);
    traced.log.assert_paired_over(3);
    let asked: usize = names.iter().map(|name| resolver.lookups(name)).sum();
    assert_eq!(asked, 1);
    // Nothing is kept: the next one asks again, alone.
    traced.client.close_idle_connections();
    traced.log.wait_for("conn_closed", 3).await;
    traced.read(origin.url_at("shared.test", "/")).await.expect("a response");
    assert_eq!(coalesced(&traced.timelines(4).await[3]), Some(false));
    assert_eq!(names.iter().map(|name| resolver.lookups(name)).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_shared_lookup_that_fails_has_failed_for_all_with_its_kind() {
    let gate = Gate::new();
    let resolver = FakeResolver::new().fail("gone.test", Failure::TryAgain).hold("gone.test", &gate);
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver.clone())));
    let requests = [0, 1].map(|_| tokio::spawn(traced.get("http://gone.test/".parse().expect("a URL"))));
    traced.log.wait_for("dns_start", 2).await;
    gate.open();
    for request in requests {
        let error = within("an error", request).await.expect("no panic").expect_err("no answer");
        assert_eq!((error.phase().as_str(), error.error_type()), ("dns", "try_again"));
    }
    for timeline in traced.timelines(2).await {
        ExpectedTimeline::new().phases(["get-connection", "dns"]).error("dns", "try_again").check(&timeline);
        assert_eq!(coalesced(&timeline), Some(true));
    }
    assert_eq!(resolver.lookups("gone.test"), 1);
    traced.log.settled().await.assert_paired_over(2);
}

#[tokio::test]
async fn each_waits_for_a_shared_lookup_until_its_own_deadline() {
    let gate = Gate::new();
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 204 No Content\r\n\r\n"), AwaitClose]);
    let resolver = FakeResolver::new().local("slow.test").hold("slow.test", &gate);
    let traced = Traced::new(Client::builder().connect_timeout(LIMIT).resolver(Arc::new(resolver.clone())));
    let early = tokio::spawn(traced.get(origin.url_at("slow.test", "/early")));
    gate.reached().await;
    pass(LIMIT / 2).await;
    let late = tokio::spawn(traced.get(origin.url_at("slow.test", "/late")));
    traced.log.wait_for("dns_start", 2).await;
    pass(LIMIT / 2).await;
    let error = within("the timeout", early).await.expect("no panic").expect_err("timed out");
    assert_eq!((error.phase().as_str(), error.error_type()), ("dns", "timeout"));
    // The one that began it is gone. The lookup is not.
    gate.open();
    read(within("a response", late).await.expect("no panic").expect("a response")).await.expect("a body");
    assert_eq!(resolver.lookups("slow.test"), 1);
    let timelines = traced.timelines(2).await;
    assert_eq!((coalesced(&timelines[0]), coalesced(&timelines[1])), (Some(false), Some(true)));
    traced.log.settled().await.assert_paired_over(2);
}

#[tokio::test]
async fn an_international_name_is_looked_up_as_the_url_has_it_in_ascii() {
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 204 No Content\r\n\r\n"), Stall]);
    let name = "xn--bcher-kva.test";
    let resolver = FakeResolver::new().answer(name, [Ipv4Addr::LOCALHOST.into()]);
    let traced = Traced::new(Client::builder().resolver(Arc::new(resolver)));
    traced.read(origin.url_at(name, "/")).await.expect("a response");
    assert_eq!(traced.log.details("dns_start"), [name]);
    assert_eq!(traced.log.details("get_conn"), [format!("{name}:{}", origin.addr().port())]);
    let sent = &origin.record().requests[0];
    assert!(format!("{sent:?}").contains(&format!("{name}:{}", origin.addr().port())), "{sent:?}");
    assert!("http://bücher.test/".parse::<http::Uri>().is_err(), "a URL has no other form");
}

// mutants: `answered` emptied; the guard in `Place` dropped at once; `!is_there` as `is_there`
#[tokio::test]
async fn a_connection_whose_address_has_left_dns_is_told_as_it_is_reused() {
    let origin = Origin::plain().serve(|request| async move {
        let mut response = Response::new(Full::<Bytes>::from("hello"));
        if request.uri().path() == "/close" {
            response.headers_mut().insert("connection", "close".parse().expect("a value"));
        }
        response
    });
    // At the second answer's address nobody listens on this port.
    let elsewhere = IpAddr::from(Ipv6Addr::LOCALHOST);
    let resolver = FakeResolver::new().local("moved.test").answer("moved.test", [elsewhere]).local("moved.test");
    let scene = Scene::new(Client::builder().resolver(Arc::new(resolver)));
    let url = origin.url_at("moved.test", "/");
    scene.traced.read(url.clone()).await.expect("an answer");
    scene.traced.log.settled().await;
    // A second connection is wanted while the first one is out: it looks the host up, in vain. So does a third.
    let left = |timeline: &Timeline| timeline.connection.as_ref().map(|used| used.address_left_dns);
    for (expected, fails) in [(true, true), (false, false)] {
        let held = within("a head", scene.traced.get(url.clone())).await.expect("an answer");
        let second = scene.traced.read(origin.url_at("moved.test", "/close")).await;
        assert_eq!(second.is_err(), fails, "{second:?}");
        read(held).await.expect("a body");
        scene.traced.log.settled().await;
        scene.traced.read(url.clone()).await.expect("an answer");
        scene.traced.log.settled().await;
        let last = scene.traced.timelines(1).await.pop().expect("a record");
        assert_eq!(left(&last), Some(expected), "{last:?}");
    }
    let spans = scene.spans(7, 7).await;
    let told = spans
        .named("GET")
        .into_iter()
        .filter(|span| span.attributes.iter().any(|fact| fact.key.as_str() == "httptrace.connection.address_left_dns"));
    // The one that reused it, and the one after it that still had no better word.
    assert_eq!(told.count(), 2);
}
