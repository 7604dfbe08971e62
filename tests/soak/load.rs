//! The load: who asks for what, and what comes of it.
//!
//! Sixty-four ask one after the other. Every tenth request is for a failure, by turns; of every thirty-seven one is given up
//! somewhere on its way.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use httptrace::{BoxError, Client, RequestTimeout, with_client_trace};

use crate::{books::Books, origin::Origins};

/// Far longer than an answer takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const CONCURRENCY: usize = 64;
/// For an answer that never comes.
const SHORT: Duration = Duration::from_millis(150);

/// Something to ask for.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) at: At,
    /// What may come of it: a status, or an `error.type`.
    ends: &'static [&'static str],
}

/// Where it is asked for.
#[derive(Clone, Copy)]
pub(crate) enum At {
    Plain,
    Tls,
    Http2,
    /// HTTP/2, each connection for one request.
    Alone,
    Refusing,
    Garbage,
}

const fn way(name: &'static str, at: At, ends: &'static [&'static str]) -> Way {
    Way { name, at, ends }
}

const GOOD: [Way; 4] = [
    way("ok", At::Plain, &["200"]),
    way("ok-tls", At::Tls, &["200"]),
    way("ok-http2", At::Http2, &["200"]),
    way("ok-then-closed", At::Plain, &["200"]),
];
/// In the order in which they take turns.
const BAD: [Way; 16] = [
    way("refuse", At::Refusing, &["connection_refused"]),
    way("reset", At::Plain, &["connection_reset"]),
    way("close", At::Plain, &["connection_closed"]),
    way("half-head", At::Plain, &["body_incomplete"]),
    way("half-body", At::Plain, &["body_incomplete"]),
    way("hang", At::Plain, &["timeout"]),
    way("malformed", At::Plain, &["malformed_response"]),
    way("refuse-upload", At::Plain, &["413"]),
    way("flood", At::Plain, &["too_many_informational"]),
    way("half-body", At::Tls, &["body_incomplete"]),
    way("close", At::Tls, &["connection_closed"]),
    way("garbage", At::Garbage, &["tls_protocol_error"]),
    way("stream-reset", At::Http2, &["http2_stream_reset"]),
    way("half-body", At::Http2, &["http2_stream_reset"]),
    way("hang", At::Http2, &["timeout"]),
    way("cut", At::Alone, &["connection_closed", "connection_reset", "write_failed"]),
];

/// All that is asked for, by one client.
pub(crate) struct Load {
    client: Mutex<Option<Client>>,
    origins: Origins,
    books: Arc<Books>,
    next: AtomicU64,
    outcomes: Mutex<Outcomes>,
}

#[derive(Default, Clone)]
pub(crate) struct Outcomes {
    /// What was asked for, and what came of it.
    by_way: BTreeMap<(&'static str, &'static str, String), u64>,
    unexpected: Vec<String>,
    hangs: u64,
    ok: u64,
    failed: u64,
    canceled: u64,
}

impl Load {
    pub(crate) fn new(client: Client, origins: Origins, books: Arc<Books>) -> Self {
        let client = Mutex::new(Some(client));
        Self { client, origins, books, next: AtomicU64::new(0), outcomes: Mutex::default() }
    }

    /// Requests that have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.next.load(SeqCst)
    }

    pub(crate) fn take_client(&self) -> Option<Client> {
        self.client.lock().expect("no panic").take()
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        self.outcomes.lock().expect("no panic").clone()
    }

    /// Asks for the requests of these numbers, and returns when all are over.
    pub(crate) async fn run(self: Arc<Self>, numbers: Range<u64>) {
        self.next.store(numbers.start, SeqCst);
        let askers: Vec<_> = (0..CONCURRENCY)
            .map(|_| {
                let (this, end) = (Arc::clone(&self), numbers.end);
                tokio::spawn(async move {
                    loop {
                        let number = this.next.fetch_add(1, SeqCst);
                        if number >= end {
                            return;
                        }
                        this.ask(number).await;
                    }
                })
            })
            .collect();
        for asker in askers {
            asker.await.expect("no panic");
        }
    }

    async fn ask(&self, number: u64) {
        let turn = usize::try_from(number / 10).unwrap_or(0);
        let way = match number % 10 {
            3 => &BAD[turn % BAD.len()],
            nth => &GOOD[usize::try_from(nth).unwrap_or(0) % GOOD.len()],
        };
        // Given up after so many turns of the scheduler: from before it is sent to behind its answer.
        let turns = (number % 37 == 5).then_some(turn % 7);
        let asked = tokio::time::timeout(PATIENCE, given_up_after(turns, self.request(way)));
        let end = match asked.await {
            Ok(end) => end,
            Err(_) => {
                self.outcomes.lock().expect("no panic").hangs += 1;
                return;
            }
        };
        self.outcomes.lock().expect("no panic").add(way, end);
    }

    async fn request(&self, way: &Way) -> Result<String, &'static str> {
        let client = self.client.lock().expect("no panic").clone().expect("it is taken at the end");
        let body = match way.name {
            "refuse-upload" => Full::new(Bytes::from_static(&[0; 1 << 20])),
            _ => Full::default(),
        };
        let body: BoxBody<Bytes, BoxError> = body.map_err(Into::into).boxed();
        let mut request = Request::new(body);
        *request.uri_mut() = self.origins.url(way);
        if way.name == "refuse-upload" {
            *request.method_mut() = Method::POST;
        }
        if way.name == "hang" {
            request.extensions_mut().insert(RequestTimeout(SHORT));
        }
        with_client_trace(&mut request, self.books.page());
        let response = client.request(request).await.map_err(|error| error.error_type())?;
        let status = response.status().as_u16().to_string();
        match response.into_body().collect().await {
            Ok(_) => Ok(status),
            Err(error) => Err(error.error_type()),
        }
    }
}

/// `None`: it was given up.
async fn given_up_after<T>(turns: Option<usize>, asked: impl Future<Output = T>) -> Option<T> {
    let mut asked = pin!(asked);
    let turns = async {
        match turns {
            Some(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
            None => std::future::pending().await,
        }
    };
    // What loses is dropped: that is what is tried here.
    tokio::select! {
        biased;
        end = &mut asked => Some(end),
        () = turns => None,
    }
}

impl Outcomes {
    fn add(&mut self, way: &'static Way, end: Option<Result<String, &'static str>>) {
        let told = match &end {
            None => "given up",
            Some(Ok(status)) => status,
            Some(Err(error)) => error,
        };
        match &end {
            None => self.canceled += 1,
            Some(Ok(_)) => self.ok += 1,
            Some(Err(_)) => self.failed += 1,
        }
        if end.is_some() && !way.ends.contains(&told) {
            self.unexpected.push(format!("{} {}: {told}", way.at.name(), way.name));
        }
        *self.by_way.entry((way.name, way.at.name(), told.to_owned())).or_default() += 1;
    }

    pub(crate) fn faults(&self, requests: u64) -> Vec<String> {
        let Self { by_way, unexpected, hangs, ok, failed, canceled } = self;
        let mut faults: Vec<_> = unexpected.iter().take(10).cloned().collect();
        if *hangs > 0 {
            faults.push(format!("{hangs} requests hang"));
        }
        if ok + failed + canceled != requests {
            faults.push(format!("{ok} + {failed} + {canceled} is not {requests}"));
        }
        // A tenth fails, less what is given up or answered all the same (413); and every failure was met.
        if *failed < requests / 15 || *canceled == 0 {
            faults.push(format!("only {failed} failed and {canceled} were given up"));
        }
        for way in &BAD {
            if !way.ends.iter().any(|end| by_way.contains_key(&(way.name, way.at.name(), (*end).to_owned()))) {
                faults.push(format!("{} {} never came", way.at.name(), way.name));
            }
        }
        faults
    }
}

impl At {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "HTTP/1.1",
            Self::Tls => "HTTP/1.1, TLS",
            Self::Http2 | Self::Alone => "HTTP/2, TLS",
            Self::Refusing => "nobody",
            Self::Garbage => "no TLS",
        }
    }
}

impl fmt::Display for Outcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((name, at, told), count) in &self.by_way {
            writeln!(f, "{name:<16} {at:<14} {told:<24} {count:>7}")?;
        }
        let Self { hangs, ok, failed, canceled, .. } = self;
        let sent = ok + failed + canceled + hangs;
        writeln!(f, "{sent} requests: {ok} answered, {failed} failed, {canceled} given up, {hangs} hanging")
    }
}
