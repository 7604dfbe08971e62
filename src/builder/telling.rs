//! Options for who hears of requests: hooks, records, OpenTelemetry, and what is kept from all of them.
//!
//! In: traces, reporters, providers. Out: the settings that [`super`] gives to the client.

use std::sync::Arc;

use http::request::Parts;
#[cfg(feature = "otel")]
use opentelemetry::{
    metrics::MeterProvider,
    trace::{Tracer, TracerProvider},
};

use super::ClientBuilder;
#[cfg(feature = "otel")]
use crate::views::{metrics::Metrics, spans::Spans};
use crate::{
    clock::TimeAnchor,
    hooks::ClientTrace,
    timeline::{Asked, Report, Reporter, Timeline},
};

/// Who hears of requests.
impl ClientBuilder {
    /// Hooks for every request. A request's own run before them. May be called again; the newer ones run first.
    pub fn client_trace(mut self, trace: Arc<dyn ClientTrace>) -> Self {
        self.traces.insert(0, trace);
        self
    }

    /// Another reporter of finished attempts.
    pub fn reporter(mut self, reporter: Arc<dyn Reporter>) -> Self {
        self.reporters.push(reporter);
        self
    }

    /// Calls `f` with the record of every attempt when it is over, on the task that ended it. It must not block.
    pub fn on_timeline(self, f: impl Fn(&Timeline) + Send + Sync + 'static) -> Self {
        self.reporter(Arc::new(Callback(Arc::new(f))))
    }

    /// Whether every attempt is recorded with the list of its hooks, and found in its response's extensions as a
    /// [`TimelineHandle`](crate::timeline::TimelineHandle). Off: it costs an allocation or two per request.
    pub fn timeline(mut self, timeline: bool) -> Self {
        self.timeline = timeline;
        self
    }

    /// Query keys whose values are secret, beside those that always are (`X-Amz-Signature`, `X-Amz-Credential`,
    /// `X-Amz-Security-Token`, `AWSAccessKeyId`, `Signature`, `sig` and `X-Goog-Signature`, as the semantic conventions
    /// have it): records, and all that is made of them, show `REDACTED` for them. A key is compared by case, as servers
    /// do, and as they decode it. May be called again. Default: none more, since no other name is a secret everywhere.
    pub fn sensitive_query_keys(mut self, keys: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.redaction.add(keys.into_iter().map(Into::into));
        self
    }

    /// Whether spans and metrics go to OpenTelemetry. On; off for a client that carries telemetry itself.
    pub fn telemetry(mut self, telemetry: bool) -> Self {
        self.telemetry = telemetry;
        self
    }
}

/// OpenTelemetry.
#[cfg(feature = "otel")]
impl ClientBuilder {
    /// Where spans go. Default: the global provider as it is at `build()`; one that is set later is not seen.
    pub fn tracer_provider<P>(mut self, provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: Tracer<Span: Send + Sync> + Send + Sync + 'static,
    {
        self.spans = Some(Spans::new(provider));
        self
    }

    /// The servers that are told of a trace, and of its baggage, by header fields of a request; what a server is, and what
    /// the others get: [`Spans::propagate_to`]. May be called again, for more servers; none at all tells nobody. Default:
    /// every server, as the conventions want it, since a trace that ends at the first hop explains little. Name yours where
    /// requests leave your own network: the ids say little of you, baggage may say much.
    pub fn propagate_to(mut self, servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.propagate_to.get_or_insert_default().extend(servers.into_iter().map(Into::into));
        self
    }

    /// Spans with settings of their own, such as a propagator.
    pub fn spans(mut self, spans: Spans) -> Self {
        self.spans = Some(spans);
        self
    }

    /// Where metrics go. Default: the global provider as it is at `build()`; one that is set later is not seen. Which
    /// metrics there are: [`views::metrics`](crate::views::metrics).
    pub fn meter_provider<P: MeterProvider + ?Sized + 'static>(mut self, provider: &P) -> Self {
        self.metrics = Some(Metrics::new(provider));
        self
    }
}

/// Reports to a function.
#[derive(Clone)]
struct Callback(Arc<dyn Fn(&Timeline) + Send + Sync>);

impl Reporter for Callback {
    fn started(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Arc::new(self.clone()))
    }
}

impl Report for Callback {
    fn again(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Arc::new(self.clone()))
    }

    fn finished(&self, timeline: &Arc<Timeline>) {
        (self.0)(timeline);
    }
}
