//! The run's own spans and the export over OTLP.
//!
//! In: the environment (`OTEL_*`) and `--otlp`. Out: a root span `httptrace`, with the attempts of all URLs under it, so that one
//! trace shows cold and reused requests in one picture; above 100 requests each round of the URL list has a root of its
//! own. A `TRACEPARENT` in the environment is the parent of the roots. Exporting never changes the exit code.

use std::{
    collections::HashMap,
    error::Error as _,
    sync::{Mutex, PoisonError},
};

use httptrace::{
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
    roots: Mutex<HashMap<u64, Root>>,
}

struct Root {
    context: Context,
    left: u64,
    failed: Option<&'static str>,
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
            roots: Mutex::default(),
        };
        (this, warnings)
    }

    /// Calls `f` in the context of its round's root.
    pub(crate) fn within<T>(&self, round: u64, f: impl FnOnce() -> T) -> T {
        let _guard = self.context(round).attach();
        f()
    }

    fn context(&self, round: u64) -> Context {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// A request is over. The last one of its root ends that.
    pub(crate) fn ended(&self, round: u64, failure: Option<&Failure>) {
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.root(round);
        let Some(root) = roots.get_mut(&key) else { return };
        root.left = root.left.saturating_sub(1);
        root.failed = root.failed.or(failure.map(|failure| failure.error_type));
        if root.left == 0
            && let Some(root) = roots.remove(&key)
        {
            root.end();
        }
    }

    /// Ends what is open and sends what is left. Returns a warning if something was lost.
    pub(crate) async fn finish(&self, failure: Option<&Failure>) -> Option<String> {
        let open: Vec<Root> =
            self.roots.lock().unwrap_or_else(PoisonError::into_inner).drain().map(|(_, r)| r).collect();
        for mut root in open {
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
    let shown = |name: &str| {
        variable(name).is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case("console")))
    };
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
