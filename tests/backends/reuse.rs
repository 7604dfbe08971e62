//! The reuse of connections out of Prometheus, against what the origins counted.
//!
//! Two servers at once, two intervals of different shape. The truth is the origin's own record: requests, and which of
//! them were the first of their connection. Compared with it are the counters, divided by PromQL over each interval, and
//! the gauge at its end.

use std::{collections::BTreeSet, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use httptrace::{Client, dial::IpVersion};

use crate::{
    command,
    jaeger::Jaeger,
    prometheus::{Prometheus, Sample},
    query,
    scene::{PROTOCOLS, SERVICE, Scene},
    support::{client::Traced, origin::Origin, within},
};

/// A server as the client names it, and the origin behind it.
struct Server {
    host: &'static str,
    origin: Origin,
    /// Requests of the intervals before.
    seen: usize,
}

impl Server {
    /// Answers when as many requests are there as the path says: so many connections are needed for that.
    fn new(host: &'static str) -> Self {
        let together = Arc::new(tokio::sync::Mutex::new(Vec::new()));
        let origin = Origin::plain().serve(move |request: Request<hyper::body::Incoming>| {
            let (together, count) =
                (Arc::clone(&together), request.uri().path()[1..].parse::<usize>().expect("a number"));
            async move {
                // Dropped once all are here.
                let (here, all_here) = tokio::sync::oneshot::channel::<()>();
                let mut waiting = together.lock().await;
                waiting.push(here);
                if waiting.len() >= count {
                    waiting.clear();
                }
                drop(waiting);
                let _ = all_here.await;
                Response::new(Full::new(Bytes::from_static(b"hello")))
            }
        });
        Self { host, origin, seen: 0 }
    }

    /// So many requests at once, and then so many one after the other.
    async fn load(&self, traced: &Traced, at_once: usize, one_by_one: usize) {
        let url = |together: usize| self.origin.url_at(self.host, &format!("/{together}"));
        let parallel: Vec<_> = (0..at_once).map(|_| tokio::spawn(traced.read_later(url(at_once)))).collect();
        for request in parallel {
            within("a response", request).await.expect("no panic").expect("a response");
        }
        // Each takes the connection that just came back, or waits for it.
        for _ in 0..one_by_one {
            traced.read(url(1)).await.expect("a response");
        }
    }

    /// Requests that the origin got since the last time, and connections whose first request was among them.
    fn counted(&mut self) -> (usize, usize) {
        let requests = self.origin.record().requests;
        let used = |upto: usize| requests[..upto].iter().map(|r| r.connection).collect::<BTreeSet<_>>().len();
        let counted = (requests.len() - self.seen, used(requests.len()) - used(self.seen));
        self.seen = requests.len();
        counted
    }

    fn matcher(&self, job: &str) -> String {
        format!(r#"job="{job}",server_address="{}",server_port="{}""#, self.host, self.origin.addr().port())
    }
}

/// Connections that requests got, at a moment: `reused` of them or all.
fn acquisitions(labels: &str, reused: bool, at: f64) -> String {
    let reused = if reused { r#",httptrace_connection_reused="true""# } else { r#",error_type="""# };
    // Nothing there is nothing counted yet.
    format!("(sum(httptrace_connection_acquisitions_total{{{labels}{reused}}} @ {at:.3}) or vector(0))")
}

/// The ratio between two moments, as a dashboard would ask for it if it wanted to be exact.
fn ratio(labels: &str, from: f64, to: f64) -> String {
    let grown = |reused| format!("({} - {})", acquisitions(labels, reused, to), acquisitions(labels, reused, from));
    format!("{} / {}", grown(true), grown(false))
}

#[allow(clippy::disallowed_methods, reason = "PromQL asks for moments of the wall clock")]
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64()
}

#[track_caller]
fn the_value(samples: &[Sample]) -> f64 {
    assert_eq!(samples.len(), 1, "one series: {samples:#?}");
    samples[0].value
}

// mutants: src/views/metrics/servers.rs: `observe_ratio` does not start anew · src/views/metrics.rs: `reused` of a new
// connection
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger and prometheus: .ci/run full"]
async fn the_reuse_ratio_is_what_the_origins_counted_for_two_servers_over_two_intervals() {
    for protocol in PROTOCOLS {
        let mut scene = Scene::new(protocol).await;
        let prometheus = Prometheus::start(&scene.jaeger).await;
        let traced = scene.client(Client::builder().ip_version(IpVersion::V4));
        let mut servers = [Server::new("127.0.0.1"), Server::new("localhost")];
        // Of each server: requests at once, one after the other, and the ratio that makes.
        let shapes = [[(4, 96, 0.96), (5, 5, 0.5)], [(1, 19, 1.0), (8, 4, 0.75)]];
        let mut from = now();
        let mut total = [(0, 0), (0, 0)];
        for (interval, shape) in shapes.into_iter().enumerate() {
            let load = |index: usize| servers[index].load(&traced, shape[index].0, shape[index].1);
            tokio::join!(load(0), load(1));
            scene.flush().await.expect("an export");
            for ((server, (_, _, scripted)), total) in servers.iter_mut().zip(shape).zip(&mut total) {
                let (served, opened) = server.counted();
                *total = (total.0 + served, total.1 + opened);
                let counted = (served - opened) as f64 / served as f64;
                assert_eq!(counted, scripted, "the script is played as written: {opened} of {served}");
                let labels = server.matcher(SERVICE);
                let all = format!(r#"sum(httptrace_connection_acquisitions_total{{{labels},error_type=""}})"#);
                prometheus.until(&all, |now| now.first().is_some_and(|now| now.value == total.0 as f64)).await;
                let over_counters = prometheus.prom_query(&ratio(&labels, from, now())).await;
                assert!((the_value(&over_counters) - counted).abs() < 1e-9, "{interval}: {over_counters:?}, {counted}");
                let gauge = prometheus.prom_query(&format!("httptrace_connection_reuse_ratio{{{labels}}}")).await;
                assert_eq!(gauge[0].label("otel_scope_name"), "httptrace");
                assert_eq!(the_value(&gauge), counted, "{protocol:?}, interval {interval}, {}", server.host);
                let opened_in_all = format!(
                    r#"httptrace_connection_acquisitions_total{{{labels},httptrace_connection_reused="false"}}"#
                );
                assert_eq!(the_value(&prometheus.prom_query(&opened_in_all).await), total.1 as f64);
            }
            from = now();
        }
        let ended = scene.end(&traced).await;
        assert!(ended.is_complete(), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger and prometheus: .ci/run full"]
async fn what_a_run_of_the_command_counted_is_what_the_origins_counted() {
    let jaeger = Jaeger::start().await;
    let prometheus = Prometheus::start(&jaeger).await;
    for protocol in PROTOCOLS {
        let mut servers = [Server::new("127.0.0.1"), Server::new("localhost")];
        let urls: Vec<String> = servers.iter().map(|s| s.origin.url_at(s.host, "/1").to_string()).collect();
        let (code, said) = command::run(&jaeger, protocol, &["-n", "50", "-c", "4", &urls[0], &urls[1]]).await;
        assert_eq!((code, said.as_str()), (0, ""));
        for server in &mut servers {
            let (served, opened) = server.counted();
            assert_eq!(served, 50);
            let labels = server.matcher(command::SERVICE);
            for (reused, count) in [(false, opened), (true, served - opened)] {
                let labels = format!(r#"{labels},httptrace_connection_reused="{reused}""#);
                let counter = format!("httptrace_connection_acquisitions_total{{{labels}}}");
                let seen = prometheus.until(&counter, |now| !now.is_empty() && now[0].value >= count as f64).await;
                assert_eq!(the_value(&seen), count as f64, "{protocol:?}, {}", server.host);
            }
        }
    }
}

/// Newer versions of Prometheus take any UTF-8 in names. The one in docker-compose.yml is newer than Debian's.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn names_are_the_same_for_a_prometheus_that_takes_dots() {
    let (jaeger, origin) = (Jaeger::start().await, Server::new("127.0.0.1"));
    let url = origin.origin.url("/1").to_string();
    assert_eq!(command::run(&jaeger, PROTOCOLS[0], &[&url]).await, (0, String::new()));
    let exposed = format!("http://{}/metrics", jaeger.scrape_target());
    let names = async |accept| {
        let (status, text) = query::get_as(accept, &exposed, &[]).await.expect("metrics");
        assert_eq!(status, 200);
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let old = names("text/plain;version=0.0.4").await;
    assert!(old.contains("httptrace_connection_acquisitions_total counter"), "{old:?}");
    assert!(old.contains("httptrace_connection_reuse_ratio gauge"), "{old:?}");
    assert_eq!(names("text/plain;version=1.0.0;escaping=allow-utf-8").await, old);
}
