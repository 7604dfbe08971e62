//! Every example runs offline, ends by itself, and prints what it promises.

use std::{
    io::Read,
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

#[path = "it/support/mod.rs"]
#[allow(dead_code, reason = "the kit is shared with the other test binaries")]
mod support;

use opentelemetry_proto::tonic::trace::v1::Span;

use self::support::collector::Collector;

fn example(name: &str) -> Command {
    // `cargo test` builds the examples into a folder beside this test's own.
    let mut folder = std::env::current_exe().expect("a path").parent().expect("deps").to_path_buf();
    folder.pop();
    let path = folder.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing: run `cargo test` or `cargo build --examples`", path.display());
    let mut command = Command::new(path);
    // What the developer's own telemetry is set to is none of the example's business.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
}

/// Runs it to its end, which has to come by itself.
fn run(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let (stdout, stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let (stdout, stderr) = (all_of(stdout), all_of(stderr));
    // Both pipes end with the process.
    let (stdout, stderr) = (stdout.recv_timeout(PATIENCE), stderr.recv_timeout(PATIENCE));
    let (Ok(stdout), Ok(stderr)) = (stdout, stderr) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not end within {PATIENCE:?}");
    };
    Output { status: child.wait().expect("it ended"), stdout, stderr }
}

fn all_of(mut pipe: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (told, all) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if pipe.read_to_end(&mut bytes).is_ok() {
            let _ = told.send(bytes);
        }
    });
    all
}

/// Far more than an example takes on a busy machine: it tells a hang, not a slow one.
const PATIENCE: Duration = Duration::from_secs(60);

fn output(name: &str) -> String {
    let mut command = example(name);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", closed_endpoint());
    let output = run(command);
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// On a port that nobody listens on: no collector, whatever runs on this machine.
fn closed_endpoint() -> String {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    format!("http://{closed}")
}

#[test]
fn hooks_prints_them_in_order_and_the_reuse() {
    let out = output("hooks");
    let names: Vec<_> = out.lines().filter_map(|line| line.split('(').next()).filter(|name| !name.is_empty()).collect();
    let told =
        ["WroteHeaderField", "WroteHeaders", "WroteRequest", "GotFirstResponseByte", "ResponseDone", "PutIdleConn"];
    let cold = ["GetConn", "DNSStart", "DNSDone", "ConnectStart", "ConnectDone", "GotConn"];
    assert_eq!(names, [&cold[..], &told, &["GetConn", "GotConn"], &told, &["ConnClosed"]].concat(), "{out}");
    assert!(out.starts_with("GetConn(\"localhost:"), "{out}");
    assert!(out.contains("GotConn({reused:false was_idle:false idle_time:0ns})"), "{out}");
    assert!(out.contains("GotConn({reused:true was_idle:true idle_time:"), "{out}");
    assert!(out.lines().all(|line| line.is_empty() || line.ends_with(" ms")), "{out}");
}

#[test]
fn redirects_tells_each_hop_on_both_protocols() {
    let out = output("redirects");
    for (protocol, hops) in out.split("HTTP/").skip(1).map(|part| part.split_once('\n').expect("hops")) {
        let said: Vec<_> = hops.lines().map(|line| line.rsplit('/').next().expect("a path")).collect();
        assert_eq!(said, ["old? false", "new? true"], "HTTP/{protocol}\n{out}");
    }
    assert_eq!(out.lines().count(), 6, "{out}");
}

#[test]
fn stacked_calls_the_newer_trace_first() {
    let out = output("stacked");
    let said: Vec<_> = out.lines().map(|line| line.split_inclusive(": ").take(2).collect::<String>()).collect();
    let asked = ["a trace on the request? false", "a trace on the request? true"];
    assert_eq!(said[..2], asked, "{out}");
    assert_eq!(
        said[2..],
        ["newer: DNS info: ", "older: DNS info: ", "newer: got conn: ", "older: got conn: "],
        "{out}"
    );
}

#[test]
fn middleware_prints_the_attempts_below_each_layer() {
    let out = output("middleware");
    let mut told = Vec::<(&str, Vec<&str>)>::new();
    for line in out.lines() {
        match (line.strip_prefix("  "), told.last_mut()) {
            (Some(attempt), Some((_, attempts))) => attempts.push(attempt),
            _ => told.push((line, Vec::new())),
        }
    }
    let reused = vec!["/ 200, reused connection, resend 0"];
    let busy = |resend| format!("/busy 503, reused connection, resend {resend}");
    let (first, second, third) = (busy(0), busy(1), busy(2));
    assert_eq!(
        told,
        [
            ("follow-redirect", vec!["/moved 302, new connection, resend 0", "/ 200, reused connection, resend 1"]),
            ("retry", vec![&*first, &second, &third]),
            ("decompression", reused.clone()),
            ("timeout", vec!["/slow canceled, reused connection, resend 0"]),
            ("set-header", vec!["/ 200, new connection, resend 0"]),
            ("buffer", reused.clone()),
            ("concurrency limit", reused.clone()),
            ("rate limit", reused.clone()),
            ("balance", vec!["/ 200, new connection, resend 0"]),
        ],
        "{out}"
    );
}

#[test]
fn tower_prints_status_and_body() {
    assert_eq!(output("tower"), "200 OK\nhello\n");
}

#[test]
fn tracing_sends_the_trace_of_its_log_line() {
    let out = output("tracing");
    let id = out.split("trace_id=").nth(1).and_then(|rest| rest.get(..32)).expect("an id in the log line");
    assert!(out.contains(&format!("traceparent: 00-{id}-")), "{out}");
}

/// The names from a span up to the root.
fn lineage<'a>(spans: &'a [Span], of: &'a Span) -> Vec<&'a str> {
    let parent = |span: &Span| spans.iter().find(|other| other.span_id == span.parent_span_id);
    std::iter::successors(Some(of), |span| parent(span)).map(|span| span.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn service_exports_one_trace_and_nothing_of_the_exporting_even_at_trace_level() {
    for (collector, protocol) in [(Collector::http(), "http/protobuf"), (Collector::grpc(), "grpc")] {
        let mut command = example("service");
        // As many exports as there can be: each would be traced if it were not kept out.
        let settings = [("RUST_LOG", "trace"), ("OTEL_BSP_SCHEDULE_DELAY", "1"), ("OTEL_METRIC_EXPORT_INTERVAL", "1")];
        command.envs(settings).env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let output = tokio::task::spawn_blocking(move || run(command)).await.expect("it ends");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{protocol}: {err}");
        let told = out.lines().find_map(|line| line.strip_prefix("telemetry: ")).expect("a line beside the log's");
        let exported =
            told.strip_suffix(" spans exported, 0 dropped").and_then(|count| count.parse().ok()).expect(told);
        let spans = collector.spans(exported).await;
        assert_eq!(spans.len(), exported, "{protocol}: nothing beside what was ended");
        assert!(collector.received().exports > 2, "{protocol}: several exports");
        assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id), "{protocol}: one order, one trace");

        // The two questions at once may get their answers over one connection or two, whoever dialled.
        let setup = ["get-connection", "connect", "background-dial"];
        let lineages = spans.iter().map(|span| lineage(&spans, span));
        let (setup, lines): (Vec<_>, Vec<_>) = lineages.partition(|line| setup.contains(&line[0]));
        let dials = setup.iter().filter(|line| line[0] == "connect").count();
        assert!((2..=3).contains(&dials), "{protocol}: one to the shop, the others to the warehouse: {setup:?}");
        assert!(setup.contains(&vec!["connect", "get-connection", "GET", "customer"]), "{protocol}: {setup:?}");
        let mut told: Vec<_> = lines.iter().map(|line| line.join(" < ")).collect();
        told.sort();
        assert_eq!(told, service_spans(), "{protocol}");
    }
}

/// The spans of the service but for those of setting connections up, each with those above it.
fn service_spans() -> Vec<String> {
    let order = "order < GET /order < GET < customer";
    let mut spans = vec!["customer".to_owned(), "GET /order < GET < customer".to_owned(), order.to_owned()];
    let questions = ["price", "stock", "reserve"].map(|function| format!("{function} < {order}"));
    spans.extend(questions.iter().cloned());
    for caller in ["customer"].into_iter().chain(questions.iter().map(String::as_str)) {
        spans.push(format!("GET < {caller}"));
        let phases = ["request-write", "response-wait", "response-read"];
        spans.extend(phases.map(|phase| format!("{phase} < GET < {caller}")));
    }
    spans.sort();
    spans
}

#[test]
fn service_logs_every_line_with_the_id_of_its_trace() {
    let out = output("service");
    let lines: Vec<_> = out.lines().collect();
    let id = |line: &str| line.split("trace_id=").nth(1).and_then(|rest| rest.get(..32)).map(str::to_owned);
    let (log, rest) = lines.split_at(3);
    for (line, (function, said)) in log.iter().zip([
        ("customer", "would like some tea"),
        ("order{item=\"tea\"}", "can be had stock=3"),
        ("reserve{item=\"tea\"}", "reserved told=\"until noon\""),
    ]) {
        assert!(line.contains(function) && line.ends_with(said), "{line}");
        assert_eq!(id(line), id(lines[0]), "{out}");
    }
    assert!(id(lines[0]).is_some_and(|id| id != "0".repeat(32)), "{out}");
    assert_eq!(rest[0], "the bill: 1 tea: 2.40");
    // Nobody listens there, and the program is none the worse for it.
    let told = lines[lines.len() - 1];
    assert!(told.starts_with("telemetry: 0 spans exported, ") && told.contains("metrics not delivered; "), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn providers_of_the_applications_own_get_the_spans_and_the_metrics() {
    let collector = Collector::grpc();
    let mut command = example("providers");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let output = tokio::task::spawn_blocking(|| run(command)).await.expect("no panic");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200 OK\nspans: shut down\nmetrics: shut down\n");
    let received = collector.received();
    let scopes = received.spans.into_iter().flat_map(|it| it.scope_spans);
    let mut names: Vec<_> = scopes.flat_map(|it| it.spans).map(|span| span.name).collect();
    names.sort();
    assert_eq!(names, ["GET", "connect", "get-connection", "request-write", "response-read", "response-wait"]);
    let scopes = received.metrics.into_iter().flat_map(|it| it.scope_metrics);
    assert!(scopes.flat_map(|it| it.metrics).any(|it| it.name == "httptrace.connection.acquisitions"));
}

#[test]
fn quickstart_draws_every_phase_from_the_spans_that_the_collector_received() {
    let output = run(example("quickstart"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{err}");
    assert_eq!(err, "", "nothing to warn of");
    let phases = ["get-connection", "dns", "connect", "tls", "request-write", "response-wait", "response-read"];
    for said in phases.into_iter().chain(["first-byte", "idle-return", "32 spans of 6 requests", "3 of 5"]) {
        assert!(out.contains(said), "{said} is missing in\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "no colours in a pipe");
    let widest = out.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "a line of {widest:?} columns");
}

#[test]
fn quickstart_says_of_each_picture_what_it_shows() {
    let output = run(example("quickstart"));
    let out = String::from_utf8_lossy(&output.stdout);
    let told: Vec<_> = pictures(&out).into_iter().map(|(caption, facts, _)| (caption, facts)).collect();
    let expected = [
        ("A first request", "200 · HTTP/1.1 · new connection #1"),
        ("The next one", "200 · HTTP/1.1 · reused connection #1, request 2 on it"),
        ("Here the server", "200 · HTTP/1.1 · reused connection #1, request 3 on it"),
        ("HTTP/2: two requests", "200 · HTTP/2 · new connection #2"),
        ("... and the other", "404 · HTTP/2 · shared connection #2, request 2 on it"),
        ("A failure is told", "✗ connection_refused"),
    ];
    assert_eq!(told.len(), expected.len(), "{out}");
    for ((caption, facts), (begins, shows)) in told.into_iter().zip(expected) {
        assert!(caption.starts_with(begins), "{caption}\n{out}");
        assert_eq!(facts, shows, "under: {caption}\n{out}");
    }
    let waits: Vec<_> = pictures(&out).into_iter().map(|(_, _, bars)| bars.contains("waits for: other_dial")).collect();
    assert_eq!(waits, [false, false, false, false, true, false], "{out}");
}

/// Caption, facts and bars of each picture.
fn pictures(out: &str) -> Vec<(&str, &str, String)> {
    let lines: Vec<&str> = out.lines().collect();
    let titles = (0..lines.len()).filter(|at| lines[*at].starts_with("GET http"));
    titles
        .map(|at| {
            let bars = lines[at + 3..].iter().take_while(|line| line.starts_with("  "));
            (lines[at - 2], lines[at + 1], bars.copied().collect::<Vec<_>>().join("\n"))
        })
        .collect()
}

#[test]
fn quickstart_draws_the_whole_story_or_nothing() {
    let mut command = example("quickstart");
    // A request in two: one run in 64 has them all, and the words still have to fit the pictures then.
    command.env("OTEL_TRACES_SAMPLER", "traceidratio").env("OTEL_TRACES_SAMPLER_ARG", "0.5");
    let output = run(command);
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(pictures(&out).len(), if output.status.success() { 6 } else { 0 }, "{said}{out}");
    assert_eq!(out.is_empty(), !output.status.success(), "{out}");
    assert_eq!(said.lines().count(), usize::from(!output.status.success()), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_exports_to_the_collector_of_the_environment_as_well() {
    for (collector, protocol) in [(Collector::http(), "http/protobuf"), (Collector::grpc(), "grpc")] {
        let mut command = example("quickstart");
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()).env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let output = tokio::task::spawn_blocking(move || run(command)).await.expect("it ends");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && err.is_empty(), "{protocol}: {err}");
        // They are as many as those that were drawn.
        let spans = collector.spans(1).await;
        assert!(out.contains(&format!("{} spans of 6 requests", spans.len())), "{protocol}: {}\n{out}", spans.len());
        collector.metric("httptrace.connection.acquisitions").await;
    }
}

#[test]
fn quickstart_warns_of_a_collector_of_the_environment_that_is_down_and_draws_all_the_same() {
    let mut command = example("quickstart");
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", closed_endpoint());
    let output = run(command);
    let (out, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert_eq!(pictures(&out).len(), 6, "{out}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("32 dropped"), "{said}");
}

#[test]
fn quickstart_without_a_collector_draws_nothing_and_fails() {
    let mut command = example("quickstart");
    command.arg("--no-collector");
    let output = run(command);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("received no spans"), "{said}");
}

/// What it prints where there is a collector.
async fn exporting(name: &str, collector: Collector) -> String {
    let mut command = example(name);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let output = tokio::task::spawn_blocking(move || run(command)).await.expect("it ends");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// What an example prints, without what differs from run to run: ids, times and ports.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for word in text.split_inclusive(|c: char| !(c.is_alphanumeric() || "._".contains(c))) {
        let (word, end) = match word.char_indices().last() {
            Some((at, end)) if !(end.is_alphanumeric() || "._".contains(end)) => word.split_at(at),
            _ => (word, ""),
        };
        let id = word.len() >= 16 && word.chars().all(|c| c.is_ascii_hexdigit());
        shape.push_str(if id || word.starts_with(|c: char| c.is_ascii_digit()) { "…" } else { word });
        shape.push_str(end);
    }
    shape
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_lists_every_example_with_what_it_prints() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let page = std::fs::read_to_string(folder.join("README.md")).expect("the page");
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| path.file_stem().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    let parts: Vec<_> = page.split("\n## `").skip(1).filter_map(|part| part.split_once('`')).collect();
    let listed: Vec<_> = parts.iter().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(listed, names);
    for (name, part) in parts {
        assert!(part.contains(&format!("cargo run --example {name}")), "{name}: how it is run");
        let shown = part.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).expect("what it prints");
        let printed = match name {
            // The bars of a waterfall are as long as times are: the other tests look at them.
            "quickstart" => continue,
            "providers" => exporting(name, Collector::grpc()).await,
            "service" | "tracing" => exporting(name, Collector::http()).await,
            _ => output(name),
        };
        assert_eq!(shape(shown), shape(&printed), "{name} prints something else");
    }
}
