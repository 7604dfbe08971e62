//! The run's own spans and the export over OTLP.
//!
//! In: the environment (`OTEL_*`) and `--otlp`. Out: a root span `httptrace`, with the attempts of all URLs under it, so that one
//! trace shows cold and reused requests in one picture; above 100 requests each round of the URL list has a root of its
//! own. It ends when the last span under it has: a connection may come back when its request is long over. A `TRACEPARENT` in the environment is the parent of the roots. Exporting never changes the exit code.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Arc, Mutex, PoisonError},
};

use httptrace::{
    ClientTrace,
    hooks::{GetConnFailedInfo, GetConnInfo, GotConnInfo, PutIdleConnInfo, ResponseDoneInfo},
    otlp::{self, Guard},
    views::semconv,
};
use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    global::{self, BoxedTracer},
    propagation::TextMapPropagator,
    trace::{Span, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::{args::TracePer, exit::Failure, plan::Plan};

/// Up to so many requests are one trace.
const ONE_TRACE: u64 = 100;

/// The telemetry of one run.
pub(crate) struct Telemetry {
    guard: Option<Guard>,
    parent: Context,
    tracer: BoxedTracer,
    /// How many requests share a root.
    requests: u64,
    /// Each round has its root.
    per_round: bool,
    roots: Arc<Roots>,
}

/// The roots that are open, by round.
#[derive(Default)]
struct Roots(Mutex<HashMap<u64, Root>>);

struct Root {
    context: Context,
    /// What has to come before it ends: the ends of its requests, and the last hooks of their attempts.
    left: u64,
    failed: Option<&'static str>,
}

/// Counts the hooks that end the attempts of a root. Their spans have ended when these are called.
struct Due {
    roots: Arc<Roots>,
    key: u64,
}

impl Telemetry {
    /// Begins. Has to come before the client is built, which takes the global providers. Returns warnings of what is
    /// asked for and can't be done.
    pub(crate) fn start(plan: &Plan) -> (Self, Vec<String>) {
        let variable = |name: &str| std::env::var(name).ok();
        let (guard, warnings) = export(plan.otlp, variable);
        let per_round = match plan.trace_per {
            Some(per) => per == TracePer::Round,
            None => plan.requests() > ONE_TRACE,
        };
        let scope = InstrumentationScope::builder("httptrace-cli")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(semconv::SCHEMA_URL)
            .build();
        let this = Self {
            guard,
            parent: parent(variable),
            tracer: global::tracer_with_scope(scope),
            requests: if per_round { plan.targets.len() as u64 } else { plan.requests() },
            per_round,
            roots: Arc::default(),
        };
        (this, warnings)
    }

    /// Calls `f` in the context of its round's root.
    pub(crate) fn within<T>(&self, round: u64, f: impl FnOnce() -> T) -> T {
        let _guard = self.context(round).attach();
        f()
    }

    fn context(&self, round: u64) -> Context {
        let mut roots = self.roots.0.lock().unwrap_or_else(PoisonError::into_inner);
        let root = roots.entry(self.root(round)).or_insert_with(|| {
            let span = SpanBuilder::from_name("httptrace").with_kind(SpanKind::Internal);
            let span = self.tracer.build_with_context(span, &self.parent);
            // Without an exporter there is no span of ours: the parent, if any, is all there is to tell.
            let context = if span.is_recording() || span.span_context().is_valid() {
                self.parent.with_span(span)
            } else {
                self.parent.clone()
            };
            Root { context, left: self.requests, failed: None }
        });
        root.context.clone()
    }

    fn root(&self, round: u64) -> u64 {
        if self.per_round { round } else { 0 }
    }

    /// What a request of this round has to be sent with, so that its root outlasts its spans.
    pub(crate) fn trace(&self, round: u64) -> Option<Arc<dyn ClientTrace>> {
        self.guard.as_ref()?;
        Some(Arc::new(Due { roots: Arc::clone(&self.roots), key: self.root(round) }))
    }

    /// A request is over.
    pub(crate) fn ended(&self, round: u64, failure: Option<&Failure>) {
        self.roots.paid(self.root(round), failure.map(|failure| failure.error_type));
    }

    /// Ends what is open and sends what is left. Returns a warning if something was lost.
    pub(crate) async fn finish(&self, failure: Option<&Failure>) -> Option<String> {
        let open = std::mem::take(&mut *self.roots.0.lock().unwrap_or_else(PoisonError::into_inner));
        for mut root in open.into_values() {
            root.failed = root.failed.or(failure.map(|failure| failure.error_type));
            root.end();
        }
        let ended = self.guard.as_ref()?.shutdown_async().await;
        (!ended.is_complete()).then(|| format!("telemetry: {ended}"))
    }
}

/// Sets up what is to be exported: both signals, or those that the environment names an endpoint for or wants on stderr.
fn export(requested: bool, variable: impl Fn(&str) -> Option<String>) -> (Option<Guard>, Vec<String>) {
    let named = |name: &str| variable(name).is_some_and(|value| !value.trim().is_empty());
    let shown = |name: &str| to_console(name, &variable);
    let both = requested || named("OTEL_EXPORTER_OTLP_ENDPOINT");
    let traces = both || named("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") || shown("OTEL_TRACES_EXPORTER");
    let metrics = both || named("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") || shown("OTEL_METRICS_EXPORTER");
    if !traces && !metrics {
        return (None, Vec::new());
    }
    match otlp::builder().service_name("httptrace").traces(traces).metrics(metrics).init() {
        Ok(guard) => {
            let warnings = guard.warnings().to_vec();
            (Some(guard), warnings)
        }
        Err(error) => {
            let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
            (None, vec![format!("{error}{cause}")])
        }
    }
}

/// Whether spans or metrics are written to stderr while requests run.
pub(crate) fn on_stderr(variable: impl Fn(&str) -> Option<String>) -> bool {
    ["OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"].iter().any(|name| to_console(name, &variable))
}

fn to_console(name: &str, variable: &impl Fn(&str) -> Option<String>) -> bool {
    variable(name).is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("console")))
}

impl Roots {
    /// One more hook is due.
    fn owes(&self, key: u64) {
        if let Some(root) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&key) {
            root.left += 1;
        }
    }

    /// A hook, or the end of a request, is no longer due. The last one of its root ends that.
    fn paid(&self, key: u64, failed: Option<&'static str>) {
        let mut roots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(root) = roots.get_mut(&key) else { return };
        root.left = root.left.saturating_sub(1);
        root.failed = root.failed.or(failed);
        let over = if root.left == 0 { roots.remove(&key) } else { None };
        drop(roots);
        over.into_iter().for_each(Root::end);
    }
}

impl ClientTrace for Due {
    fn get_conn(&self, _: &GetConnInfo<'_>) {
        self.roots.owes(self.key);
    }

    fn got_conn(&self, _: &GotConnInfo<'_>) {
        // Now there are two: `response_done` and `put_idle_conn`.
        self.roots.owes(self.key);
    }

    fn get_conn_failed(&self, _: &GetConnFailedInfo<'_>) {
        self.roots.paid(self.key, None);
    }

    fn response_done(&self, _: &ResponseDoneInfo<'_>) {
        self.roots.paid(self.key, None);
    }

    fn put_idle_conn(&self, _: &PutIdleConnInfo) {
        self.roots.paid(self.key, None);
    }
}

impl Root {
    fn end(self) {
        let span = self.context.span();
        if let Some(error_type) = self.failed {
            span.set_attribute(KeyValue::new(semconv::ERROR_TYPE, error_type));
            // Being interrupted is nobody's error.
            if error_type != "canceled" {
                span.set_status(Status::error(""));
            }
        }
        span.end();
    }
}

/// The context that the environment hands down (W3C Trace Context in `TRACEPARENT` and `TRACESTATE`).
fn parent(variable: impl Fn(&str) -> Option<String>) -> Context {
    let carried: HashMap<String, String> = ["TRACEPARENT", "TRACESTATE"]
        .into_iter()
        .filter_map(|name| Some((name.to_ascii_lowercase(), variable(name)?)))
        .collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_open_until_the_last_hook_of_its_attempts() {
        let roots = Roots::default();
        let open = || roots.0.lock().expect("no panic under the lock").contains_key(&7);
        roots
            .0
            .lock()
            .expect("no panic under the lock")
            .insert(7, Root { context: Context::new(), left: 1, failed: None });
        // A connection is asked for and got; the response ends, then the request, then the connection comes back.
        roots.owes(7);
        roots.owes(7);
        roots.paid(7, None);
        roots.paid(7, Some("timeout"));
        assert!(open());
        roots.paid(7, None);
        assert!(!open());
    }

    #[test]
    fn the_environment_hands_down_a_parent() {
        let value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let given = parent(|name| (name == "TRACEPARENT").then(|| value.to_owned()));
        let span = given.span().span_context().clone();
        assert!(span.is_valid() && span.is_remote() && span.is_sampled());
        assert_eq!(span.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        for none in [None, Some("00-0-0-01".to_owned())] {
            assert!(!parent(|_| none.clone()).span().span_context().is_valid());
        }
    }
}
