//! The lane of attempts: their records go to the collectors without becoming spans of the SDK.
//!
//! In: records, from the threads on which attempts end. Out: exports through the same [`OtlpSpans`] that the SDK's batches
//! take. What the SDK does for its spans is done here too: sampling, limits of the queue and of a batch, the time between
//! exports, flushing and the end, which reach it through the provider's span processor.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId},
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{IdGenerator, RandomIdGenerator, SamplingDecision, SamplingResult, SdkTracer, ShouldSample, SpanLimits},
};
use tokio::{runtime::Handle, sync::Notify};

use super::{encode::Encoder, env::Batch, exporter::OtlpSpans};
use crate::{
    clock,
    views::spans::{
        lane::{self, Begun, Question, Record},
        scope,
        tree::{Part, Sink},
    },
};

/// A provider's lane.
#[derive(Debug)]
pub(super) struct Lane {
    sampler: Box<dyn ShouldSample>,
    reads_attributes: bool,
    ids: RandomIdGenerator,
    ways: Vec<Arc<Way>>,
}

impl Lane {
    pub(super) fn new(sampler: (Box<dyn ShouldSample>, bool), ways: Vec<Arc<Way>>) -> Arc<Self> {
        let (sampler, reads_attributes) = sampler;
        Arc::new(Self { sampler, reads_attributes, ids: RandomIdGenerator::default(), ways })
    }
}

impl lane::Lane for Lane {
    fn reads_attributes(&self) -> bool {
        self.reads_attributes
    }

    fn begin(&self, name: &'static str, attributes: &[KeyValue], parent: &Context) -> Option<Begun> {
        if self.ways.iter().all(|way| way.ended.load(Relaxed)) {
            return None;
        }
        let active = parent.span();
        let before = active.span_context();
        let is_root = !before.is_valid();
        let trace = if is_root { self.ids.new_trace_id() } else { before.trace_id() };
        let SamplingResult { decision, attributes, trace_state } =
            self.sampler.should_sample(Some(parent), trace, name, &SpanKind::Client, attributes, &[]);
        let flags = match decision {
            SamplingDecision::RecordAndSample if is_root => TraceFlags::SAMPLED,
            SamplingDecision::RecordAndSample => before.trace_flags().with_sampled(true),
            // Recorded, it would be seen by processors only, and there are none.
            SamplingDecision::RecordOnly | SamplingDecision::Drop => TraceFlags::default(),
        };
        let span = SpanContext::new(trace, self.ids.new_span_id(), flags, false, trace_state);
        Some(Begun { span, attributes })
    }

    fn new_span_id(&self) -> SpanId {
        self.ids.new_span_id()
    }

    fn take(&self, record: Record) {
        match &*self.ways {
            [way] => way.take(record),
            ways => ways.iter().for_each(|way| way.take(record.clone())),
        }
    }
}

/// The provider's sampler: answers those who ask for the lane, and else does what it is told to.
#[derive(Debug, Clone)]
pub(super) struct Asked(pub(super) Arc<Lane>);

impl ShouldSample for Asked {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let question = parent.and_then(|parent| parent.get::<Question>());
        if let Some(question) = question.filter(|question| question.is_asked_of::<SdkTracer>()) {
            question.answer(Arc::clone(&self.0) as _);
            let (decision, attributes) = (SamplingDecision::Drop, Vec::new());
            return SamplingResult { decision, attributes, trace_state: Default::default() };
        }
        self.0.sampler.should_sample(parent, trace, name, kind, attributes, links)
    }
}

/// The way to one collector: a queue, and who empties it.
pub(super) struct Way {
    exporter: Arc<OtlpSpans>,
    delay: Duration,
    /// Spans in one export, and records in the queue.
    batch: usize,
    most: usize,
    queue: Mutex<Queue>,
    /// There is reason not to wait for the time of the next export.
    hurry: Notify,
    /// Something was exported, or the end was reached.
    progress: Condvar,
    ended: AtomicBool,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<Record>,
    /// Told, and to be let go of by those who bring the next ones: memory that goes back to the thread it came from is at
    /// hand for the next request, and that of another thread is not.
    told: Vec<Record>,
    /// Records so far: taken, and done with.
    taken: u64,
    done: u64,
    /// Exports that failed.
    failures: u64,
    /// The end has begun: nothing is taken any more.
    closed: bool,
    /// The end was reached: nothing is left.
    idle: bool,
    /// Something found no place since the last export.
    overflows: bool,
}

impl Way {
    pub(super) fn new(
        exporter: Arc<OtlpSpans>,
        batch: &Batch,
        resource: &Resource,
        limits: SpanLimits,
        runtime: &Handle,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            exporter,
            delay: batch.delay,
            batch: batch.size,
            most: batch.queue,
            queue: Mutex::default(),
            hurry: Notify::new(),
            progress: Condvar::new(),
            ended: AtomicBool::new(false),
        });
        runtime.spawn(Arc::clone(&this).run(Encoder::new(resource, &scope(), limits)));
        this
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, record: Record) {
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        if queue.records.len() >= self.most {
            let first = !std::mem::replace(&mut queue.overflows, true);
            drop(queue);
            return self.exporter.delivery.overflowed(Count::of(&record), self.most, "records", first);
        }
        queue.records.push_back(record);
        queue.taken += 1;
        let full = queue.records.len() == self.hurry_at();
        let told = queue.told.pop();
        drop(queue);
        drop(told);
        if full {
            self.hurry.notify_one();
        }
    }

    /// So many records are a batch: most attempts reuse a connection, and have four spans then.
    fn hurry_at(&self) -> usize {
        self.batch.div_ceil(4).min(self.most)
    }

    /// Empties the queue from time to time, until the end.
    async fn run(self: Arc<Self>, mut encoder: Encoder) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.delay) => {}
                () = self.hurry.notified() => {}
            }
            self.empty(&mut encoder).await;
            let mut queue = self.queue();
            if queue.closed && queue.records.is_empty() {
                queue.idle = true;
                self.progress.notify_all();
                return;
            }
        }
    }

    /// Exports what is in the queue, some records at a time, since others are waiting for their places.
    async fn empty(&self, encoder: &mut Encoder) {
        let (mut some, mut told) = (Vec::with_capacity(SOME), Vec::with_capacity(SOME));
        // Counted from here on: the spans that were written and sent, and of each record that is not done with the last one.
        let (mut written, mut sent, mut lasts) = (0, 0, VecDeque::new());
        loop {
            self.swap(&mut told, &mut some, written > 0);
            told.clear();
            let nothing_waits = some.is_empty();
            for record in some.drain(..) {
                let before = encoder.spans();
                encoder.write(&record);
                let spans = encoder.spans() - before;
                self.exporter.delivery.handed(spans as u64);
                written += spans;
                lasts.push_back(written);
                told.push(record);
            }
            while encoder.spans() >= self.batch || nothing_waits && encoder.spans() > 0 {
                let spans = encoder.spans().min(self.batch);
                let delivered = self.exporter.deliver(encoder.message(spans), spans as u64).await.is_ok();
                sent += spans;
                let done = lasts.iter().take_while(|last| **last <= sent).count();
                lasts.drain(..done);
                self.progressed(done as u64, delivered);
            }
            if nothing_waits {
                return;
            }
        }
    }

    /// Takes some records out of the queue, and leaves those that were told to who brings more: none if none came lately.
    fn swap(&self, told: &mut Vec<Record>, some: &mut Vec<Record>, busy: bool) {
        let mut queue = self.queue();
        let count = queue.records.len().min(SOME);
        some.extend(queue.records.drain(..count));
        if busy || count > 0 {
            let room = self.hurry_at().saturating_sub(queue.told.len()).min(told.len());
            queue.told.extend(told.drain(..room));
        } else {
            told.append(&mut queue.told);
        }
    }

    fn progressed(&self, records: u64, delivered: bool) {
        let mut queue = self.queue();
        queue.done += records;
        queue.failures += u64::from(!delivered);
        queue.overflows = false;
        self.progress.notify_all();
    }

    /// Waits until all that was taken before this call is exported.
    pub(super) fn flush(&self, timeout: Duration) -> OTelSdkResult {
        let queue = self.queue();
        let (before, target) = (queue.failures, queue.taken);
        self.hurry.notify_one();
        let (queue, waited) = self
            .progress
            .wait_timeout_while(queue, timeout, |queue| queue.done < target && !queue.idle)
            .unwrap_or_else(PoisonError::into_inner);
        match () {
            () if waited.timed_out() => Err(OTelSdkError::Timeout(timeout)),
            () if queue.failures > before => Err(OTelSdkError::InternalFailure("an export failed".to_owned())),
            () => Ok(()),
        }
    }

    /// Takes nothing more. What was taken is exported at once.
    pub(super) fn close(&self) {
        self.ended.store(true, Relaxed);
        self.queue().closed = true;
        self.hurry.notify_one();
    }

    /// Waits for the end, after [`close`](Self::close).
    pub(super) fn closed(&self, deadline: Instant) -> OTelSdkResult {
        let left = deadline.saturating_duration_since(clock::now());
        let (queue, _) = self
            .progress
            .wait_timeout_while(self.queue(), left, |queue| !queue.idle)
            .unwrap_or_else(PoisonError::into_inner);
        if queue.idle { Ok(()) } else { Err(OTelSdkError::Timeout(left)) }
    }

    /// Lets go of what the end left behind, and counts it.
    pub(super) fn abandon(&self) {
        let records = std::mem::take(&mut self.queue().records);
        self.exporter.delivery.handed(records.iter().map(Count::of).sum());
    }
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way").field("exporter", &self.exporter).finish_non_exhaustive()
    }
}

/// Records that are taken from the queue at once.
const SOME: usize = 64;

/// Counts a record's spans.
struct Count(u64);

impl Count {
    fn of(record: &Record) -> u64 {
        let mut count = Self(0);
        record.tell(&mut count);
        count.0
    }
}

impl Sink for Count {
    fn span(&mut self, _: &Part<'_>) {
        self.0 += 1;
    }
}
