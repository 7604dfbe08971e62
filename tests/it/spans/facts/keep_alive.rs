//! Servers that close idle connections before the client would: seen wherever it shows, said once, with the setting to change.

use std::time::Duration;

use httptrace::{
    ClientBuilder, Timeline,
    facts::KeepAliveSource,
    views::waterfall::{Style, Summary, Waterfall},
};

use super::scene::Scene;
use crate::support::{
    origin::Origin,
    pass,
    script::{
        Step::{self, AwaitClose, Close, Gate, ReadHead},
        write,
    },
    spans::ExpectedSpan,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

fn announces(value: &str) -> Step {
    write(format!("HTTP/1.1 200 OK\r\nKeep-Alive: {value}\r\ncontent-length: 2\r\n\r\nhi"))
}

/// What was told of servers' patience: by the hook, and in which records.
async fn told(scene: &Scene, attempts: usize) -> (Vec<String>, Vec<bool>) {
    let timelines = scene.traced.timelines(attempts).await;
    let has = |timeline: &Timeline| timeline.connection.as_ref().is_some_and(|used| used.keep_alive().is_some());
    (scene.traced.log.details("keep_alive_mismatch"), timelines.iter().map(has).collect())
}

async fn reads(scene: &Scene, origin: &Origin, times: usize) {
    for _ in 0..times {
        within("a response", scene.traced.read(origin.url("/"))).await.expect("a response");
    }
}

fn with(builder: ClientBuilder, seconds: u64) -> ClientBuilder {
    builder.pool_idle_timeout(Duration::from_secs(seconds))
}

// mutant: `note` says it every time; `<` as `<=` in `KeepAlives::announced`
#[tokio::test]
async fn an_announced_time_below_our_own_is_said_once_and_any_other_never() {
    for (value, own, said) in [("timeout=5, max=9", 90, true), ("timeout=90", 90, false), ("timeout=120", 90, false)] {
        // Two connections with two requests each.
        let script = [ReadHead, announces(value), ReadHead, announces(value), Close];
        let origin = Origin::plain().script(script);
        let scene = Scene::new(with(origin.client_builder(), own));
        reads(&scene, &origin, 2).await;
        scene.traced.log.wait_for("conn_closed", 1).await;
        reads(&scene, &origin, 2).await;
        let (hook, records) = told(&scene, 4).await;
        assert_eq!((hook.len(), records), (usize::from(said), vec![said, false, false, false]), "{value}");
        if !said {
            continue;
        }
        assert_eq!(hook[0], format!("127.0.0.1:{} announced 5s", origin.addr().port()));
        let spans = scene.spans(4, 20).await;
        let clients = spans.named("GET");
        ExpectedSpan::new()
            .with("httptrace.keep_alive.source", "announced")
            .with("httptrace.keep_alive.server_timeout", 5.0)
            .with("httptrace.keep_alive.client_timeout", 90.0)
            .check(clients[0]);
        ExpectedSpan::new().without("httptrace.keep_alive.source").check(clients[1]);
        let timelines = scene.traced.timelines(4).await;
        let text = "server keeps idle connections for 5.00 s (pool_idle_timeout: 90.0 s)";
        let facts = Waterfall::from_timeline(&timelines[0]).facts;
        assert!(facts.iter().any(|fact| fact == text), "{facts:?}");
        let table = timelines.iter().collect::<Summary>().render(&Style::plain(200));
        assert_eq!(table.matches(text).count(), 1, "{table}");
    }
}

#[tokio::test]
async fn a_server_that_closes_an_idle_connection_is_told_with_the_next_request() {
    let origin = Origin::plain().script([ReadHead, write(OK), Gate("close"), Close]);
    let scene = Scene::new(with(origin.client_builder(), 90));
    reads(&scene, &origin, 1).await;
    within("the origin", origin.gate("close").reached()).await;
    pass(Duration::from_secs(20)).await;
    origin.gate("close").open();
    scene.traced.log.wait_for("conn_closed", 1).await;
    reads(&scene, &origin, 1).await;
    // The second one closes as well, and that is no news any more.
    scene.traced.log.wait_for("conn_closed", 2).await;
    reads(&scene, &origin, 1).await;
    let (hook, records) = told(&scene, 3).await;
    assert_eq!((hook.len(), records), (1, vec![false, true, false]), "{hook:?}");
    let timelines = scene.traced.timelines(3).await;
    let known = *timelines[1].connection.as_ref().and_then(|used| used.keep_alive()).expect("news");
    assert_eq!((known.source, known.client), (KeepAliveSource::Closed, Some(Duration::from_secs(90))));
    assert!(known.server >= Duration::from_secs(20) && known.server < Duration::from_secs(40), "{known:?}");
    let facts = Waterfall::from_timeline(&timelines[1]).facts;
    assert!(facts.iter().any(|fact| fact.starts_with("server closed an idle connection after 2")), "{facts:?}");
}

/// The close and the request cross: the request is lost, and sent again.
#[tokio::test]
async fn a_request_that_meets_the_servers_close_tells_it_too() {
    let origin = Origin::plain().script([ReadHead, write(OK), ReadHead, Close]);
    let scene = Scene::new(with(origin.client_builder(), 90));
    reads(&scene, &origin, 1).await;
    pass(Duration::from_secs(20)).await;
    // It is answered on the connection that follows.
    reads(&scene, &origin, 1).await;
    let (hook, records) = told(&scene, 3).await;
    assert_eq!((hook.len(), records), (1, vec![false, false, true]), "{hook:?}");
    assert!(hook[0].contains(" closed 2"), "{hook:?}");
}

#[tokio::test]
async fn connections_that_this_client_closes_say_nothing_of_the_server() {
    let origin = Origin::plain().script([ReadHead, write(OK), AwaitClose]);
    let scene = Scene::new(with(origin.client_builder(), 10));
    reads(&scene, &origin, 1).await;
    pass(Duration::from_secs(11)).await;
    scene.traced.log.wait_for("conn_closed", 1).await;
    reads(&scene, &origin, 1).await;
    scene.traced.client.close_idle_connections();
    scene.traced.log.wait_for("conn_closed", 2).await;
    assert_eq!(told(&scene, 2).await, (Vec::new(), vec![false, false]));
}

// mutant: `idle_limit` without the connection's own limit; `limit` without its second
#[tokio::test]
async fn an_announced_time_that_is_obeyed_ends_the_reuse_before_it() {
    for (obey, connections) in [(true, 2), (false, 1)] {
        let script = [ReadHead, announces("timeout=5"), ReadHead, write(OK), ReadHead, write(OK), AwaitClose];
        let origin = Origin::plain().script(script);
        let scene = Scene::new(with(origin.client_builder(), 90).obey_keep_alive(obey));
        reads(&scene, &origin, 1).await;
        pass(Duration::from_secs(3)).await;
        reads(&scene, &origin, 1).await;
        // Half a second before the server's time: too late for a request.
        pass(Duration::from_millis(4_500)).await;
        reads(&scene, &origin, 1).await;
        let (hook, _) = told(&scene, 3).await;
        assert_eq!((origin.record().connections_used(), hook.len()), (connections, usize::from(!obey)));
    }
}
