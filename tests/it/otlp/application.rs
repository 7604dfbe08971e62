//! A small application in a process of its own, for what is one per process: the environment, the globals, stderr.
//!
//! It is this test binary again, told by [`run`] to run the one ignored test below. It sets telemetry up, makes spans,
//! metrics and a request, waits until its stdin is closed, and ends; its last line is what the end said.

use std::{
    io::Read,
    process::{Child, Command, Output, Stdio},
};

use http_body_util::BodyExt;
use httptrace::Client;
use opentelemetry::{
    Context, KeyValue,
    baggage::BaggageExt,
    metrics::MeterProvider,
    trace::{Link, Span, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, Tracer, TracerProvider},
};

use crate::support::PATIENCE;

/// A running application.
pub(super) struct Application(Child);

/// Starts it with these variables, and no others of OpenTelemetry.
pub(super) fn start(variables: &[(&str, &str)]) -> Application {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "otlp::application::application", "--ignored", "--nocapture", "--quiet"]);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Application(command.spawn().expect("this program runs"))
}

impl Application {
    /// Ends it: all that it said.
    pub(super) async fn end(self) -> Said {
        let ended = tokio::task::spawn_blocking(|| {
            let mut child = self.0;
            drop(child.stdin.take());
            child.wait_with_output().expect("it ends")
        });
        Said::new(&ended.await.expect("an end"))
    }
}

/// Runs it from begin to end.
pub(super) async fn run(variables: &[(&str, &str)]) -> Said {
    start(variables).end().await
}

/// What it said.
#[derive(Debug)]
pub(super) struct Said {
    /// Of `Guard::warnings`.
    pub(super) warnings: Vec<String>,
    /// Of the end.
    pub(super) ended: String,
    pub(super) stderr: String,
}

impl Said {
    fn new(output: &Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines =
            |begin: &str| stdout.lines().filter_map(|line| line.strip_prefix(begin).map(str::to_owned)).collect();
        let ended: Vec<String> = lines("ended: ");
        assert!(output.status.success() && ended.len() == 1, "{stdout}\n{stderr}");
        Self { warnings: lines("warning: "), ended: ended.concat(), stderr }
    }
}

#[test]
#[ignore = "a child of the other tests"]
fn application() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn,opentelemetry_sdk=off").init();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let guard = httptrace::otlp::init().expect("telemetry");
    guard.warnings().iter().for_each(|warning| println!("\nwarning: {warning}"));
    let tracer = guard.tracer_provider().tracer("tests");
    let number = |name: &str, default| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default);
    for _ in 0..number("APPLICATION_SPANS", 3) {
        let three = || (0..3_i64).map(|i| KeyValue::new(format!("key{i}"), i)).collect::<Vec<_>>();
        let (trace, id) = (TraceId::from(7), SpanId::from(7));
        let linked = SpanContext::new(trace, id, TraceFlags::SAMPLED, true, Default::default());
        let links = vec![Link::new(linked, three(), 0); 3];
        let mut span = tracer.span_builder("work").with_attributes(three()).with_links(links).start(&tracer);
        (0..3).for_each(|_| span.add_event("event", three()));
        span.end();
    }
    guard.meter_provider().meter("tests").u64_counter("work").build().add(1, &[KeyValue::new("key", "value")]);
    if let Ok(url) = std::env::var("APPLICATION_REQUEST") {
        // In the context of a caller whose trace is sampled.
        let caller = SpanContext::new(TraceId::from(1), SpanId::from(1), TraceFlags::SAMPLED, true, Default::default());
        let context = Context::new().with_remote_span_context(caller).with_baggage([KeyValue::new("who", "tests")]);
        let _attached = context.attach();
        let client = Client::new();
        let response = client.get(url);
        let body = runtime.block_on(response).expect("an answer").into_body();
        runtime.block_on(body.collect()).expect("a whole answer");
        // The attempt is over when its connection is back.
        runtime.block_on(client.shutdown(PATIENCE));
    }
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    println!("\nended: {}", guard.shutdown());
}
