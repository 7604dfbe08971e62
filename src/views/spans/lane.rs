//! The lane past the SDK: an attempt is ids while it runs, and a record to hand over when it is done.
//!
//! In: a [`Lane`], found behind a tracer by asking once ([`Question`]). Out: [`Record`]s, which tell the same spans as those
//! that the SDK would have made ([`Record::tell`]), on whatever thread the lane likes. The request's own thread makes no span,
//! no attribute and no text.

use std::{
    any::{Any, TypeId},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::request::Parts;
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, TraceContextExt},
};

use super::{
    Making, SpanDetail, attributes,
    telling::Attributes,
    trace_ref,
    tree::{self, Sink},
};
use crate::{
    clock::TimeAnchor,
    connection::TraceRef,
    timeline::{Asked, DialOutcome, DialRecord, PendingDial, Report, Timeline},
};

/// A provider's own way out, for attempts.
pub(crate) trait Lane: Send + Sync {
    /// Whether the sampler looks at attributes.
    fn reads_attributes(&self) -> bool;

    /// Begins a CLIENT span: asks the sampler, once. `None` after the end of the provider.
    fn begin(&self, name: &'static str, attributes: &[KeyValue], parent: &Context) -> Option<Begun>;

    fn new_span_id(&self) -> SpanId;

    /// An attempt, or a dial, is over. It does not wait.
    fn take(&self, record: Record);
}

/// A CLIENT span that has begun.
pub(crate) struct Begun {
    pub(crate) span: SpanContext,
    /// The sampler's.
    pub(crate) attributes: Vec<KeyValue>,
}

/// Asked with the first CLIENT span of a client, in the context that its sampler sees: is there a lane behind this tracer? A
/// lane's sampler answers, and lets nothing come of that span; others never hear of it.
#[derive(Clone)]
pub(crate) struct Question {
    tracer: TypeId,
    vouched: Arc<AtomicBool>,
    answer: Arc<OnceLock<Arc<dyn Lane>>>,
}

impl Question {
    pub(super) fn of<T: Any>() -> Self {
        Self { tracer: TypeId::of::<T>(), vouched: Arc::default(), answer: Arc::default() }
    }

    /// Whether nobody is between the client and the tracer, which is of this type or has vouched for it: who is may change
    /// what the tracer makes.
    pub(crate) fn is_asked_of<T: Any>(&self) -> bool {
        self.tracer == TypeId::of::<T>() || self.vouched.load(Ordering::Relaxed)
    }

    /// The client asks a tracer that hides its type, and that is the one behind it.
    pub(crate) fn vouch<T: Any>(&self) {
        self.vouched.fetch_or(self.tracer == TypeId::of::<T>(), Ordering::Relaxed);
    }

    pub(crate) fn answer(&self, lane: Arc<dyn Lane>) {
        // A second answer would be the same.
        let _ = self.answer.set(lane);
    }

    pub(super) fn answered(&self) -> Option<Arc<dyn Lane>> {
        self.answer.get().cloned()
    }
}

/// What is handed over: enough to tell all spans of an attempt, or of a dial.
#[derive(Clone)]
pub(crate) struct Record {
    /// The CLIENT span.
    pub(crate) client: SpanContext,
    /// Its parent; invalid if it has none.
    pub(crate) parent: SpanId,
    pub(crate) parent_is_remote: bool,
    pub(crate) anchor: TimeAnchor,
    /// What its sampler added.
    pub(crate) sampled: Vec<KeyValue>,
    /// Whether that came before the request's own attributes.
    asked_without: bool,
    /// The identity that was given away, of a `get-connection` or `background-dial`.
    pub(crate) setup: Option<SpanId>,
    what: What,
}

#[derive(Clone)]
enum What {
    Attempt { timeline: Arc<Timeline>, detail: SpanDetail, since: Option<Instant> },
    Dial(Box<(DialRecord, Option<DialOutcome>)>),
}

impl Record {
    /// One that no lane made.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn of(
        client: SpanContext,
        parent: SpanId,
        sampled: Vec<KeyValue>,
        setup: Option<SpanId>,
        timeline: Timeline,
        detail: SpanDetail,
    ) -> Self {
        let (anchor, timeline) = (timeline.anchor, Arc::new(timeline));
        let what = What::Attempt { timeline, detail, since: None };
        Self { client, parent, parent_is_remote: false, anchor, sampled, asked_without: false, setup, what }
    }

    /// Tells its spans, children first.
    pub(crate) fn tell(&self, sink: &mut impl Sink) {
        match &self.what {
            What::Attempt { timeline, detail, since } => tree::attempt(timeline, *detail, *since, sink),
            What::Dial(dial) => {
                let (dial, outcome) = &**dial;
                let end = tree::steps(dial, self.anchor, sink);
                sink.span(&tree::dial(dial.start, end, dial.error.as_ref(), *outcome));
            }
        }
    }

    /// What its CLIENT span was started with.
    pub(crate) fn tell_start(&self, told: &mut impl Attributes) {
        let What::Attempt { timeline, .. } = &self.what else { return };
        if self.asked_without {
            self.sampled.iter().for_each(|attribute| told.put(attribute.clone()));
        }
        attributes::request(&timeline.request, told);
        if !self.asked_without {
            self.sampled.iter().for_each(|attribute| told.put(attribute.clone()));
        }
    }
}

/// How an attempt is started.
pub(super) struct Start<'a> {
    pub(super) spans: Arc<dyn Making>,
    pub(super) lane: &'a Arc<dyn Lane>,
    pub(super) request: &'a Parts,
    pub(super) asked: &'a Asked<'a>,
    pub(super) anchor: TimeAnchor,
    pub(super) parent: &'a Context,
    pub(super) detail: SpanDetail,
}

impl Start<'_> {
    /// `None` after the end of the provider.
    pub(super) fn attempt(self) -> Option<Attempt> {
        let Self { spans, lane, request, asked, anchor, parent, detail } = self;
        let before = parent.span().span_context().clone();
        let unsampled = before.is_valid() && !before.is_sampled();
        let mut given = Vec::new();
        // A sampler that follows its parent asks for no attributes below an unsampled one.
        if !unsampled && lane.reads_attributes() {
            attributes::request(asked.info(request), &mut given);
        }
        let Begun { span, attributes: sampled } = lane.begin(attributes::name(&request.method), &given, parent)?;
        Some(Attempt {
            lane: Arc::clone(lane),
            spans,
            parent: super::let_go(parent, &before),
            before,
            root: span,
            anchor,
            detail,
            sampled,
            asked_without: unsampled,
            setup: OnceLock::new(),
        })
    }
}

/// One attempt's ids. Of one that is not sampled, only what its next attempt needs is kept.
pub(super) struct Attempt {
    pub(super) spans: Arc<dyn Making>,
    lane: Arc<dyn Lane>,
    /// The context of the call, for the next attempt.
    pub(super) parent: Context,
    before: SpanContext,
    pub(super) root: SpanContext,
    anchor: TimeAnchor,
    pub(super) detail: SpanDetail,
    sampled: Vec<KeyValue>,
    asked_without: bool,
    /// A `get-connection` that began a dial, and when.
    setup: OnceLock<(SpanId, Instant)>,
}

impl Attempt {
    fn record(&self, setup: Option<SpanId>, what: What) -> Record {
        let sampled = match &what {
            What::Attempt { .. } => self.sampled.clone(),
            What::Dial(_) => Vec::new(),
        };
        Record {
            client: self.root.clone(),
            parent: self.before.span_id(),
            parent_is_remote: self.before.is_valid() && self.before.is_remote(),
            anchor: self.anchor,
            sampled,
            asked_without: self.asked_without,
            setup,
            what,
        }
    }

    fn reference(&self, id: SpanId) -> TraceRef {
        TraceRef { span_id: u64::from_be_bytes(id.to_bytes()), ..trace_ref(&self.root) }
    }
}

impl Report for Attempt {
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
        let (id, _) = self.setup.get_or_init(|| (self.lane.new_span_id(), at));
        Some(self.reference(*id))
    }

    fn background_dial(&self, dial: &DialRecord) -> Option<PendingDial> {
        if !self.detail.shows(dial) {
            return None;
        }
        let id = self.lane.new_span_id();
        let what = What::Dial(Box::new((dial.clone(), None)));
        let mut pending = Pending { lane: Arc::clone(&self.lane), record: Some(self.record(Some(id), what)) };
        let finish = Box::new(move |outcome| pending.end(Some(outcome)));
        Some(PendingDial { trace: Some(self.reference(id)), finish })
    }

    fn finished(&self, timeline: &Arc<Timeline>) {
        let (setup, since) = self.setup.get().copied().unzip();
        let what = What::Attempt { timeline: Arc::clone(timeline), detail: self.detail, since };
        self.lane.take(self.record(setup, what));
    }
}

/// A dial that waits for the pool's word. Without it, it is told all the same: others have been linked to it.
struct Pending {
    lane: Arc<dyn Lane>,
    record: Option<Record>,
}

impl Pending {
    fn end(&mut self, word: Option<DialOutcome>) {
        let Some(mut record) = self.record.take() else { return };
        if let What::Dial(dial) = &mut record.what {
            dial.1 = word;
        }
        self.lane.take(record);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.end(None);
    }
}
