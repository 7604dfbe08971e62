//! Spans of a tracer: the CLIENT span runs while its attempt does, its children are made when that is over.
//!
//! In: an attempt's start, its record, and a tracer of whatever provider the application has. Out: that tracer's spans.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use http::request::Parts;
use opentelemetry::{
    Context, KeyValue,
    trace::{
        Event, Span, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    },
};

use super::{
    Making, SpanDetail,
    telling::{Attributes, Fact, Moment, Telling},
    trace_ref,
    tree::{self, Part, Place, Sink},
};
use crate::{
    clock::TimeAnchor,
    connection::TraceRef,
    hooks::contained,
    phase::Phase,
    timeline::{Asked, DialOutcome, DialRecord, PendingDial, Report, Timeline},
};

/// One attempt's spans.
pub(super) struct Attempt<T: Tracer> {
    pub(super) spans: Arc<dyn Making>,
    pub(super) tracer: Arc<T>,
    /// The context of the call, for the next attempt.
    pub(super) parent: Context,
    pub(super) root: SpanContext,
    pub(super) anchor: TimeAnchor,
    pub(super) detail: SpanDetail,
    pub(super) live: Mutex<Option<Live<T::Span>>>,
}

pub(super) struct Live<S> {
    pub(super) client: S,
    /// A `get-connection` that began a dial, and when. Boxed: most attempts have none, and this moves with the CLIENT span.
    pub(super) setup: Option<Box<(S, Instant)>>,
}

impl<T: Tracer> Attempt<T> {
    fn live(&self) -> MutexGuard<'_, Option<Live<T::Span>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tree(&self) -> Tree<'_, T> {
        Tree {
            tracer: &self.tracer,
            anchor: self.anchor,
            context: self.parent.with_remote_span_context(self.root.clone()),
            client: None,
            setup: None,
            under_setup: None,
        }
    }
}

impl<T: Tracer<Span: Send + Sync> + Send + Sync + 'static> Report for Attempt<T> {
    fn again(&self, request: &mut Parts, asked: &Asked<'_>, anchor: TimeAnchor) -> Option<Arc<dyn Report>> {
        Arc::clone(&self.spans).start(request, asked, anchor, &self.parent, self.detail)
    }

    fn trace(&self) -> Option<TraceRef> {
        Some(trace_ref(&self.root))
    }

    fn setup_started(&self, at: Instant) -> Option<TraceRef> {
        if !self.detail.shows_dials() {
            return None;
        }
        let span = self.tree().start(Phase::GetConnection.as_str(), at);
        let trace = trace_ref(span.span_context());
        let mut live = self.live();
        let setup = &mut live.as_mut()?.setup;
        let setup = setup.get_or_insert_with(|| Box::new((span, at)));
        debug_assert_eq!(trace, trace_ref(setup.0.span_context()), "an attempt has one get-connection");
        Some(trace)
    }

    fn background_dial(&self, dial: &DialRecord) -> Option<PendingDial> {
        if !self.detail.shows(dial) {
            return None;
        }
        let mut tree = self.tree();
        let span = tree.start(tree::dial(dial.start, dial.end, None, None).name, dial.start);
        let trace = Some(trace_ref(span.span_context()));
        tree.under_setup = Some(tree.below(span.span_context()));
        // By the attempt's clock pair, as all of its trace.
        let (start, end) = (dial.start, tree::steps(dial, self.anchor, &mut tree));
        let (mut span, anchor, error) = (Open { span, anchor: self.anchor }, self.anchor, dial.error.clone());
        let finish = Box::new(move |outcome: DialOutcome| {
            tree::dial(start, end, error.as_ref(), Some(outcome)).tell(&mut span);
            span.span.end_with_timestamp(anchor.system(end));
        });
        Some(PendingDial { trace, finish })
    }

    fn finished(&self, timeline: &Arc<Timeline>) {
        // Out of the lock first: ending a span calls the application's processors.
        let Some(Live { client, setup }) = self.live().take() else { return };
        let (setup, since) = setup.map(|setup| *setup).unzip();
        let mut tree = self.tree();
        tree.under_setup = setup.as_ref().map(|span: &T::Span| tree.below(span.span_context()));
        (tree.client, tree.setup) = (Some(client), setup);
        tree::attempt(timeline, self.detail, since, &mut tree);
    }
}

/// Starts and ends spans below one CLIENT span.
struct Tree<'a, T: Tracer> {
    tracer: &'a T,
    anchor: TimeAnchor,
    /// The CLIENT span as parent.
    context: Context,
    /// Those that run.
    client: Option<T::Span>,
    setup: Option<T::Span>,
    /// What steps of a dial are below.
    under_setup: Option<Context>,
}

impl<T: Tracer> Tree<'_, T> {
    /// An open child of the CLIENT span.
    fn start(&self, name: &'static str, at: Instant) -> T::Span {
        let builder = SpanBuilder::from_name(name).with_start_time(self.anchor.system(at));
        self.tracer.build_with_context(builder, &self.context)
    }

    fn below(&self, span: &SpanContext) -> Context {
        self.context.with_remote_span_context(span.clone())
    }

    fn begun(&mut self, part: &Part<'_>) -> T::Span {
        let mut draft = Draft { anchor: self.anchor, attributes: Vec::new(), events: Vec::new(), status: None };
        part.tell(&mut draft);
        let mut builder = SpanBuilder::from_name(part.name)
            .with_start_time(self.anchor.system(part.start))
            .with_attributes(draft.attributes);
        if !draft.events.is_empty() {
            builder = builder.with_events(draft.events);
        }
        let parent = match part.place {
            Place::Step => self.under_setup.as_ref().unwrap_or(&self.context),
            Place::Client | Place::Below | Place::Setup => &self.context,
        };
        let mut span = self.tracer.build_with_context(builder, parent);
        if let Some(status) = draft.status {
            span.set_status(status);
        }
        if part.place == Place::Setup {
            self.under_setup = Some(self.below(span.span_context()));
        }
        span
    }
}

impl<T: Tracer> Sink for Tree<'_, T> {
    fn span(&mut self, part: &Part<'_>) {
        // One by one: unwinding would drop the spans that still run, which ends them, and a processor that panics again
        // within that takes the process with it.
        contained(|| self.end(part));
    }
}

impl<T: Tracer> Tree<'_, T> {
    fn end(&mut self, part: &Part<'_>) {
        let running = match part.place {
            Place::Client => self.client.take(),
            Place::Setup => self.setup.take(),
            Place::Below | Place::Step => None,
        };
        let mut span = match running {
            Some(span) => {
                let mut open = Open { span, anchor: self.anchor };
                part.tell(&mut open);
                open.span
            }
            None => self.begun(part),
        };
        span.end_with_timestamp(self.anchor.system(part.end));
    }
}

/// A span that is not begun yet: what it begins with costs less than what is set later.
struct Draft {
    anchor: TimeAnchor,
    attributes: Vec<KeyValue>,
    events: Vec<Event>,
    status: Option<Status>,
}

impl Attributes for Draft {
    fn room(&mut self, more: usize) {
        self.attributes.room(more);
    }

    fn set(&mut self, key: &'static str, fact: Fact<'_>) {
        self.attributes.set(key, fact);
    }

    fn put(&mut self, attribute: KeyValue) {
        self.attributes.push(attribute);
    }
}

impl Telling for Draft {
    fn event(&mut self, moment: Moment) {
        let mut attributes = Vec::new();
        moment.tell(&mut attributes);
        self.events.reserve_exact(1);
        self.events.push(Event::new(moment.name(), self.anchor.system(moment.at), attributes, 0));
    }

    fn link(&mut self, _: TraceRef) {}

    fn status(&mut self, status: Status) {
        self.status = Some(status);
    }
}

/// A span that runs.
pub(super) struct Open<S> {
    pub(super) span: S,
    pub(super) anchor: TimeAnchor,
}

impl<S: Span> Attributes for Open<S> {
    fn set(&mut self, key: &'static str, fact: Fact<'_>) {
        self.span.set_attribute(KeyValue::new(key, fact.owned()));
    }

    fn put(&mut self, attribute: KeyValue) {
        self.span.set_attribute(attribute);
    }
}

impl<S: Span> Telling for Open<S> {
    fn event(&mut self, moment: Moment) {
        let mut attributes = Vec::new();
        moment.tell(&mut attributes);
        self.span.add_event_with_timestamp(moment.name(), self.anchor.system(moment.at), attributes);
    }

    fn link(&mut self, to: TraceRef) {
        let (trace, span) = (TraceId::from(to.trace_id), SpanId::from(to.span_id));
        self.span.add_link(SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE), Vec::new());
    }

    fn status(&mut self, status: Status) {
        self.span.set_status(status);
    }
}
