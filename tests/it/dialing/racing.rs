//! Addresses that race, over real sockets. The times of a race are tested exactly in `src/dial/connect.rs`; here is what
//! hooks, records and spans say of it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use httptrace::{Client, ClientBuilder, dial::IpVersion};

use super::connects;
use crate::support::{
    client::Traced,
    dns::FakeResolver,
    origin::{Origin, Refusing},
    script::{
        Step::{AwaitClose, ReadHead},
        write,
    },
    timeline::ExpectedTimeline,
};

const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HOME6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn origin() -> Origin {
    Origin::plain().script([ReadHead, write("HTTP/1.1 204 No Content\r\n\r\n"), AwaitClose])
}

/// A client that knows "many.test" by these addresses.
fn client(addrs: &[IpAddr]) -> ClientBuilder {
    Client::builder().resolver(Arc::new(FakeResolver::new().answer("many.test", addrs.iter().copied())))
}

#[tokio::test]
async fn an_address_that_refuses_is_followed_by_the_other_family_at_once() {
    let origin = origin();
    // Nobody waits for the head start: the test would not end.
    let traced = Traced::new(client(&[HOME6, HOME]).racing_delay(Some(Duration::from_secs(3600))));
    traced.read(origin.url_at("many.test", "/")).await.expect("the second address answers");
    let timeline = traced.timeline().await;
    let connects = connects(&timeline);
    assert_eq!(connects[1..], [("127.0.0.1".to_owned(), "connected")]);
    assert!(connects[0].0 == "::1" && connects[0].1 != "connected" && connects[0].1 != "canceled", "{connects:?}");
    ExpectedTimeline::new()
        .phases(["get-connection", "dns", "connect", "connect", "request-write", "response-wait", "response-read"])
        .outcome("new")
        .status(204)
        .check(&timeline);
    assert_eq!(timeline.connection.and_then(|used| used.info.peer), Some(origin.addr()));
    traced.log.settled().await.assert_paired();
}

#[cfg(target_os = "linux")] // It alone has all of 127.0.0.0/8.
#[tokio::test]
async fn families_take_turns_beginning_with_the_resolvers_first_answer() {
    let refusing = Refusing::new();
    let other = IpAddr::from([127, 0, 0, 2]);
    for (answers, order) in [
        ([HOME, other, HOME6], ["127.0.0.1", "::1", "127.0.0.2"]),
        ([HOME6, HOME, other], ["::1", "127.0.0.1", "127.0.0.2"]),
    ] {
        let traced = Traced::new(client(&answers));
        let uri = format!("http://many.test:{}/", refusing.addr().port()).parse().expect("a URL");
        let error = traced.read(uri).await.expect_err("nobody listens");
        assert_eq!((error.phase().as_str(), error.error_type()), ("connect", "connection_refused"));
        let tried: Vec<_> = connects(&traced.timeline().await).into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(tried, order);
        traced.log.settled().await.assert_paired();
    }
}

#[tokio::test]
async fn an_address_is_tried_once_also_if_it_is_mapped_into_ipv6() {
    let refusing = Refusing::new();
    let traced = Traced::new(client(&[Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), HOME]));
    let uri = format!("http://many.test:{}/", refusing.addr().port()).parse().expect("a URL");
    traced.read(uri).await.expect_err("nobody listens");
    assert_eq!(connects(&traced.timeline().await), [("127.0.0.1".to_owned(), "connection_refused")]);
}

#[cfg(target_os = "linux")] // It alone has all of 127.0.0.0/8.
#[tokio::test]
async fn no_more_than_sixteen_addresses_are_tried_and_both_families_are_among_them() {
    let refusing = Refusing::new();
    let addrs: Vec<_> = (1..=20).map(|last| IpAddr::from([127, 0, 0, last])).chain([HOME6]).collect();
    let traced = Traced::new(client(&addrs));
    let uri = format!("http://many.test:{}/", refusing.addr().port()).parse().expect("a URL");
    traced.read(uri).await.expect_err("nobody listens");
    let tried = connects(&traced.timeline().await);
    assert_eq!((tried.len(), tried[1].0.as_str()), (16, "::1"));
}

#[tokio::test]
async fn one_version_of_ip_is_all_that_is_tried_where_it_is_wanted() {
    let origin = origin();
    let traced = Traced::new(client(&[HOME6, HOME]).ip_version(IpVersion::V4));
    traced.read(origin.url_at("many.test", "/")).await.expect("a response");
    assert_eq!(connects(&traced.timeline().await), [("127.0.0.1".to_owned(), "connected")]);
    // A local address says as much.
    let traced = Traced::new(client(&[HOME6, HOME]).local_address(HOME));
    traced.read(origin.url_at("many.test", "/")).await.expect("a response");
    assert_eq!(connects(&traced.timeline().await), [("127.0.0.1".to_owned(), "connected")]);
    // A name that has no such address fails in its lookup, an address of the other version before it.
    let traced = Traced::new(client(&[HOME]).ip_version(IpVersion::V6));
    let error = traced.read(origin.url_at("many.test", "/")).await.expect_err("it has no such address");
    assert_eq!((error.phase().as_str(), error.error_type()), ("dns", "no_addresses"));
    let expected = ExpectedTimeline::new().phases(["get-connection", "dns"]).error("dns", "no_addresses");
    expected.outcome("none").check(&traced.timeline().await);
    let traced = Traced::new(client(&[HOME]).ip_version(IpVersion::V6));
    let error = traced.read(origin.url("/")).await.expect_err("it is the wrong version");
    assert_eq!((error.phase().as_str(), error.error_type()), ("get-connection", "no_addresses"));
    traced.log.settled().await.assert_paired();
    assert_eq!(origin.accepted(), 2);
}

/// Linux alone drops what a full queue has no room for.
#[cfg(target_os = "linux")]
mod silent {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        dialing::LIMIT,
        spans::scene::Scene,
        support::{origin::Silent, pass, spans::ExpectedSpan, within},
    };

    fn beside(origin: &Origin, last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], origin.addr().port()))
    }

    const SOON: Option<Duration> = Some(Duration::from_millis(5));

    #[tokio::test]
    async fn a_silent_address_loses_and_is_told_as_canceled_before_the_connection_is_used() {
        let origin = origin();
        let silent = [Silent::at(beside(&origin, 2)), Silent::at(beside(&origin, 3))];
        let addrs = [[127, 0, 0, 2].into(), [127, 0, 0, 3].into(), HOME];
        let scene = Scene::new(client(&addrs).racing_delay(SOON));
        scene.traced.read(origin.url_at("many.test", "/")).await.expect("the third address answers");
        let timeline = scene.traced.timeline().await;
        assert_eq!(
            connects(&timeline).iter().map(|(_, end)| *end).collect::<Vec<_>>(),
            ["canceled", "canceled", "connected"]
        );
        let lost = &timeline.setup[1];
        let won = timeline.setup.last().expect("a connect");
        assert!(lost.start < won.start && lost.end >= won.end, "they overlap, and the loser ends with the race");
        // Told while the record was open, and never after.
        let names = scene.traced.log.settled().await.names();
        let last = names.iter().rposition(|name| *name == "connect_done").expect("connects");
        assert!(last < names.iter().position(|name| *name == "got_conn").expect("a connection"));
        scene.traced.log.assert_paired();
        let spans = scene.spans(1, 9).await;
        let racing = spans.named("connect");
        for (number, span) in (1..).zip(&racing) {
            let expected = ExpectedSpan::new().with("httptrace.connect.attempt", number);
            if number < 3 { expected.canceled() } else { expected }.check(span);
        }
        ExpectedSpan::new().check(spans.only("get-connection"));
        drop(silent);
    }

    #[tokio::test]
    async fn the_connect_timeout_ends_every_address_that_is_still_silent() {
        let origin = origin();
        let _silent = [Silent::at(beside(&origin, 2)), Silent::at(beside(&origin, 3))];
        let addrs = [[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        let traced = Traced::new(client(&addrs).racing_delay(SOON).connect_timeout(LIMIT));
        let request = tokio::spawn(traced.get(origin.url_at("many.test", "/")));
        traced.log.wait_for("connect_start", 2).await;
        pass(LIMIT).await;
        let error = within("the timeout", request).await.expect("no panic").expect_err("timed out");
        assert_eq!((error.phase().as_str(), error.error_type()), ("connect", "timeout"));
        let timeline = traced.timeline().await;
        assert_eq!(connects(&timeline).iter().map(|(_, end)| *end).collect::<Vec<_>>(), ["timeout", "timeout"]);
        ExpectedTimeline::new().error("connect", "timeout").outcome("none").check(&timeline);
        traced.log.settled().await.assert_paired();
    }

    #[tokio::test]
    async fn a_request_that_is_dropped_in_a_race_ends_its_record_and_the_race_goes_on() {
        let origin = origin();
        let silent = Silent::at(beside(&origin, 2));
        let addrs = [[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        let other = Silent::at(beside(&origin, 3));
        let traced = Traced::new(client(&addrs).racing_delay(SOON).connect_timeout(LIMIT));
        let request = tokio::spawn(traced.get(origin.url_at("many.test", "/")));
        traced.log.wait_for("connect_start", 2).await;
        request.abort();
        let timeline = traced.timeline().await;
        assert_eq!(connects(&timeline).iter().map(|(_, end)| *end).collect::<Vec<_>>(), ["canceled", "canceled"]);
        ExpectedTimeline::new().error("connect", "canceled").outcome("none").check(&timeline);
        assert_eq!(traced.log.count("connect_done"), 0, "the dial is under way");
        pass(LIMIT).await;
        let told = traced.log.wait_for("connect_done", 2).await.details("connect_done");
        assert_eq!(told, ["error=connect/timeout", "error=connect/timeout"]);
        traced.log.settled().await.assert_paired();
        drop((silent, other));
    }

    #[tokio::test]
    async fn a_runtime_that_ends_in_a_race_tells_every_open_connect() {
        let origin = origin();
        let _silent = [Silent::at(beside(&origin, 2)), Silent::at(beside(&origin, 3))];
        let addrs = [[127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        let (url, builder) = (origin.url_at("many.test", "/"), client(&addrs).racing_delay(SOON));
        let log = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let log = runtime.block_on(async move {
                let traced = Traced::new(builder);
                tokio::spawn(traced.get(url));
                traced.log.wait_for("connect_start", 2).await;
                traced.log
            });
            drop(runtime);
            log
        });
        let log = within("the runtime's end", log).await.expect("no panic");
        assert_eq!(log.details("connect_done"), ["error=connect/canceled", "error=connect/canceled"]);
        log.assert_paired();
    }
}
