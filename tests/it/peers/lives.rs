//! Lives: of attempts, spans and connections, each told once, where it belongs, and of hooks that misbehave.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::Empty;
use httptrace::{Client, ClientTrace};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, Metric, MetricData};

use super::{OK, hello, now};
use crate::{
    every::every_hook,
    spans::{
        metrics,
        scene::{Scene, names, traceparent},
    },
    support::{
        client::{Traced, read},
        dns::FakeResolver,
        gate::Gate,
        origin::{Origin, Refusing},
        script::{
            Step::{AwaitClose, Close, Gate as AtGate, ReadHead},
            write,
        },
        spans::ExpectedSpan,
        within,
    },
};

// 3: curl counted the queue time of redirects into the last hop; .NET hides its retries.
#[tokio::test]
async fn the_time_of_one_attempt_never_counts_in_another_and_none_is_hidden() {
    let stale = vec![ReadHead, write(OK), ReadHead, AtGate("stale"), Close];
    let origin = Origin::plain().scripts([stale, vec![ReadHead, write(OK), AwaitClose]]);
    let scene = Scene::new(origin.client_builder());
    scene.traced.read(origin.url("/")).await.expect("a response");
    scene.traced.log.settled().await;
    let second = tokio::spawn(scene.traced.get(origin.url("/")));
    origin.gate("stale").reached().await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    let before = now();
    origin.gate("stale").open();
    read(second.await.expect("no panic").expect("the second try's answer")).await.expect("a body");
    let spans = scene.spans(3, 15).await;
    let timelines = scene.traced.timelines(3).await;
    assert_eq!(timelines.len(), origin.served(), "what was sent was told");
    let (failed, again) = (&timelines[1], &timelines[2]);
    assert!(again.start >= before, "the first try's wait is not the second's");
    assert!(failed.response_end.expect("an end") <= again.start);
    assert_eq!((failed.request.resend_count, again.request.resend_count), (0, 1));
    let [_, first, second] = *spans.named("GET") else { panic!("three attempts\n{spans}") };
    ExpectedSpan::new().error("connection_closed").without("http.request.resend_count").check(first);
    ExpectedSpan::new().with("http.request.resend_count", 1).check(second);
}

// 5: Node's DNS and TLS spans hang under whatever was current when the connector ran, or are traces of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_up_never_leaves_its_request_nor_begins_a_trace() {
    let origin = Origin::tls_with_alpn(&["http/1.1"]).serve(hello);
    // Each uses what it dialled, so that the number of spans is known.
    let scene = Scene::new(origin.client_builder().late_binding(false));
    let mut requests = Vec::new();
    for _ in 0..8 {
        let application = scene.application();
        let request = {
            let _current = application.clone().attach();
            scene.traced.get(origin.url_at("origin.test", "/"))
        };
        // Polled elsewhere, where another context is current or none.
        requests.push(tokio::spawn(async move {
            let body = read(within("a head", request).await.expect("a response")).await;
            drop(application);
            body
        }));
    }
    for request in requests {
        within("a body", request).await.expect("no panic").expect("a body");
    }
    scene.traced.log.settled().await;
    let timelines = scene.traced.timelines(8).await;
    assert!(timelines.iter().any(|timeline| timeline.setup.len() == 3), "somebody dialled");
    let told: usize = timelines.iter().map(|timeline| 1 + timeline.phases().len()).sum();
    let spans = scene.spans(8, 8 + told).await;
    let roots: Vec<_> = spans.roots().iter().map(|span| span.name.to_string()).collect();
    assert_eq!(roots, ["application"; 8], "{spans}");
    for name in ["dns", "connect", "tls"] {
        for step in spans.named(name) {
            let waits = spans.named("get-connection");
            let parents = waits.iter().filter(|wait| wait.span_context.span_id() == step.parent_span_id);
            assert_eq!(parents.count(), 1, "{name}\n{spans}");
        }
    }
}

// 6: spans of Node end twice; CONNECT requests of undici never do.
#[tokio::test]
async fn nothing_that_began_ever_ends_twice_or_not_at_all() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let tunnel = "HTTP/1.1 200 OK\r\n\r\n";
    let cases = [
        ("success", OK, Method::GET),
        ("error", "nonsense\r\n\r\n", Method::GET),
        ("no answer", "", Method::GET),
        ("dropped body", OK, Method::GET),
        ("given up", "", Method::GET),
        ("upgrade", switch, Method::GET),
        ("tunnel", tunnel, Method::CONNECT),
    ];
    for (name, answer, method) in cases {
        let mut steps = vec![ReadHead];
        match name {
            "given up" => steps.extend([AtGate("late"), AwaitClose]),
            "no answer" => steps.push(Close),
            _ => steps.extend([write(answer), AwaitClose]),
        }
        let origin = Origin::plain().script(steps);
        let scene = Scene::new(origin.client_builder());
        let uri = if method == Method::CONNECT {
            format!("http://{}", origin.addr()).parse().expect("a URI")
        } else {
            origin.url("/")
        };
        let is_connect = method == Method::CONNECT;
        let mut request = Request::builder().method(method).uri(uri).body(Empty::<Bytes>::new()).expect("a request");
        if name == "upgrade" {
            request.headers_mut().insert("connection", "upgrade".parse().expect("a value"));
            request.headers_mut().insert("upgrade", "echo".parse().expect("a value"));
        }
        let response = scene.traced.client.request(request);
        if name == "given up" {
            let response = tokio::spawn(response);
            origin.gate("late").reached().await;
            response.abort();
        } else {
            match within(name, response).await {
                Err(_) => assert!(["error", "no answer"].contains(&name), "{name}"),
                Ok(response) if name == "dropped body" => drop(response),
                Ok(response) if name == "success" => drop(read(response).await.expect("a body")),
                Ok(response) => drop(within(name, hyper::upgrade::on(response)).await.expect("an upgrade")),
            }
        }
        scene.traced.log.settled().await.assert_paired();
        let timelines = scene.traced.timelines(1).await;
        assert_eq!(timelines.len(), 1, "{name}");
        // The tree has no span twice, and none without its parent.
        let spans = scene.spans(1, 1 + timelines[0].phases().len()).await;
        assert_eq!(spans.roots().len(), 1, "{name}\n{spans}");
        if is_connect {
            assert_eq!(origin.record().requests[0].target, origin.addr().to_string(), "RFC 9112 §3.2.3");
        }
    }
}

// 9: reactor-netty labelled metrics with pool ids and ephemeral ports, and memory ran out.
#[tokio::test(flavor = "multi_thread")]
async fn a_metric_never_has_a_label_without_bound() {
    let (provider, exporter) = metrics::provider();
    let origin = Origin::plain().serve(hello);
    let traced = Traced::new(origin.client_builder().meter_provider(&provider).pool_max_idle(0));
    for number in 0..20 {
        traced.read(origin.url(&format!("/user/{number}?token={number}"))).await.expect("a response");
    }
    let refusing = Refusing::new();
    let url: Uri = format!("http://{}/user/21", refusing.addr()).parse().expect("a URL");
    traced.read(url).await.expect_err("nobody listens");
    traced.timelines(21).await;
    traced.log.settled().await;
    provider.force_flush().expect("a collection");
    let bounded = [
        "error.type",
        "http.connection.state",
        "http.request.method",
        "http.response.status_code",
        "httptrace.connection.close_reason",
        "httptrace.connection.reused",
        "httptrace.error.phase",
        "httptrace.idle.outcome",
        "network.protocol.version",
        "network.type",
        "server.address",
        "server.port",
    ];
    let all = exporter.get_finished_metrics().expect("an exporter that was not shut down");
    let mut seen = 0;
    for metric in all.iter().flat_map(|resource| resource.scope_metrics()).flat_map(|scope| scope.metrics()) {
        let series = series(metric);
        assert!(
            series.len() <= 3,
            "{}: {} series of 20 equal requests and one that failed",
            metric.name(),
            series.len()
        );
        for label in series.iter().flatten() {
            assert!(bounded.contains(&label.key.as_str()), "{}: {label:?}", metric.name());
            seen += 1;
        }
    }
    assert!(seen > 10, "the labels were not found");
}

/// The labels of each series of a metric.
pub(super) fn series(metric: &Metric) -> Vec<Vec<KeyValue>> {
    match metric.data() {
        AggregatedMetrics::F64(MetricData::Histogram(data)) => {
            data.data_points().map(|point| point.attributes().cloned().collect()).collect()
        }
        AggregatedMetrics::U64(MetricData::Histogram(data)) => {
            data.data_points().map(|point| point.attributes().cloned().collect()).collect()
        }
        AggregatedMetrics::I64(MetricData::Sum(data)) => {
            data.data_points().map(|point| point.attributes().cloned().collect()).collect()
        }
        AggregatedMetrics::F64(MetricData::Gauge(data)) => {
            data.data_points().map(|point| point.attributes().cloned().collect()).collect()
        }
        AggregatedMetrics::U64(MetricData::Sum(data)) => {
            data.data_points().map(|point| point.attributes().cloned().collect()).collect()
        }
        other => panic!("{}: a kind of metric that this test can't read: {other:?}", metric.name()),
    }
}

// 10: a traceparent that the application had set was sent beside the instrumentation's own; exporters traced themselves.
#[tokio::test]
async fn a_traceparent_is_never_sent_twice_and_an_exporter_never_traces_itself() {
    let origin = Origin::plain().script([ReadHead, write(OK), ReadHead, write(OK), AwaitClose]);
    let scene = Scene::new(origin.client_builder());
    let stale = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = || {
        let mut request = Request::get(origin.url("/")).body(Empty::<Bytes>::new()).expect("a request");
        for _ in 0..2 {
            request.headers_mut().append("traceparent", stale.parse().expect("a value"));
        }
        request
    };
    read(within("a head", scene.traced.client.request(request())).await.expect("a response")).await.expect("a body");
    let spans = scene.spans(1, 6).await;
    let sent = origin.record().connections[0].heads[0].to_ascii_lowercase();
    assert_eq!(sent.matches("traceparent").count(), 1, "{sent}");
    assert!(sent.contains(&traceparent(&spans.only("GET").span_context)), "{sent}");

    // What an exporter sends is sent in this scope.
    let ended = scene.exported();
    let response = {
        let _scope = Context::enter_telemetry_suppressed_scope();
        scene.traced.get(origin.url("/"))
    };
    read(within("a head", response).await.expect("a response")).await.expect("a body");
    scene.traced.log.wait_for("put_idle_conn", 2).await;
    assert_eq!(scene.exported(), ended, "no span of it");
    let sent = origin.record().connections[0].heads[1].to_ascii_lowercase();
    assert!(!sent.contains("traceparent"), "{sent}");
}

// 11: .NET links failed set-ups to nothing; hyper's connects that lost their race are seen by nobody.
#[tokio::test]
async fn a_set_up_that_failed_or_lost_is_never_left_open_nor_without_its_request() {
    let refusing = Refusing::new();
    let scene = Scene::new(Client::builder());
    scene.traced.read(format!("http://{}/", refusing.addr()).parse().expect("a URL")).await.expect_err("refused");
    let spans = scene.spans(1, 3).await;
    assert_eq!(spans.to_string(), "GET\n  get-connection\n    connect\n");
    for name in ["GET", "get-connection", "connect"] {
        ExpectedSpan::new().error("connection_refused").check(spans.only(name));
    }

    let origin = Origin::plain().serve(hello);
    let (gate, resolver) = (Gate::new(), FakeResolver::new().local("origin.test"));
    let scene = Scene::new(Client::builder().resolver(Arc::new(resolver.clone())));
    let url = origin.url_at("origin.test", "/");
    let first = within("a head", scene.traced.get(url.clone())).await.expect("a response");
    let _held = resolver.hold("origin.test", &gate);
    let second = tokio::spawn(scene.traced.get(url.clone()));
    gate.reached().await;
    // The first one's connection comes back while the second one's dial is still at its lookup: it has lost.
    read(first).await.expect("a body");
    read(within("a head", second).await.expect("no panic").expect("a response")).await.expect("a body");
    gate.open();
    // get-connection, dns and connect of the first; get-connection, background-dial, dns and connect of the second.
    let spans = scene.spans(2, 2 + 6 + 3 + 4).await;
    let [_, second] = *spans.named("GET") else { panic!("two requests\n{spans}") };
    let lost = spans.only("background-dial");
    ExpectedSpan::new().under(second).with("httptrace.dial.outcome", "pooled").check(lost);
    let steps: Vec<_> = spans.children(lost).iter().map(|span| span.name.to_string()).collect();
    assert_eq!(steps, ["dns", "connect"]);
    // Who uses the connection names it, whichever of the two idle ones it gets.
    let (one, two) = tokio::join!(scene.traced.get(url.clone()), scene.traced.get(url));
    for response in [one, two] {
        read(response.expect("a response")).await.expect("a body");
    }
    let spans = scene.spans(4, 15 + 2 * 4).await;
    let links = spans.named("GET").into_iter().flat_map(|span| span.links.iter());
    assert_eq!(links.filter(|link| names(link, lost)).count(), 1, "{spans}");
}

/// Uses its own client in every hook, then panics.
#[derive(Default)]
struct Wild {
    client: OnceLock<Client>,
    inside: AtomicBool,
    calls: AtomicUsize,
}

impl Wild {
    fn called(&self) {
        // The request of a hook has hooks as well.
        if self.inside.swap(true, Ordering::SeqCst) {
            return;
        }
        self.calls.fetch_add(1, Ordering::SeqCst);
        let client = self.client.get().expect("set before the first request");
        drop(client.get(Uri::from_static("http://nowhere.invalid/")));
        drop(client.clone());
        self.inside.store(false, Ordering::SeqCst);
        panic!("a hook that panics");
    }
}

every_hook! { for Wild, |this, _, _| this.called() }

// 12: OkHttp's listeners were called under its pool's lock; a panic in a callback took smithy's connector down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_never_runs_under_a_lock_and_its_panic_never_gets_out() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::tls_with_alpn(&[alpn]).serve(hello);
        let wild = Arc::new(Wild::default());
        let builder = origin.client_builder().client_trace(Arc::clone(&wild) as Arc<dyn ClientTrace>);
        let client = builder.build().expect("settings that fit");
        wild.client.set(client.clone()).expect("set once");
        for _ in 0..3 {
            let requests = [(); 4].map(|()| tokio::spawn(client.get(origin.url_at("origin.test", "/"))));
            for request in requests {
                let response = within("no deadlock", request).await.expect("no panic gets out").expect("a response");
                assert_eq!(read(response).await.expect("a body"), "hello");
            }
        }
        assert!(wild.calls.load(Ordering::SeqCst) > 12 * 5, "{alpn}");
        assert!(origin.accepted() < 12, "{alpn}: connections are reused all the same");
    }
}

// 14: one proxy called a connection reused if it was older than 100 ms; eight cold requests of Go make eight connections.
#[tokio::test]
async fn cold_http2_requests_never_make_two_set_ups_nor_call_two_of_them_new() {
    let origin = Origin::tls_with_alpn(&["h2"]).serve(hello);
    let scene = Scene::new(origin.client_builder());
    let requests: Vec<_> = (0..8).map(|_| tokio::spawn(scene.traced.get(origin.url("/")))).collect();
    for request in requests {
        read(within("a head", request).await.expect("no panic").expect("a response")).await.expect("a body");
    }
    let timelines = scene.traced.timelines(8).await;
    let mut told: Vec<_> = timelines
        .iter()
        .filter_map(|timeline| timeline.connection.as_ref())
        .map(|used| (used.request_number, used.outcome.as_str(), used.reused()))
        .collect();
    told.sort_unstable();
    let wanted: Vec<_> =
        (1..=8).map(|number| (number, if number == 1 { "new" } else { "shared" }, number > 1)).collect();
    assert_eq!(told, wanted, "by what it has carried, however young it is");
    let spans = scene.spans(8, 8 + 8 + 2 + 8 * 3).await;
    for name in ["connect", "tls"] {
        assert_eq!(spans.named(name).len(), 1, "{spans}");
    }
    assert_eq!(origin.accepted(), 1);
}
