//! Instrumentation changes nothing: whoever listens, a client writes the same bytes, keeps the same limits, reuses the same
//! connections and fails with the same errors.
//!
//! Every scenario is a server that does the same thing each time, byte by byte. It is played once to each instrument; what
//! the server read and what the application got must be equal, but for `traceparent`.

mod http1;
mod http2;

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full, channel::Channel};
use httptrace::{Client, ClientBuilder, ClientTrace, Error, ResponseBody, timeline::TimelineHandle};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider};

use self::Instrument::*;
use crate::{
    every::every_hook,
    support::{frames::lines, origin::Origin, pass, script::Step, within},
};

/// Panics in every hook, and counts them.
#[derive(Default)]
struct Panics(AtomicUsize);

every_hook! {
    for Panics, |this, _, _| {
        this.0.fetch_add(1, Ordering::Relaxed);
        // A panic without its message: thousands would be printed.
        std::panic::resume_unwind(Box::new("a hook that panics"));
    }
}

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instrument {
    Nobody,
    EmptyHook,
    PanickingHook,
    Unsampled,
    Sampled,
    Timeline,
    Everybody,
}

const INSTRUMENTS: [Instrument; 7] =
    [Nobody, EmptyHook, PanickingHook, Unsampled, Sampled, Instrument::Timeline, Everybody];

/// What an instrument can be asked for afterwards.
struct Installed {
    client: Client,
    panics: Arc<Panics>,
    spans: InMemorySpanExporter,
    /// The last one to go clears what was exported.
    _provider: Option<SdkTracerProvider>,
}

impl Instrument {
    fn install(self, builder: ClientBuilder) -> Installed {
        let (panics, spans) = (Arc::new(Panics::default()), InMemorySpanExporter::default());
        let sampler = match self {
            Nobody | EmptyHook | PanickingHook | Instrument::Timeline => None,
            Unsampled => Some(Sampler::AlwaysOff),
            Sampled | Everybody => Some(Sampler::AlwaysOn),
        };
        let provider = sampler.map(|sampler| {
            SdkTracerProvider::builder().with_sampler(sampler).with_simple_exporter(spans.clone()).build()
        });
        let builder = match &provider {
            Some(provider) => builder.tracer_provider(provider),
            None => builder.telemetry(false),
        };
        let hook = Arc::clone(&panics) as Arc<dyn ClientTrace>;
        let builder = match self {
            Nobody | Unsampled | Sampled => builder,
            EmptyHook => builder.client_trace(Arc::new(())),
            PanickingHook => builder.client_trace(hook),
            Instrument::Timeline => builder.timeline(true),
            Everybody => builder.timeline(true).client_trace(hook),
        };
        Installed { client: builder.build().expect("settings that fit"), panics, spans, _provider: provider }
    }

    /// What each request's `traceparent` ends with; none may have one that has no tracer.
    fn flags(self) -> Option<&'static str> {
        match self {
            Nobody | EmptyHook | PanickingHook | Instrument::Timeline => None,
            Unsampled => Some("-00"),
            Sampled | Everybody => Some("-01"),
        }
    }
}

/// What the application does.
#[derive(Debug, Clone, Copy)]
enum Ask {
    Get,
    /// The response's body is dropped unread.
    GetAndDrop,
    Post(&'static str),
    /// A body that waits for 100 Continue.
    Expect(&'static str),
    /// A body that begins and does not end before the answer is read.
    Upload(&'static str),
    /// Ten seconds pass while the server is at the gate "late".
    Late,
    /// Dropped while the server is at the gate "late".
    GiveUp,
}

struct Scenario {
    name: &'static str,
    scripts: Vec<Vec<Step>>,
    client: fn(ClientBuilder) -> ClientBuilder,
    asks: Vec<Ask>,
}

impl Scenario {
    fn new(name: &'static str, asks: impl Into<Vec<Ask>>, scripts: impl Into<Vec<Vec<Step>>>) -> Self {
        Self { name, scripts: scripts.into(), client: |builder| builder, asks: asks.into() }
    }

    fn with(self, client: fn(ClientBuilder) -> ClientBuilder) -> Self {
        Self { client, ..self }
    }
}

/// What can be seen from outside.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// By the application, one for each of its requests.
    results: Vec<String>,
    /// By the server, one for each connection.
    connections: Vec<Vec<String>>,
}

async fn result(response: Result<Response<ResponseBody>, Error>, instrument: Instrument, drops: bool) -> String {
    let told = |error: Error| format!("{} in {}", error.error_type(), error.phase());
    let response = match response {
        Ok(response) => response,
        Err(error) => return told(error),
    };
    let has_record = matches!(instrument, Instrument::Timeline | Everybody);
    assert_eq!(response.extensions().get::<TimelineHandle>().is_some(), has_record);
    let status = response.status();
    if drops {
        return format!("{status} dropped");
    }
    match within("a body", response.into_body().collect()).await {
        Ok(body) => format!("{status} {:?}", body.to_bytes()),
        Err(error) => format!("{status} {}", told(error)),
    }
}

async fn ask(client: &Client, origin: &Origin, ask: Ask, instrument: Instrument) -> String {
    let post = || Request::post(origin.url("/there?a=b")).header("x-mine", "1");
    let full = |body: &'static str| Full::new(Bytes::from_static(body.as_bytes()));
    let response = match ask {
        Ask::Get | Ask::GetAndDrop => client.get(origin.url("/")),
        Ask::Post(body) => client.request(post().body(full(body)).expect("a request")),
        Ask::Expect(body) => {
            client.request(post().header("expect", "100-continue").body(full(body)).expect("a request"))
        }
        Ask::Upload(first) => {
            let (mut sender, body) = Channel::<Bytes, Error>::new(1);
            sender.send_data(Bytes::from_static(first.as_bytes())).await.expect("room for one");
            let response = within("a head", client.request(post().body(body).expect("a request"))).await;
            let result = result(response, instrument, false).await;
            drop(sender);
            return result;
        }
        Ask::Late | Ask::GiveUp => {
            let request = Request::get(origin.url("/")).body(Empty::new()).expect("a request");
            let response = tokio::spawn(client.request(request));
            origin.gate("late").reached().await;
            if let Ask::GiveUp = ask {
                response.abort();
                let _ = response.await;
                return "given up".to_owned();
            }
            pass(Duration::from_secs(10)).await;
            return result(response.await.expect("no panic"), instrument, false).await;
        }
    };
    let response = within("a head", response).await;
    result(response, instrument, matches!(ask, Ask::GetAndDrop)).await
}

async fn play(scenario: &Scenario, http2: bool, instrument: Instrument) -> Seen {
    let origin = Origin::plain().scripts(scenario.scripts.clone());
    let builder = if http2 { origin.client_builder().http2_prior_knowledge() } else { origin.client_builder() };
    let installed = instrument.install((scenario.client)(builder));
    let mut results = Vec::new();
    for one in &scenario.asks {
        results.push(ask(&installed.client, &origin, *one, instrument).await);
    }
    drop(installed.client);
    for gate in ["late", "end"] {
        origin.gate(gate).open();
    }
    origin.until(scenario.name, |record| record.connections.iter().all(|connection| connection.closed)).await;
    assert_eq!(installed.panics.0.load(Ordering::Relaxed) > 0, matches!(instrument, PanickingHook | Everybody));
    let exported = installed.spans.get_finished_spans().expect("a live exporter").len();
    assert_eq!(exported > 0, matches!(instrument, Sampled | Everybody), "{}", scenario.name);
    let connections = origin.record().connections;
    let written = connections.iter().map(|connection| {
        if http2 {
            http2_bytes(&connection.received, instrument)
        } else {
            http1_bytes(&connection.received, instrument)
        }
    });
    Seen { results, connections: written.collect() }
}

/// What was written, without `traceparent`, which is there once in each head or in none.
fn http1_bytes(received: &[u8], instrument: Instrument) -> Vec<String> {
    let received = String::from_utf8(received.to_vec()).expect("text");
    let mut lines: Vec<_> = received.split_inclusive("\r\n").map(str::to_owned).collect();
    let heads = lines.iter().filter(|line| line.ends_with(" HTTP/1.1\r\n")).count();
    let is_ours = |line: &str| line.starts_with("traceparent: ");
    let (ours, wanted) = (lines.iter().filter(|line| is_ours(line)).count(), instrument.flags());
    assert_eq!(ours, if wanted.is_some() { heads } else { 0 }, "{instrument:?}: {received}");
    for line in lines.iter().filter(|line| is_ours(line)) {
        assert!(line.trim_end().ends_with(wanted.expect("counted above")), "{instrument:?}: {line}");
    }
    lines.retain(|line| !is_ours(line));
    lines
}

/// The same, stream by stream: whether a frame of the connection goes out before or behind one of a stream is a matter of
/// moments.
fn http2_bytes(received: &[u8], instrument: Instrument) -> Vec<String> {
    let mut lines = lines(received);
    lines.sort_by_key(|line| line.stream);
    let lines = lines.into_iter().map(|mut line| {
        let is_head = line.fields.iter().any(|(name, _)| name == ":method");
        let mut ours: Vec<_> = line.fields.extract_if(.., |(name, _)| name == "traceparent").collect();
        assert_eq!(ours.len(), usize::from(is_head && instrument.flags().is_some()), "{instrument:?}: {line:?}");
        if let Some((_, value)) = ours.pop() {
            assert!(value.ends_with(instrument.flags().expect("counted above")), "{instrument:?}: {value}");
        }
        for (name, value) in &line.fields {
            write!(line.text, " {name}={value}").expect("a string takes everything");
        }
        line.text
    });
    lines.collect()
}

/// The origin's own port is no difference.
fn without_ports(seen: Seen, origin_port: &str) -> Seen {
    let clean = |text: String| text.replace(origin_port, "PORT");
    Seen {
        results: seen.results,
        connections: seen.connections.into_iter().map(|lines| lines.into_iter().map(clean).collect()).collect(),
    }
}

fn port_in(seen: &Seen) -> String {
    let text = seen.connections.concat().concat();
    let at = text.find("127.0.0.1:").expect("the host of a request") + "127.0.0.1:".len();
    text[at..].chars().take_while(char::is_ascii_digit).collect()
}

/// The result of a request that is answered as it should be.
const DONE: &str = "200 OK b\"ok\"";

/// Plays each scenario to every instrument: with these results, over so many connections, and in all else alike.
async fn all_alike(http2: bool, scenarios: Vec<(Scenario, &[&str], usize)>) {
    for (scenario, results, connections) in scenarios {
        let mut first: Option<Seen> = None;
        for instrument in INSTRUMENTS {
            let seen = play(&scenario, http2, instrument).await;
            let port = port_in(&seen);
            let seen = without_ports(seen, &port);
            // What nobody listens to is what it should be.
            assert_eq!(seen.results, results, "{}, {instrument:?}", scenario.name);
            assert_eq!(seen.connections.len(), connections, "{}, {instrument:?}", scenario.name);
            match &first {
                None => first = Some(seen),
                Some(first) => assert_eq!(seen, *first, "{}, {instrument:?}", scenario.name),
            }
        }
    }
}
