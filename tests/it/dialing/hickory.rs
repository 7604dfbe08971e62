//! The resolver that knows more than addresses, against a name server that answers as told.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use http::Response;
use http_body_util::Full;
use httptrace::{
    Client, ClientBuilder, Timeline,
    dial::{
        Answer, Answering, HickoryResolver, Resolve, Resolving,
        hickory_resolver::{
            config::LookupIpStrategy,
            proto::{op::ResponseCode, rr::RecordType},
        },
    },
    hooks::DnsFacts,
    timeline::SetupDetail,
};
use opentelemetry::{Array, StringValue, Value};

use crate::{
    spans::scene::Scene,
    support::{
        client::{Traced, read},
        gate::Gate,
        name_server::{NameServer, Reply, address, alias},
        origin::Origin,
        spans::ExpectedSpan,
        timeline::ExpectedTimeline,
        within,
    },
};

/// An origin whose connections serve one request each, so that every request looks its host up.
fn closing() -> Origin {
    Origin::plain().serve(|_| async {
        let mut response = Response::new(Full::<bytes::Bytes>::from("hello"));
        response.headers_mut().insert("connection", "close".parse().expect("a value"));
        response
    })
}

fn asking(resolver: HickoryResolver) -> ClientBuilder {
    Client::builder().resolver(Arc::new(resolver))
}

fn home(name: &str, ttl: u32) -> Reply {
    Reply::Records(vec![address(name, Ipv4Addr::LOCALHOST, ttl)])
}

fn facts(timeline: &Timeline) -> DnsFacts {
    let known = timeline.setup.iter().find_map(|step| match &step.detail {
        SetupDetail::Dns { facts, .. } => facts.as_deref().cloned(),
        _ => None,
    });
    known.unwrap_or_else(|| panic!("nothing is known of the answer: {timeline:?}"))
}

fn list(all: &[&'static str]) -> Value {
    Value::Array(Array::String(all.iter().map(|one| StringValue::from(*one)).collect()))
}

// mutants: `Asked::note` in `send` left out; `alone` taken for true and for false
#[tokio::test]
async fn the_first_answer_comes_from_a_server_and_the_next_from_the_cache() {
    let server = NameServer::new(|name| home(name, 300)).await;
    let origin = closing();
    let scene = Scene::new(asking(server.resolver()));
    for _ in 0..2 {
        scene.traced.read(origin.url_at("cached.test", "/")).await.expect("an answer");
        scene.traced.log.settled().await;
    }
    let timelines = scene.traced.timelines(2).await;
    let [miss, hit] = [facts(&timelines[0]), facts(&timelines[1])];
    assert_eq!((miss.cache_hit, miss.server, miss.transport), (Some(false), Some(server.addr()), Some("udp")));
    assert_eq!((hit.cache_hit, hit.server, hit.transport), (Some(true), None, None));
    for facts in [&miss, &hit] {
        let ttl = facts.ttl.expect("a time to live");
        assert!(ttl > Duration::from_secs(250) && ttl <= Duration::from_secs(300), "{ttl:?}");
        assert_eq!((&facts.aliases[..], &facts.record_types[..]), (&[][..], &["A"][..]));
    }
    assert_eq!(server.asked(), [("cached.test".to_owned(), RecordType::A, "udp")]);
    let spans = scene.spans(2, 14).await;
    let dns = spans.named("dns");
    let (addr, question) = (server.addr().to_string(), "cached.test");
    let asked = ExpectedSpan::new().with("dns.question.name", question).with("httptrace.dns.cache_hit", false);
    let asked = asked.with("httptrace.dns.server", addr).with("httptrace.dns.transport", "udp");
    asked.with("httptrace.dns.record_types", list(&["A"])).without("httptrace.dns.aliases").check(dns[0]);
    let cached = ExpectedSpan::new().with("httptrace.dns.cache_hit", true).without("httptrace.dns.server");
    cached.with("dns.answers", list(&["127.0.0.1"])).without("httptrace.dns.transport").check(dns[1]);
    assert!(dns.iter().all(|dns| dns.attributes.iter().any(|fact| fact.key.as_str() == "httptrace.dns.ttl")));
    scene.traced.log.assert_paired_over(2);
}

#[tokio::test]
async fn an_answer_that_is_no_longer_true_is_asked_for_again() {
    let server = NameServer::new(|name| home(name, 0)).await;
    let origin = closing();
    let resolver = server.resolver();
    let traced = Traced::new(asking(resolver.clone()));
    for _ in 0..2 {
        traced.read(origin.url_at("short.test", "/")).await.expect("an answer");
    }
    for timeline in traced.timelines(2).await {
        assert_eq!((facts(&timeline).cache_hit, facts(&timeline).ttl), (Some(false), Some(Duration::ZERO)));
    }
    assert_eq!(server.asked().len(), 2);
    // And one that was forgotten.
    let server = NameServer::new(|name| home(name, 300)).await;
    let resolver = server.resolver();
    let traced = Traced::new(asking(resolver.clone()));
    traced.read(origin.url_at("long.test", "/")).await.expect("an answer");
    resolver.clear_cache();
    traced.read(origin.url_at("long.test", "/")).await.expect("an answer");
    assert_eq!(traced.timelines(2).await.iter().map(|it| facts(it).cache_hit).collect::<Vec<_>>(), [Some(false); 2]);
}

#[tokio::test]
async fn aliases_are_told_in_the_order_of_their_chain() {
    let server = NameServer::new(|name| match name {
        "www.test" => Reply::Records(vec![alias("www.test", "Edge.test", 60), alias("edge.test", "pop.test", 60)]),
        _ => home(name, 300),
    })
    .await;
    let origin = closing();
    // Both families: the chain is told once.
    let resolver = server.resolver_with(|options| options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4);
    let scene = Scene::new(asking(resolver));
    scene.traced.read(origin.url_at("www.test", "/")).await.expect("an answer");
    let known = facts(&scene.traced.timeline().await);
    assert_eq!(known.aliases, ["edge.test", "pop.test"]);
    assert_eq!(known.record_types, ["CNAME", "A"]);
    assert!(known.ttl.is_some_and(|ttl| ttl <= Duration::from_secs(60)), "{known:?}");
    let spans = scene.spans(1, 7).await;
    let aliases = list(&["edge.test", "pop.test"]);
    ExpectedSpan::new().with("httptrace.dns.aliases", aliases).check(spans.only("dns"));
}

#[tokio::test]
async fn an_answer_too_long_for_udp_comes_by_tcp_and_says_so() {
    let server = NameServer::new(|name| Reply::Truncated(vec![address(name, Ipv4Addr::LOCALHOST, 60)])).await;
    let origin = closing();
    let traced = Traced::new(asking(server.resolver()));
    traced.read(origin.url_at("long.test", "/")).await.expect("an answer");
    let known = facts(&traced.timeline().await);
    assert_eq!((known.cache_hit, known.server, known.transport), (Some(false), Some(server.addr()), Some("tcp")));
    let asked: Vec<_> = server.asked().into_iter().map(|(_, _, by)| by).collect();
    assert_eq!(asked, ["udp", "tcp"]);
}

// mutants: each row of `failed` given another kind
#[tokio::test]
async fn each_way_to_fail_has_its_type() {
    for (reply, error_type) in [
        (Reply::Code(ResponseCode::NXDomain), "host_not_found"),
        (Reply::Code(ResponseCode::ServFail), "try_again"),
        (Reply::Code(ResponseCode::Refused), "no_recovery"),
        (Reply::Code(ResponseCode::NotImp), "no_recovery"),
        (Reply::Records(Vec::new()), "no_addresses"),
        (Reply::Silence, "try_again"),
    ] {
        let said = reply.clone();
        let server = NameServer::new(move |_| said.clone()).await;
        let resolver = server.resolver_with(|options| {
            options.timeout = Duration::from_millis(50);
            options.attempts = 1;
        });
        let traced = Traced::new(asking(resolver));
        let error = traced.read("http://gone.test/".parse().expect("a URL")).await.expect_err("no address");
        assert_eq!((error.error_type(), error.phase().as_str()), (error_type, "dns"), "{reply:?}");
        assert!(std::error::Error::source(&error).is_some(), "{reply:?} has its cause");
        ExpectedTimeline::new()
            .phases(["get-connection", "dns"])
            .error("dns", error_type)
            .check(&traced.timeline().await);
        traced.log.settled().await.assert_paired();
    }
}

#[tokio::test]
async fn a_server_that_is_silent_for_longer_than_a_dial_may_take_is_a_timeout() {
    let server = NameServer::new(|_| Reply::Silence).await;
    let traced = Traced::new(asking(server.resolver()).connect_timeout(Duration::from_millis(50)));
    let error = traced.read("http://slow.test/".parse().expect("a URL")).await.expect_err("nothing comes");
    assert_eq!((error.error_type(), error.phase().as_str()), ("timeout", "dns"));
}

// mutant: `UnderWay::drop` emptied
#[tokio::test]
async fn a_lookup_that_nobody_waits_for_is_given_up_and_the_next_is_a_lookup_of_its_own() {
    let gate = Gate::new();
    let server = NameServer::held(|name| home(name, 300), &gate).await;
    let origin = closing();
    let resolver = server.resolver();
    let url = origin.url_at("held.test", "/");
    let given_up = tokio::spawn(resolver.answer("held.test"));
    server.until_asked(1).await;
    given_up.abort();
    assert!(given_up.await.expect_err("it was aborted").is_cancelled());
    gate.open();
    let traced = Traced::new(asking(resolver));
    traced.read(url.clone()).await.expect("an answer");
    traced.read(url).await.expect("an answer");
    let hits: Vec<_> = traced.timelines(2).await.iter().map(|timeline| facts(timeline).cache_hit).collect();
    assert_eq!(hits, [Some(false), Some(true)]);
}

// mutant: `alone.then_some(true)` as `Some(true)`
#[tokio::test]
async fn who_waits_for_the_question_of_another_client_has_no_hit() {
    let gate = Gate::new();
    let server = NameServer::held(|name| home(name, 300), &gate).await;
    let origin = closing();
    let resolver = server.resolver();
    let clients = [Traced::new(asking(resolver.clone())), Traced::new(asking(resolver))];
    let requests = [0, 1].map(|number| tokio::spawn(clients[number].get(origin.url_at("both.test", "/"))));
    clients[0].log.wait_for("dns_start", 1).await;
    clients[1].log.wait_for("dns_start", 1).await;
    server.until_asked(1).await;
    // Both have asked hickory by now, as long as there is one thread.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    gate.open();
    for request in requests {
        read(within("an answer", request).await.expect("no panic").expect("an answer")).await.expect("a body");
    }
    for client in clients {
        assert_ne!(facts(&client.timeline().await).cache_hit, Some(true));
    }
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn this_machine_is_known_without_a_question_and_without_facts() {
    let server = NameServer::new(|_| Reply::Code(ResponseCode::NXDomain)).await;
    let origin = closing();
    let traced = Traced::new(asking(server.resolver()));
    traced.read(origin.url_at("localhost", "/")).await.expect("an answer");
    let timeline = traced.timeline().await;
    let known = timeline.setup.iter().any(|step| matches!(&step.detail, SetupDetail::Dns { facts: Some(_), .. }));
    assert!(!known && server.asked().is_empty(), "{timeline:?}");
}

#[tokio::test]
async fn the_systems_own_configuration_can_be_read() {
    // What it says depends on the machine; that it is told as an error or makes a resolver does not.
    match HickoryResolver::from_system() {
        Ok(resolver) => assert!(format!("{resolver:?}").starts_with("HickoryResolver")),
        Err(error) => assert_eq!((error.error_type(), error.phase().as_str()), ("no_recovery", "dns")),
    }
}

/// A resolver of the application's own that knows how long its answers are true.
struct Registry;

impl Resolve for Registry {
    fn resolve(&self, _: &str) -> Resolving {
        unreachable!("`answer` is what the client calls")
    }

    fn answer(&self, _: &str) -> Answering {
        let mut facts = DnsFacts::default();
        facts.ttl = Some(Duration::from_secs(7));
        Box::pin(async { Ok(Answer::with_facts(vec![Ipv4Addr::LOCALHOST.into()], facts)) })
    }
}

#[tokio::test]
async fn a_resolver_of_ones_own_may_tell_what_it_knows() {
    let origin = closing();
    let scene = Scene::new(Client::builder().resolver(Arc::new(Registry)));
    scene.traced.read(origin.url_at("registry.test", "/")).await.expect("an answer");
    let spans = scene.spans(1, 7).await;
    let dns = ExpectedSpan::new().with("httptrace.dns.ttl", 7.0);
    dns.without("httptrace.dns.cache_hit").without("httptrace.dns.server").check(spans.only("dns"));
}
