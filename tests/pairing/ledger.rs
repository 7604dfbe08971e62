//! The books: everything that a client tells of its requests, and whether it adds up.
//!
//! In come requests; each gets a log of its own. Out comes what does not balance: a hook without its pair, an attempt
//! without its end or its record, a connection that was not closed once, a span that was lost, ended twice, or has no
//! parent.

use std::{
    collections::HashMap,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use httptrace::{BoxError, Client, ClientBuilder, ResponseFuture, Timeline, with_client_trace};
use opentelemetry::{
    Context,
    trace::{Span as _, SpanId, SpanKind},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};

use crate::{kit::trace::Log, net::Net};

/// A client under watch.
pub(crate) struct Ledger {
    client: Mutex<Option<Client>>,
    net: Net,
    url: &'static str,
    /// Of the client: all requests' hooks, and the ends of connections.
    all: Log,
    /// Of each request.
    requests: Mutex<Vec<Log>>,
    timelines: Arc<Mutex<Vec<Timeline>>>,
    spans: Spans,
}

impl Ledger {
    /// A client of an origin at `http://origin.test/`.
    pub(crate) fn new(builder: ClientBuilder, net: Net) -> Self {
        Self::at("http://origin.test/", builder, net)
    }

    /// A client of an origin at this URL.
    pub(crate) fn at(url: &'static str, builder: ClientBuilder, net: Net) -> Self {
        let (all, spans, timelines) = (Log::new(), Spans::default(), Arc::<Mutex<Vec<Timeline>>>::default());
        let provider = SdkTracerProvider::builder().with_span_processor(spans.clone()).build();
        let told = Arc::clone(&timelines);
        let client = builder
            .connector(net.clone())
            .tracer_provider(&provider)
            .client_trace(all.hooks())
            .on_timeline(move |timeline| told.lock().expect("no panic").push(timeline.clone()))
            .build()
            .expect("settings that fit");
        Self { client: Mutex::new(Some(client)), net, url, all, requests: Mutex::default(), timelines, spans }
    }

    /// `None`: there is no client any more.
    pub(crate) fn send<B>(&self, mut request: Request<B>) -> Option<ResponseFuture>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let client = self.client.lock().expect("no panic").clone()?;
        let log = Log::new();
        with_client_trace(&mut request, log.hooks());
        self.requests.lock().expect("no panic").push(log);
        Some(client.request(request))
    }

    pub(crate) fn take_client(&self) -> Option<Client> {
        self.client.lock().expect("no panic").take()
    }

    /// What all requests told.
    pub(crate) fn log(&self) -> &Log {
        &self.all
    }

    pub(crate) fn url(&self) -> &'static str {
        self.url
    }

    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// Fails, and says of what, unless the books balance while the client lives.
    pub(crate) fn check(&self, of: &dyn Debug) {
        let mut faults = self.faults();
        let (opened, live) = (self.made(), self.net.live());
        let closed = self.all.count("conn_closed");
        if opened != closed + live {
            faults.push(format!("{opened} connections were opened, {closed} closed, {live} are there"));
        }
        self.report(of, &faults);
    }

    /// The same, after the client is gone: nothing may be left.
    pub(crate) fn check_closed(&self, of: &dyn Debug) {
        let mut faults = self.faults();
        let (opened, live) = (self.made(), self.net.live());
        let closed = self.all.count("conn_closed");
        if opened != closed || live != 0 {
            faults.push(format!("at the end, {opened} connections were opened, {closed} closed, {live} are there"));
        }
        self.report(of, &faults);
    }

    /// The same, after the runtime is gone, which may have caught a dial between its stream and its connection.
    pub(crate) fn check_after_runtime(&self, of: &dyn Debug) {
        let mut faults = self.faults();
        let (used, closed, live) = (self.used(), self.ends(), self.net.live());
        faults.extend(used.iter().filter(|id| !closed.contains_key(*id)).map(|id| format!("{id} was not closed")));
        if live != 0 {
            faults.push(format!("{live} streams are left"));
        }
        self.report(of, &faults);
    }

    fn report(&self, of: &dyn Debug, faults: &[String]) {
        let spans = self.spans.0.lock().expect("no panic");
        assert!(faults.is_empty(), "{of:?}\n  {}\n{}{spans:#?}", faults.join("\n  "), self.all);
    }

    /// Streams that became connections.
    fn made(&self) -> usize {
        let failed = |hook| self.all.details(hook).iter().filter(|detail| detail.contains("error=")).count();
        self.net.opened() - failed("tls_handshake_done") - failed("tunnel_done")
    }

    fn faults(&self) -> Vec<String> {
        let requests = self.requests.lock().expect("no panic");
        let mut faults: Vec<_> = requests.iter().flat_map(|log| log.faults(1)).collect();
        faults.extend(self.all.faults(requests.len()));
        let attempts = self.all.count("get_conn");
        let timelines = self.timelines.lock().expect("no panic");
        if timelines.len() != attempts {
            faults.push(format!("{} records of {attempts} attempts", timelines.len()));
        }
        for timeline in timelines.iter() {
            if timeline.end.is_none() || timeline.setup.iter().any(|step| step.end.is_none()) {
                faults.push(format!("a record with an open end: {timeline:?}"));
            }
            if timeline.connection.is_some() != timeline.idle_return.is_some() {
                faults.push(format!("a connection that was not returned: {timeline:?}"));
            }
            if timeline.connection.is_none() && timeline.error.is_none() {
                faults.push(format!("neither a connection nor an error: {timeline:?}"));
            }
        }
        for (id, times) in self.ends() {
            if times != 1 {
                faults.push(format!("{id} was closed {times} times"));
            }
        }
        faults.extend(self.spans.faults(attempts));
        faults
    }

    /// The ids of the connections that requests got.
    fn used(&self) -> Vec<String> {
        self.all.details("got_conn").iter().map(|detail| first_word(detail)).collect()
    }

    /// How often each connection was closed.
    fn ends(&self) -> HashMap<String, usize> {
        let mut ends = HashMap::new();
        for detail in self.all.details("conn_closed") {
            *ends.entry(first_word(&detail)).or_default() += 1;
        }
        ends
    }
}

fn first_word(text: &str) -> String {
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// All spans, as they start and end.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    started: Vec<SpanId>,
    ended: Vec<Ended>,
}

#[derive(Debug)]
struct Ended {
    name: String,
    id: SpanId,
    parent: SpanId,
    kind: SpanKind,
}

impl SpanProcessor for Spans {
    fn on_start(&self, span: &mut Span, _: &Context) {
        self.0.lock().expect("no panic").started.push(span.span_context().span_id());
    }

    fn on_end(&self, span: SpanData) {
        let ended = Ended {
            name: span.name.into_owned(),
            id: span.span_context.span_id(),
            parent: span.parent_span_id,
            kind: span.span_kind,
        };
        self.0.lock().expect("no panic").ended.push(ended);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Spans {
    fn faults(&self, attempts: usize) -> Vec<String> {
        let seen = self.0.lock().expect("no panic");
        let mut faults = Vec::new();
        for id in &seen.started {
            let ends = seen.ended.iter().filter(|span| span.id == *id).count();
            if ends != 1 {
                faults.push(format!("the span {id} ended {ends} times"));
            }
        }
        if seen.ended.len() != seen.started.len() {
            faults.push(format!("{} spans began, {} ended", seen.started.len(), seen.ended.len()));
        }
        let clients = seen.ended.iter().filter(|span| span.kind == SpanKind::Client);
        if clients.clone().count() != attempts {
            faults.push(format!("{} CLIENT spans of {attempts} attempts", clients.clone().count()));
        }
        for span in &seen.ended {
            let parent = seen.ended.iter().find(|other| other.id == span.parent);
            match span.kind {
                SpanKind::Client if span.parent != SpanId::INVALID => {
                    faults.push(format!("{} has a parent", span.name))
                }
                SpanKind::Client => {}
                _ if parent.is_none() => faults.push(format!("{} lost its parent", span.name)),
                _ => {}
            }
        }
        faults
    }
}
