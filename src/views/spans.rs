//! Spans: one CLIENT span per attempt, started live, and its children, built from the finished record.
//!
//! The CLIENT span has to be live, because its ids travel in `traceparent` and sampling is decided at its start; so has
//! a `get-connection` that begins a dial, because others link to it. All else is made at the end, with the record's own
//! times, so that nothing is left open by a canceled request and what did not happen costs nothing.
//!
//! ```text
//! GET ──┬─ get-connection ──┬─ dns   connect   tunnel   tls
//!       ├─ request-write    └ (a dial that ended without its request: background-dial, beside get-connection)
//!       ├─ response-wait
//!       └─ response-read
//! ```
//!
//! That is [`SpanDetail::Spans`]. With less detail, the phases are attributes of the CLIENT span, or left out
//! (`detail.rs` decides, when the attempt is over).
//!
//! A tracer that records nothing is found out by its first span; from then on a request costs one look at the context.

mod attributes;
mod detail;
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "only `otlp` has a lane"))]
pub(crate) mod lane;
mod sdk;
pub(crate) mod telling;
pub(crate) mod tree;

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use http::request::Parts;
use opentelemetry::{
    Context, InstrumentationScope,
    baggage::BaggageExt,
    global,
    propagation::TextMapPropagator,
    trace::{Span, SpanBuilder, SpanContext, SpanKind, TraceContextExt, Tracer, TracerProvider},
};

pub use crate::config::{SpanCases, SpanDetail};

use self::{
    lane::{Lane, Question, Start},
    sdk::{Live, Open},
};
use super::{propagation::Propagation, semconv};
use crate::{
    clock::TimeAnchor,
    connection::TraceRef,
    timeline::{Asked, Report, Reporter, Timeline},
};

/// Makes spans of attempts.
///
/// ```
/// use httptrace::views::spans::Spans;
///
/// let spans = Spans::global(); // after the application has set its tracer provider
/// # let _ = spans;
/// ```
#[derive(Clone)]
pub struct Spans {
    making: Arc<dyn Making>,
    detail: SpanDetail,
}

/// Whose child a request's spans are, instead of the context that is current where the client is called: put one into the
/// request's extensions before it goes through what calls the client elsewhere, such as a queue.
///
/// `tower`'s `Buffer` calls it on a task of its own. It takes the caller's `tracing` span along, so who works with those has
/// no need of this; a bare OpenTelemetry context would be lost there.
///
/// ```
/// use httptrace::views::spans::ParentContext;
/// use opentelemetry::Context;
///
/// let mut request = http::Request::new(http_body_util::Empty::<bytes::Bytes>::new());
/// request.extensions_mut().insert(ParentContext(Context::current()));
/// ```
#[derive(Debug, Clone)]
pub struct ParentContext(pub Context);

/// What is asked of an [`Inner`]. Behind it a tracer keeps its own type: an SDK's span that is boxed costs an allocation and
/// 250 instructions more.
trait Making: Send + Sync {
    fn is_noop(&self) -> bool;

    fn start(
        self: Arc<Self>,
        request: &mut Parts,
        asked: &Asked<'_>,
        anchor: TimeAnchor,
        parent: &Context,
        detail: SpanDetail,
    ) -> Option<Arc<dyn Report>>;

    fn propagation(&self) -> &Propagation;

    fn with_propagation(&self, propagation: Propagation) -> Arc<dyn Making>;
}

struct Inner<T> {
    tracer: Arc<T>,
    /// The tracer was seen to make no spans of its own.
    noop: AtomicBool,
    propagation: Propagation,
    /// The way past the SDK, if there is one; unknown before the first span.
    lane: OnceLock<Option<Arc<dyn Lane>>>,
}

impl Spans {
    /// Spans of this provider.
    #[must_use]
    pub fn new<P>(provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: Tracer<Span: Send + Sync> + Send + Sync + 'static,
    {
        Self::of(provider.tracer_with_scope(scope()))
    }

    /// Spans of the global provider as it is now: one that is set later is not seen.
    #[must_use]
    pub fn global() -> Self {
        Self::of(global::tracer_with_scope(scope()))
    }

    /// Lets a propagator write the header fields, instead of W3C Trace Context and Baggage.
    #[must_use]
    pub fn with_propagator(self, propagator: Box<dyn TextMapPropagator + Send + Sync>) -> Self {
        let mut propagation = self.making.propagation().clone();
        propagation.by(propagator);
        Self { making: self.making.with_propagation(propagation), ..self }
    }

    /// Tells only these servers of a trace, and of its baggage: a request to another one is sent without `traceparent`,
    /// `tracestate`, `baggage` and what a propagator writes, also if the application had put them there. Its spans are made
    /// all the same. May be called again, for more servers.
    ///
    /// A server is `example.com`, `example.com:8443`, `https://example.com`, or with a dot in front, `.example.com`, that
    /// host and all below it. What is none of these permits nothing.
    #[must_use]
    pub fn propagate_to(self, servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut propagation = self.making.propagation().clone();
        propagation.to(servers.into_iter().map(Into::into));
        Self { making: self.making.with_propagation(propagation), ..self }
    }

    /// Shows more or less of an attempt. Default [`SpanDetail::Spans`].
    #[must_use]
    pub fn with_detail(self, detail: SpanDetail) -> Self {
        Self { detail, ..self }
    }

    fn of<T: Tracer<Span: Send + Sync> + Send + Sync + 'static>(tracer: T) -> Self {
        let (tracer, noop, lane) = (Arc::new(tracer), AtomicBool::new(false), OnceLock::new());
        let making = Arc::new(Inner { tracer, noop, propagation: Propagation::default(), lane });
        Self { making, detail: SpanDetail::default() }
    }
}

impl Reporter for Spans {
    fn is_listening(&self) -> bool {
        Context::map_current(|context| {
            let passes_on = || context.span().span_context().is_valid() || !context.baggage().is_empty();
            // What may not be told has to be taken away, too.
            let withholds = || self.making.propagation().is_limited();
            !context.is_telemetry_suppressed() && (!self.making.is_noop() || passes_on() || withholds())
        })
    }

    fn started(&self, request: &mut Parts, asked: &Asked<'_>, anchor: TimeAnchor) -> Option<Arc<dyn Report>> {
        let parent = match request.extensions.get::<ParentContext>() {
            Some(ParentContext(parent)) => parent.clone(),
            None => Context::current(),
        };
        if parent.is_telemetry_suppressed() {
            return None;
        }
        Arc::clone(&self.making).start(request, asked, anchor, &parent, self.detail)
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans")
            .field("noop", &self.making.is_noop())
            .field("detail", &self.detail)
            .finish_non_exhaustive()
    }
}

impl<T: Tracer<Span: Send + Sync> + Send + Sync + 'static> Making for Inner<T> {
    fn is_noop(&self) -> bool {
        self.noop.load(Ordering::Relaxed)
    }

    fn propagation(&self) -> &Propagation {
        &self.propagation
    }

    fn with_propagation(&self, propagation: Propagation) -> Arc<dyn Making> {
        let (tracer, noop, lane) = (Arc::clone(&self.tracer), AtomicBool::new(self.is_noop()), OnceLock::new());
        Arc::new(Self { tracer, noop, propagation, lane })
    }

    fn start(
        self: Arc<Self>,
        request: &mut Parts,
        asked: &Asked<'_>,
        anchor: TimeAnchor,
        parent: &Context,
        detail: SpanDetail,
    ) -> Option<Arc<dyn Report>> {
        let before = parent.span().span_context().clone();
        if self.is_noop() {
            self.propagation.inject(request, asked, &before, parent);
            return None;
        }
        let question = match self.lane.get() {
            Some(Some(lane)) => return Arc::clone(&self).in_lane(lane, request, asked, anchor, parent, detail),
            Some(None) => None,
            None => Some(Question::of::<T>()),
        };
        // A sampler that follows its parent asks for no attributes below an unsampled one.
        let unsampled = before.is_valid() && !before.is_sampled();
        let span = match &question {
            None => self.client_span(request, asked, anchor, parent, !unsampled),
            Some(question) => {
                let asking = parent.with_value(question.clone());
                let span = self.client_span(request, asked, anchor, &asking, !unsampled);
                if span.span_context().is_valid()
                    && let Some(lane) = self.lane.get_or_init(|| question.answered())
                {
                    return Arc::clone(&self).in_lane(lane, request, asked, anchor, parent, detail);
                }
                span
            }
        };
        let root = span.span_context().clone();
        if !root.is_valid() || (before.is_valid() && root.span_id() == before.span_id()) {
            self.noop.store(true, Ordering::Relaxed);
            self.propagation.inject(request, asked, &before, parent);
            return None;
        }
        self.propagation.inject(request, asked, &root, parent);
        let parent = let_go(parent, &before);
        if !span.is_recording() {
            return Some(Arc::new(Quiet { spans: self, parent, root, detail }));
        }
        let mut span = Open { span, anchor };
        if unsampled {
            attributes::request(asked.info(request), &mut span);
        }
        let (live, tracer) = (Mutex::new(Some(Live { client: span.span, setup: None })), Arc::clone(&self.tracer));
        Some(Arc::new(sdk::Attempt { spans: self, tracer, parent, root, anchor, detail, live }))
    }
}

impl<T: Tracer<Span: Send + Sync> + Send + Sync + 'static> Inner<T> {
    fn client_span(
        &self,
        request: &Parts,
        asked: &Asked<'_>,
        anchor: TimeAnchor,
        parent: &Context,
        attributes: bool,
    ) -> T::Span {
        let mut builder = SpanBuilder::from_name(attributes::name(&request.method))
            .with_kind(SpanKind::Client)
            .with_start_time(anchor.system(anchor.instant()));
        if attributes {
            let mut given = Vec::new();
            attributes::request(asked.info(request), &mut given);
            builder = builder.with_attributes(given);
        }
        self.tracer.build_with_context(builder, parent)
    }

    fn in_lane(
        self: Arc<Self>,
        lane: &Arc<dyn Lane>,
        request: &mut Parts,
        asked: &Asked<'_>,
        anchor: TimeAnchor,
        parent: &Context,
        detail: SpanDetail,
    ) -> Option<Arc<dyn Report>> {
        let start = Start { spans: Arc::clone(&self) as _, lane, request, asked, anchor, parent, detail };
        let attempt = start.attempt();
        let Some(attempt) = attempt else {
            self.noop.store(true, Ordering::Relaxed);
            self.propagation.inject(request, asked, parent.span().span_context(), parent);
            return None;
        };
        self.propagation.inject(request, asked, &attempt.root, parent);
        Some(if attempt.root.is_sampled() {
            Arc::new(attempt)
        } else {
            let lane::Attempt { spans, parent, root, detail, .. } = attempt;
            Arc::new(Quiet { spans, parent, root, detail })
        })
    }
}

/// An attempt of which nothing is recorded: what its next attempt needs.
struct Quiet {
    spans: Arc<dyn Making>,
    /// The context of the call.
    parent: Context,
    root: SpanContext,
    detail: SpanDetail,
}

impl Report for Quiet {
    fn again(&self, request: &mut Parts, asked: &Asked<'_>, anchor: TimeAnchor) -> Option<Arc<dyn Report>> {
        Arc::clone(&self.spans).start(request, asked, anchor, &self.parent, self.detail)
    }

    fn records(&self) -> bool {
        false
    }

    fn trace(&self) -> Option<TraceRef> {
        Some(trace_ref(&self.root))
    }

    fn finished(&self, _: &Arc<Timeline>) {}
}

/// A context without its span, but with the identity of it: an application may end a span by dropping its last handle.
fn let_go(context: &Context, span: &SpanContext) -> Context {
    // What records nothing has nothing to end, and may be held.
    if span.is_valid() && context.span().is_recording() {
        context.with_remote_span_context(span.clone())
    } else {
        context.clone()
    }
}

fn trace_ref(span: &SpanContext) -> TraceRef {
    TraceRef {
        trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(span.span_id().to_bytes()),
        sampled: span.is_sampled(),
    }
}

pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(semconv::SCOPE)
        .with_version(semconv::VERSION)
        .with_schema_url(semconv::SCHEMA_URL)
        .build()
}

#[cfg(test)]
mod tests;
