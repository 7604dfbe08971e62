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
mod tree;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::request::Parts;
use opentelemetry::{
    Context, InstrumentationScope,
    baggage::BaggageExt,
    global,
    propagation::TextMapPropagator,
    trace::{
        Link, Span, SpanBuilder, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState,
        Tracer, TracerProvider,
    },
};

pub use crate::config::{SpanCases, SpanDetail};

use self::{detail::Shown, tree::Tree};
use super::{propagation::Propagation, semconv};
use crate::{
    clock::TimeAnchor,
    connection::TraceRef,
    hooks::ConnOutcome,
    phase::Phase,
    timeline::{DialOutcome, DialRecord, PendingDial, Report, Reporter, RequestInfo, Timeline},
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

/// What is asked of an [`Inner`]. Behind it a tracer keeps its own type: an SDK's span that is boxed costs an allocation and
/// 250 instructions more.
trait Making: Send + Sync {
    fn is_noop(&self) -> bool;

    fn start(
        self: Arc<Self>,
        request: &mut Parts,
        info: &RequestInfo,
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
        let (tracer, propagation) = (Arc::new(tracer), Propagation::default());
        let making = Arc::new(Inner { tracer, noop: AtomicBool::new(false), propagation });
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

    fn started(&self, request: &mut Parts, info: &Arc<RequestInfo>, anchor: TimeAnchor) -> Option<Arc<dyn Report>> {
        let parent = Context::current();
        if parent.is_telemetry_suppressed() {
            return None;
        }
        Arc::clone(&self.making).start(request, info, anchor, &parent, self.detail)
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
        let noop = AtomicBool::new(self.is_noop());
        Arc::new(Self { tracer: Arc::clone(&self.tracer), noop, propagation })
    }

    fn start(
        self: Arc<Self>,
        request: &mut Parts,
        info: &RequestInfo,
        anchor: TimeAnchor,
        parent: &Context,
        detail: SpanDetail,
    ) -> Option<Arc<dyn Report>> {
        let before = parent.span().span_context().clone();
        if self.is_noop() {
            self.propagation.inject(&mut request.headers, info, &before, parent);
            return None;
        }
        // A sampler that follows its parent asks for no attributes below an unsampled one.
        let unsampled = before.is_valid() && !before.is_sampled();
        let mut span = self.client_span(info, anchor, parent, !unsampled);
        let root = span.span_context().clone();
        if !root.is_valid() || (before.is_valid() && root.span_id() == before.span_id()) {
            self.noop.store(true, Ordering::Relaxed);
            self.propagation.inject(&mut request.headers, info, &before, parent);
            return None;
        }
        self.propagation.inject(&mut request.headers, info, &root, parent);
        let live = span.is_recording().then(|| {
            if unsampled {
                span.set_attributes(attributes::request(info));
            }
            Live { client: span, setup: None }
        });
        // The span itself is let go: an application may end it by dropping its last handle.
        let parent = match before.is_valid() {
            true => parent.with_remote_span_context(before),
            false => parent.clone(),
        };
        let records = live.is_some();
        Some(Arc::new(Attempt { spans: self, parent, root, anchor, records, detail, live: Mutex::new(live) }))
    }
}

impl<T: Tracer> Inner<T> {
    fn client_span(&self, info: &RequestInfo, anchor: TimeAnchor, parent: &Context, attributes: bool) -> T::Span {
        let name = match semconv::request_method(&info.method) {
            semconv::OTHER => "HTTP",
            method => method,
        };
        let mut builder =
            SpanBuilder::from_name(name).with_kind(SpanKind::Client).with_start_time(anchor.system(anchor.instant()));
        if attributes {
            builder = builder.with_attributes(attributes::request(info));
        }
        self.tracer.build_with_context(builder, parent)
    }
}

/// One attempt's spans.
struct Attempt<T: Tracer> {
    spans: Arc<Inner<T>>,
    /// The context of the call, for the next attempt.
    parent: Context,
    root: SpanContext,
    anchor: TimeAnchor,
    records: bool,
    detail: SpanDetail,
    live: Mutex<Option<Live<T::Span>>>,
}

struct Live<S> {
    client: S,
    /// A `get-connection` that began a dial. Boxed: most attempts have none, and this moves with the CLIENT span.
    setup: Option<Box<S>>,
}

impl<T: Tracer> Attempt<T> {
    fn live(&self) -> MutexGuard<'_, Option<Live<T::Span>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree(&self) -> Tree<'_, T> {
        Tree {
            tracer: &self.spans.tracer,
            anchor: self.anchor,
            context: self.parent.with_remote_span_context(self.root.clone()),
        }
    }
}

impl<T: Tracer<Span: Send + Sync> + Send + Sync + 'static> Report for Attempt<T> {
    fn again(&self, request: &mut Parts, info: &Arc<RequestInfo>, anchor: TimeAnchor) -> Option<Arc<dyn Report>> {
        Arc::clone(&self.spans).start(request, info, anchor, &self.parent, self.detail)
    }

    fn records(&self) -> bool {
        self.records
    }

    fn trace(&self) -> Option<TraceRef> {
        Some(trace_ref(&self.root))
    }

    fn setup_started(&self, at: Instant) -> Option<TraceRef> {
        if !(self.records && self.detail.shows_dials()) {
            return None;
        }
        let span = self.tree().start(Phase::GetConnection.as_str(), at, Vec::new());
        let trace = trace_ref(span.span_context());
        let mut live = self.live();
        let setup = &mut live.as_mut()?.setup;
        let span = setup.get_or_insert_with(|| Box::new(span));
        debug_assert_eq!(trace, trace_ref(span.span_context()), "an attempt has one get-connection");
        Some(trace)
    }

    fn background_dial(&self, dial: &DialRecord) -> Option<PendingDial> {
        if !(self.records && self.detail.shows(dial)) {
            return None;
        }
        // By the attempt's clock pair, as all of its trace.
        let (mut span, end) = self.tree().dial(dial);
        let trace = Some(trace_ref(span.span_context()));
        let end = self.anchor.system(end);
        let finish = Box::new(move |outcome: DialOutcome| {
            span.set_attribute(opentelemetry::KeyValue::new(semconv::DIAL_OUTCOME, outcome.as_str()));
            span.end_with_timestamp(end);
        });
        Some(PendingDial { trace, finish })
    }

    fn finished(&self, timeline: &Timeline) {
        // Out of the lock first: ending a span calls the application's processors.
        let Some(Live { mut client, setup }) = self.live().take() else { return };
        let mut last = timeline.response_end.unwrap_or(timeline.start);
        match self.detail.of(timeline, setup.is_some()) {
            Shown::Spans => last = self.tree().children(timeline, setup.map(|span| *span)),
            Shown::Attributes => client.set_attributes(detail::phases(timeline)),
            Shown::Nothing => {}
        }
        attributes::response(timeline, &mut client);
        attributes::captured(timeline, &mut client);
        if let Some(link) = link(timeline) {
            client.add_link(link.span_context, link.attributes);
        }
        for event in &timeline.events {
            if let Some(attributes) = attributes::event(event.kind) {
                client.add_event_with_timestamp(event.kind.name(), timeline.anchor.system(event.at), attributes);
            }
        }
        tree::fail(&mut client, timeline.error.as_ref(), timeline.status);
        let end = timeline.end.map_or(last, |end| end.max(last));
        client.end_with_timestamp(timeline.anchor.system(end));
    }
}

/// To the set-up of a connection that another request set up; absent where that has no exported span.
fn link(timeline: &Timeline) -> Option<Link> {
    let used = timeline.connection.as_ref().filter(|used| used.outcome != ConnOutcome::New)?;
    let setup = used.info.setup.filter(|setup| setup.sampled)?;
    let (trace, span) = (TraceId::from(setup.trace_id), SpanId::from(setup.span_id));
    Some(Link::with_context(SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)))
}

fn trace_ref(span: &SpanContext) -> TraceRef {
    TraceRef {
        trace_id: u128::from_be_bytes(span.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(span.span_id().to_bytes()),
        sampled: span.is_sampled(),
    }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(semconv::SCOPE)
        .with_version(semconv::VERSION)
        .with_schema_url(semconv::SCHEMA_URL)
        .build()
}

#[cfg(test)]
mod tests;
