//! The command and its collector: what it exports, under which root, and what a collector that is not there costs.

use opentelemetry_proto::tonic::{collector::trace::v1::ExportTraceServiceRequest, trace::v1::Span};
use prost::Message;

use super::*;

/// Paths and messages, as they came.
pub(super) type Exports = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector of OTLP over HTTP.
pub(super) fn collector() -> (String, Exports) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let exports = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&exports);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                while let Some((head, body)) = read_message(&mut reader) {
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    seen.lock().unwrap().push((path, body));
                    reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                }
            });
        }
    });
    (endpoint, exports)
}

/// The spans of one scope.
fn spans_of(exports: &Exports, scope: &str) -> Vec<Span> {
    let exports = exports.lock().unwrap();
    let traces = exports.iter().filter(|(path, _)| path == "/v1/traces");
    let decoded = traces.map(|(_, body)| ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP"));
    let scopes = decoded.flat_map(|it| it.resource_spans).flat_map(|it| it.scope_spans);
    scopes.filter(|it| it.scope.as_ref().is_some_and(|it| it.name == scope)).flat_map(|it| it.spans).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn one_trace_holds_the_attempts_of_a_run() {
    let (endpoint, exports) = collector();
    let origin = Origin::start(&[Reply::Send(OK), Reply::Send(OK)]);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut command = command(&["--format", "json", "-n", "2", &origin.url("/")]);
    let ran = ran(&command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).env("TRACEPARENT", parent).output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(exports.lock().unwrap().iter().any(|(path, _)| path == "/v1/metrics"));
    let spans = |name: &str| spans_of(&exports, name);
    let roots = spans("httptrace-cli");
    let [root] = roots.as_slice() else { panic!("one root: {roots:?}") };
    assert_eq!((root.name.as_str(), hex(&root.parent_span_id).as_str()), ("httptrace", "b7ad6b7169203331"));
    for (i, line) in ran.lines().iter().enumerate() {
        let id = line["span_id"].as_str().unwrap();
        assert_eq!((&line["trace_id"], &line["sampled"]), (&"0af7651916cd43dd8448eb211c80319c".into(), &true.into()));
        let sent = format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-{id}-01\r\n");
        assert!(origin.request(i).to_ascii_lowercase().contains(&sent));
        let exported = spans("httptrace").into_iter().find(|span| hex(&span.span_id) == id).expect("it was exported");
        assert_eq!((exported.name.as_str(), &exported.parent_span_id), ("GET", &root.span_id));
        assert!(root.start_time_unix_nano <= exported.start_time_unix_nano);
        assert!(exported.end_time_unix_nano <= root.end_time_unix_nano);
    }
}

#[test]
fn a_root_ends_after_the_attempts_under_it() {
    // A request that timed out is over before its connection is, and rounds end one by one.
    for (script, args) in [
        (&[Reply::Hang][..], &["-m", "0.05", "-n", "20", "-c", "4"][..]),
        (&[Reply::Send(OK); 60], &["-n", "60", "-c", "6"]),
    ] {
        let (endpoint, exports) = collector();
        let origin = Origin::start(script);
        let mut command = command(args);
        command.args(["-s", "--trace-per", "round"]).arg(origin.url("/"));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).output().unwrap();
        let (roots, attempts) = (spans_of(&exports, "httptrace-cli"), spans_of(&exports, "httptrace"));
        assert!(roots.len() >= 20);
        for root in &roots {
            // A dial that goes on without its request outlasts them both: `background-dial`.
            let under = attempts.iter().filter(|span| span.parent_span_id == root.span_id);
            let last = under.map(|span| span.end_time_unix_nano).max().expect("an attempt");
            assert!(last <= root.end_time_unix_nano, "{} ns early", last - root.end_time_unix_nano);
        }
    }
}

#[test]
fn a_dead_collector_costs_one_warning_and_no_request() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let origin = Origin::start(&[Reply::Send(OK)]);
    let endpoint = format!("http://127.0.0.1:{port}");
    for (args, lines) in [(&[][..], 1), (&["-s"], 0)] {
        let ran =
            ran(&command(args).arg(origin.url("/")).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).output().unwrap());
        assert_eq!((ran.code, ran.stderr.lines().count()), (0, lines), "{}", ran.stderr);
        assert!(ran.stderr.is_empty() || ran.stderr.starts_with("httptrace: warning: telemetry: "), "{}", ran.stderr);
        assert!(ran.stdout.contains("200 OK") && ran.stdout.contains("trace "));
    }
}

#[test]
fn without_an_exporter_only_a_parent_is_handed_on() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (i, (name, value)) in
        [("TRACEPARENT", parent), ("TRACEPARENT", "00-0-0-01"), ("OTEL_SDK_DISABLED", "true")].into_iter().enumerate()
    {
        let ran = ran(&command(&["--format", "json", &origin.url("/")]).env(name, value).output().unwrap());
        assert!(ran.code == 0 && ran.lines()[0]["trace_id"].is_null());
        assert_eq!(origin.request(i).to_ascii_lowercase().contains("\r\ntraceparent: "), value == parent);
    }
}

#[test]
fn exporting_can_be_asked_for_without_an_endpoint() {
    // Nothing is sampled, so that nothing goes to a collector of this machine; but the spans are there to be told of.
    for (flags, traced) in [(&["--otlp"][..], true), (&[], false)] {
        let origin = Origin::start(&[Reply::Send(OK)]);
        let mut command = command(&["--format", "json", &origin.url("/")]);
        command.env("OTEL_TRACES_SAMPLER", "always_off").env("OTEL_METRICS_EXPORTER", "none");
        let ran = ran(&command.args(flags).output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert_eq!(ran.lines()[0]["trace_id"].is_string(), traced, "{}", ran.stdout);
        assert_eq!(origin.request(0).to_ascii_lowercase().contains("\r\ntraceparent: 00-"), traced);
    }
}

#[test]
fn a_trace_may_hold_the_run_or_a_round() {
    for (per, traces) in [("run", 1), ("round", 3)] {
        let (endpoint, _exports) = collector();
        let origin = Origin::start(&[Reply::Send(OK); 3]);
        let mut command = command(&["--format", "json", "--trace-per", per, "-n", "3", &origin.url("/")]);
        let ran = ran(&command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let ids: BTreeSet<_> = ran.lines().iter().map(|line| line["trace_id"].to_string()).collect();
        assert_eq!(ids.len(), traces, "{per}");
    }
}
