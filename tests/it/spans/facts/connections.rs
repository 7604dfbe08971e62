//! What is known of a connection from its beginning: how long its certificate is good for, and which socket it is.

use std::num::NonZeroU64;

use httptrace::{Timeline, clock::TimeAnchor, timeline::SetupDetail, views::waterfall::Waterfall};
use rcgen::date_time_ymd;

use super::scene::Scene;
use crate::support::{
    certificate::Identity,
    origin::Origin,
    script::{
        Step::{AwaitClose, ReadHead},
        write,
    },
    spans::ExpectedSpan,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
const DAY: i64 = 24 * 60 * 60;

fn facts(timeline: &Timeline) -> String {
    Waterfall::from_timeline(timeline).facts.join(", ")
}

/// A certificate that is valid up to so many days, counted from today's midnight.
fn valid_for(days: i64) -> Identity {
    let anchor = TimeAnchor::new();
    let now = anchor.unix_nanos(anchor.instant()) / 1_000_000_000;
    let midnight = i64::try_from(now).expect("a near time").div_euclid(DAY);
    Identity::with(&["http/1.1"], |leaf| {
        // rcgen's own type of dates, without naming the crate that it is from.
        let epoch = date_time_ymd(1970, 1, 1);
        leaf.not_before = epoch;
        leaf.not_after = epoch + std::time::Duration::from_secs(u64::try_from((midnight + days) * DAY).expect("later"));
    })
}

// mutant: `soon_expired` without its `filter`; `SOON` as 3
#[tokio::test]
async fn a_certificate_that_ends_soon_is_told_on_reused_connections_too_and_any_other_on_its_handshake_alone() {
    for (days, soon) in [(13, Some(12)), (400, None)] {
        let script = [ReadHead, write(OK), ReadHead, write(OK), AwaitClose];
        let origin = Origin::tls_as(valid_for(days)).script(script);
        let scene = Scene::new(origin.client_builder());
        for _ in 0..2 {
            scene.traced.read(origin.url("/")).await.expect("a response");
        }
        let timelines = scene.traced.timelines(2).await;
        let spans = scene.spans(2, 11).await;
        // Today is not over, so it is a day less.
        ExpectedSpan::new().with("httptrace.tls.server.days_left", days - 1).check(spans.only("tls"));
        let told = format!("certificate expires in {} days", days - 1);
        for (client, timeline) in spans.named("GET").into_iter().zip(&timelines) {
            let expected = ExpectedSpan::new();
            match soon {
                Some(days) => expected.with("httptrace.tls.server.days_left", days).check(client),
                None => expected.without("httptrace.tls.server.days_left").check(client),
            }
            assert_eq!(facts(timeline).contains(&told), soon.is_some(), "{}", facts(timeline));
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_over_says_since_when() {
    let origin = Origin::tls_as(valid_for(-2)).script([ReadHead, write(OK), AwaitClose]);
    let scene = Scene::new(origin.client_builder().danger_accept_invalid_certs(true));
    scene.traced.read(origin.url("/")).await.expect("a response");
    let spans = scene.spans(1, 6).await;
    ExpectedSpan::new().with("httptrace.tls.server.days_left", -3).check(spans.only("GET"));
    let told = facts(&scene.traced.timeline().await);
    assert!(told.contains("certificate expired 3 days ago"), "{told}");
}

// mutant: the cookie of `connect` left out; `local` of the peer
#[tokio::test]
async fn the_socket_is_told_by_its_own_address_and_the_kernels_number() {
    let script = [ReadHead, write(OK), ReadHead, write(OK), AwaitClose];
    let origin = Origin::plain().script(script);
    let scene = Scene::new(origin.client_builder());
    for _ in 0..2 {
        scene.traced.read(origin.url("/")).await.expect("a response");
    }
    let timelines = scene.traced.timelines(2).await;
    let info = &timelines[1].connection.as_ref().expect("a connection").info;
    let local = info.local.expect("a socket");
    assert_ne!(Some(local), info.peer);
    let spans = scene.spans(2, 10).await;
    let expected = ExpectedSpan::new()
        .with("network.local.address", "127.0.0.1")
        .with("network.local.port", i64::from(local.port()));
    let key = "httptrace.connection.socket_cookie";
    let cookie = info.socket_cookie.map(NonZeroU64::get);
    assert_eq!(cookie.is_some(), cfg!(target_os = "linux"));
    match cookie {
        Some(cookie) => expected.with(key, i64::try_from(cookie).expect("small")).check(spans.only("connect")),
        None => expected.without(key).check(spans.only("connect")),
    }
    let steps: Vec<_> = timelines[0].setup.iter().map(|step| &step.detail).collect();
    let [SetupDetail::Connect { local: Some(told), socket_cookie, .. }] = steps[..] else { panic!("{steps:?}") };
    assert_eq!((*told, *socket_cookie), (local, info.socket_cookie));
}
