//! Jaeger with the configuration of `deploy/`, on loopback ports of its own, and the traces out of its query API.
//!
//! `Jaeger::start()` gives one that is healthy; `otlp(..)` is where to send to, `traces(..)` what it has. A [`Trace`] is
//! drawn as the UI draws it: spans below their parent, by their start in whole microseconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use httptrace::otlp::Protocol;
use serde_json::Value;

use crate::{
    process::{Process, folder, free_port, project},
    query,
};

/// A running Jaeger; killed on drop.
pub(crate) struct Jaeger {
    process: Option<Process>,
    folder: PathBuf,
    ports: Ports,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    health: u16,
    query: u16,
    query_grpc: u16,
    grpc: u16,
    http: u16,
    prometheus: u16,
}

impl Ports {
    fn new() -> Self {
        Self {
            health: free_port(),
            query: free_port(),
            query_grpc: free_port(),
            grpc: free_port(),
            http: free_port(),
            prometheus: free_port(),
        }
    }

    /// What `deploy/jaeger.yaml` reads them from.
    fn environment(&self) -> [(&'static str, u16); 6] {
        [
            ("JAEGER_HEALTH_PORT", self.health),
            ("JAEGER_QUERY_PORT", self.query),
            ("JAEGER_QUERY_GRPC_PORT", self.query_grpc),
            ("JAEGER_OTLP_GRPC_PORT", self.grpc),
            ("JAEGER_OTLP_HTTP_PORT", self.http),
            ("JAEGER_PROMETHEUS_PORT", self.prometheus),
        ]
    }
}

impl Jaeger {
    /// A Jaeger that takes spans and metrics, and answers.
    pub(crate) async fn start() -> Self {
        let mut said = String::new();
        // A port may be taken between the look at it and its use.
        for _ in 0..3 {
            let mut jaeger = Self { process: None, folder: folder("jaeger"), ports: Ports::new() };
            match jaeger.restart().await {
                Ok(()) => return jaeger,
                Err(error) => said = error,
            }
        }
        panic!("Jaeger does not start:\n{said}");
    }

    /// Starts it again where it was, with nothing in memory.
    pub(crate) async fn restart(&mut self) -> Result<(), String> {
        let mut command = Command::new(program());
        command.arg("--config").arg(project("deploy/jaeger.yaml")).env("JAEGER_LISTEN_HOST", "127.0.0.1");
        command.envs(self.ports.environment().map(|(name, port)| (name, port.to_string())));
        self.process = None;
        let process = Process::start(command, &self.folder, "jaeger.log");
        let health = format!("http://127.0.0.1:{}/status", self.ports.health);
        let ready = async || {
            query::get_text(&health, &[]).await.is_ok_and(|(status, _)| status.is_success()) && self.answers().await
        };
        if !process.until_ready(ready).await {
            return Err(process.said());
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends it; its ports refuse from now on.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// It keeps its ports and answers nobody.
    pub(crate) fn freeze(&self) {
        self.running().signal("STOP");
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.running().signal("CONT");
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("a Jaeger that runs")
    }

    /// Where to send OTLP to.
    pub(crate) fn otlp(&self, protocol: Protocol) -> String {
        let port = if protocol == Protocol::Grpc { self.ports.grpc } else { self.ports.http };
        format!("http://127.0.0.1:{port}")
    }

    /// Where people look at it.
    pub(crate) fn ui(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.query)
    }

    /// Where Prometheus finds the metrics: `host:port`.
    pub(crate) fn scrape_target(&self) -> String {
        format!("127.0.0.1:{}", self.ports.prometheus)
    }

    async fn answers(&self) -> bool {
        query::get(&self.api("services"), &[]).await.is_ok()
    }

    fn api(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/api/{path}", self.ports.query)
    }

    /// The services that it has spans of.
    pub(crate) async fn services(&self) -> Vec<String> {
        let answer = query::get(&self.api("services"), &[]).await.expect("an answer of Jaeger's");
        let names = answer["data"].as_array().map_or(&[][..], Vec::as_slice);
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// All traces of a service, the oldest first.
    pub(crate) async fn traces(&self, service: &str) -> Vec<Trace> {
        let parameters = [("service", service), ("limit", "1500")];
        let answer = query::get(&self.api("traces"), &parameters).await.expect("an answer of Jaeger's");
        let mut traces: Vec<_> = answer["data"].as_array().unwrap().iter().map(Trace::read).collect();
        traces.sort_by_key(|trace| trace.spans.iter().map(|span| span.start).min());
        traces
    }

    /// One trace, if there is such.
    pub(crate) async fn trace(&self, id: &str) -> Option<Trace> {
        let answer = query::get(&self.api(&format!("traces/{id}")), &[]).await.ok()?;
        answer["data"].as_array()?.first().map(Trace::read)
    }

    /// The traces of a service, once they have so many spans in all.
    pub(crate) async fn traces_with(&self, service: &str, spans: usize) -> Vec<Trace> {
        let count = |traces: &[Trace]| traces.iter().map(|trace| trace.spans.len()).sum::<usize>();
        self.until(service, &format!("{spans} spans"), |traces| count(traces) >= spans).await
    }

    /// The traces of a service, once they are as wanted: what was sent is not seen at once.
    pub(crate) async fn until(&self, service: &str, what: &str, wanted: impl Fn(&[Trace]) -> bool) -> Vec<Trace> {
        let mut traces = Vec::new();
        for _ in 0..200 {
            traces = self.traces(service).await;
            if wanted(&traces) {
                return traces;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let drawn: String = traces.iter().map(ToString::to_string).collect();
        panic!("{what} of {service} are not there after ten seconds, but\n{drawn}");
    }
}

/// `$JAEGER`, or what `.ci/run full` built.
fn program() -> PathBuf {
    let built = || project("target/backends/jaeger");
    let program = std::env::var_os("JAEGER").map_or_else(built, PathBuf::from);
    assert!(
        program.is_file(),
        "{} is missing: run `tests/backends/jaeger/build FILE`, and set JAEGER to FILE",
        program.display()
    );
    program
}

/// What Jaeger has of one trace, in its own terms.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    pub(crate) id: String,
    pub(crate) spans: Vec<JaegerSpan>,
    /// What Jaeger itself found to be wrong.
    pub(crate) warnings: Vec<String>,
}

/// Jaeger cuts a start and a duration to whole microseconds, each for itself: an end may be one too early.
const CUT: u64 = 1;

/// One span: times in µs since 1970, tags as text.
#[derive(Debug, Clone)]
pub(crate) struct JaegerSpan {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The parent's id; absent for a root.
    pub(crate) parent: Option<String>,
    /// Trace and span of each link.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) start: u64,
    pub(crate) duration: u64,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) events: Vec<JaegerEvent>,
    pub(crate) service: String,
}

/// One event: its time, and all that it says.
#[derive(Debug, Clone)]
pub(crate) struct JaegerEvent {
    pub(crate) name: String,
    pub(crate) at: u64,
    pub(crate) fields: BTreeMap<String, String>,
}

impl JaegerSpan {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.duration
    }

    /// Whether the UI shows it red.
    pub(crate) fn is_error(&self) -> bool {
        self.tags.get("error").is_some_and(|error| error == "true")
    }

    pub(crate) fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name).map(String::as_str)
    }

    pub(crate) fn event_names(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.name.as_str()).collect()
    }

    fn read(span: &Value, processes: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{span:#}")).to_owned();
        let references = span["references"].as_array().map_or(&[][..], Vec::as_slice);
        let of_kind = |kind: &str| {
            let kind = kind.to_owned();
            references.iter().filter(move |reference| reference["refType"] == kind.as_str())
        };
        let ids = |reference: &Value| (text(&reference["traceID"]), text(&reference["spanID"]));
        let parents: Vec<_> = of_kind("CHILD_OF").map(ids).collect();
        assert!(parents.len() <= 1, "several parents: {span:#}");
        // The UI takes the first reference for the parent, whatever its type is.
        assert!(parents.is_empty() || references[0]["refType"] == "CHILD_OF", "a link before the parent: {span:#}");
        for (trace, _) in &parents {
            assert_eq!(*trace, text(&span["traceID"]), "a parent in another trace: {span:#}");
        }
        let event = |log: &Value| {
            let mut fields = tags(&log["fields"]);
            let name = fields.remove("event").unwrap_or_default();
            JaegerEvent { name, at: log["timestamp"].as_u64().unwrap(), fields }
        };
        Self {
            id: text(&span["spanID"]),
            name: text(&span["operationName"]),
            parent: parents.into_iter().next().map(|(_, parent)| parent),
            links: of_kind("FOLLOWS_FROM").map(ids).collect(),
            start: span["startTime"].as_u64().unwrap(),
            duration: span["duration"].as_u64().unwrap(),
            tags: tags(&span["tags"]),
            events: span["logs"].as_array().map_or(&[][..], Vec::as_slice).iter().map(event).collect(),
            service: text(&processes[span["processID"].as_str().unwrap()]["serviceName"]),
        }
    }
}

fn tags(list: &Value) -> BTreeMap<String, String> {
    let pair = |tag: &Value| {
        let value = &tag["value"];
        (tag["key"].as_str().unwrap().to_owned(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    list.as_array().map_or(&[][..], Vec::as_slice).iter().map(pair).collect()
}

impl Trace {
    fn read(trace: &Value) -> Self {
        let spans = trace["spans"].as_array().unwrap();
        // A dial that goes on ends after the request that began it, as it should; Jaeger suspects another machine's clock.
        let told = spans.iter().filter(|span| span["operationName"] != "background-dial");
        let warnings = told.filter_map(|span| span["warnings"].as_array()).flatten();
        Self {
            id: trace["traceID"].as_str().unwrap().to_owned(),
            spans: spans.iter().map(|span| JaegerSpan::read(span, &trace["processes"])).collect(),
            warnings: warnings.map(ToString::to_string).collect(),
        }
    }

    /// The spans without a parent.
    pub(crate) fn roots(&self) -> Vec<&JaegerSpan> {
        by_start(self.spans.iter().filter(|span| span.parent.is_none()))
    }

    /// The spans right under this one, as the UI orders them.
    pub(crate) fn children(&self, parent: &JaegerSpan) -> Vec<&JaegerSpan> {
        by_start(self.spans.iter().filter(|span| span.parent.as_deref() == Some(&parent.id)))
    }

    /// The spans of this name, by their start.
    pub(crate) fn named(&self, name: &str) -> Vec<&JaegerSpan> {
        by_start(self.spans.iter().filter(|span| span.name == name))
    }

    /// The only span of this name.
    #[track_caller]
    pub(crate) fn only(&self, name: &str) -> &JaegerSpan {
        match *self.named(name) {
            [span] => span,
            ref several => panic!("{} spans named {name}, expected one\n{self}", several.len()),
        }
    }

    /// Fails unless the waterfall reads from top to bottom: one root, every parent there, children and events inside of
    /// what they belong to, nothing that Jaeger warns of, all of one service and of the library's scopes.
    #[track_caller]
    pub(crate) fn assert_readable(&self, root: &str) {
        let names: Vec<&str> = self.roots().iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, [root], "the roots of {}\n{self}", self.id);
        assert_eq!(self.warnings, Vec::<String>::new(), "{self}");
        let services: BTreeSet<&str> = self.spans.iter().map(|span| span.service.as_str()).collect();
        assert_eq!(services.len(), 1, "{services:?}");
        for span in &self.spans {
            // The UI has nothing else to order them by, and Jaeger gives them in another order at each look. Of requests that
            // run at once, and of dials that went on, none is the first.
            let mut children = self.children(span);
            children.retain(|child| child.name != "background-dial" && child.tag("span.kind") != Some("client"));
            let apart = children.windows(2).all(|pair| pair[0].start < pair[1].start);
            assert!(apart, "children of {} start in one microsecond\n{children:#?}", span.name);
            for event in &span.events {
                assert!((span.start..=span.end() + CUT).contains(&event.at), "{event:?} outside of {span:#?}");
            }
            let Some(id) = &span.parent else { continue };
            let Some(parent) = self.spans.iter().find(|span| span.id == *id) else {
                panic!("an orphan: {span:#?}\n{self}")
            };
            assert!(parent.start <= span.start, "{} begins before {}\n{span:#?}\n{parent:#?}", span.name, parent.name);
            // A dial may outlive the request that began it.
            let outlives = span.name == "background-dial";
            assert!(outlives || span.end() <= parent.end() + CUT, "{} ends after {}\n{self}", span.name, parent.name);
        }
    }

    /// The names from top to bottom as the UI shows them, with the times that they start at.
    pub(crate) fn rows(&self) -> Vec<&JaegerSpan> {
        let mut rows = Vec::new();
        let mut left: Vec<&JaegerSpan> = self.roots().into_iter().rev().collect();
        while let Some(span) = left.pop() {
            rows.push(span);
            left.extend(self.children(span).into_iter().rev());
        }
        rows
    }

    fn draw(&self, span: &JaegerSpan, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if span.is_error() { " !" } else { "" };
        writeln!(f, "{:depth$}{}{mark}", "", span.name, depth = 2 * depth)?;
        self.children(span).into_iter().try_for_each(|child| self.draw(child, depth + 1, f))
    }
}

/// One line a span, two spaces a level, `!` behind what is red.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.roots().into_iter().try_for_each(|root| self.draw(root, 0, f))
    }
}

/// The UI's own order: the start, and nothing else; what starts in the same microsecond stays as it came.
fn by_start<'a>(spans: impl Iterator<Item = &'a JaegerSpan>) -> Vec<&'a JaegerSpan> {
    let mut spans: Vec<_> = spans.collect();
    spans.sort_by_key(|span| span.start);
    spans
}
