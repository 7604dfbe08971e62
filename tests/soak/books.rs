//! What the client tells: every hook of every request, every record, every span that is to be made, every connection.
//!
//! A request has a page of its own. The page is judged when the last one who could write on it has let go of it, so that
//! what comes late counts, and what is never let go of is missing at the end.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use http::request::Parts;
use httptrace::{
    ClientTrace, Phase, Timeline,
    clock::TimeAnchor,
    connection::{ConnectionInfo, TraceRef},
    hooks::{self, CloseReason, IdleReturn},
    timeline::{Asked, ConnectionReport, DialRecord, PendingDial, Report, Reporter},
};

/// All counts of one client.
#[derive(Default)]
pub(crate) struct Books {
    pages: AtomicU64,
    judged: AtomicU64,
    hooks: AtomicU64,
    attempts: AtomicU64,
    records: AtomicU64,
    spans: AtomicU64,
    background: AtomicU64,
    opened: AtomicU64,
    closed: AtomicU64,
    told_closed: AtomicU64,
    unpaired: Mutex<Vec<String>>,
}

/// The counts at the end.
pub(crate) struct Told {
    pub(crate) spans: u64,
    books: Arc<Books>,
}

impl Books {
    pub(crate) fn page(self: &Arc<Self>) -> Arc<dyn ClientTrace> {
        self.pages.fetch_add(1, SeqCst);
        Arc::new(Page { books: Arc::clone(self), counts: Default::default() })
    }

    pub(crate) fn ends(self: &Arc<Self>) -> Arc<dyn ClientTrace> {
        Arc::new(Ends(Arc::clone(self)))
    }

    pub(crate) fn reporter(self: &Arc<Self>) -> Arc<dyn Reporter> {
        Arc::new(Shared(Arc::clone(self)))
    }

    pub(crate) fn told(self: &Arc<Self>) -> Told {
        Told { spans: self.spans.load(SeqCst), books: Arc::clone(self) }
    }
}

impl Told {
    pub(crate) fn faults(&self, requests: u64) -> Vec<String> {
        let books = &self.books;
        let mut faults: Vec<_> = books.unpaired.lock().expect("no panic").iter().take(10).cloned().collect();
        for (what, one, other) in [
            ("requests with hooks, requests", books.pages.load(SeqCst), requests),
            ("requests that were told of to the end, requests", books.judged.load(SeqCst), requests),
            ("records, attempts", books.records.load(SeqCst), books.attempts.load(SeqCst)),
            ("connections closed, opened", books.closed.load(SeqCst), books.opened.load(SeqCst)),
            ("conn_closed, connections", books.told_closed.load(SeqCst), books.opened.load(SeqCst)),
        ] {
            if one != other {
                faults.push(format!("{what}: {one}, {other}"));
            }
        }
        faults
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let books = &self.books;
        writeln!(
            f,
            "{} hooks of {} requests, {} unpaired; {} attempts, {} records; {} connections, {} closed; {} spans, {} of \
             them of dials that ended without their request",
            books.hooks.load(SeqCst),
            books.judged.load(SeqCst),
            books.unpaired.lock().expect("no panic").len(),
            books.attempts.load(SeqCst),
            books.records.load(SeqCst),
            books.opened.load(SeqCst),
            books.closed.load(SeqCst),
            self.spans,
            books.background.load(SeqCst),
        )
    }
}

// === hooks ===

/// One request's hooks, counted.
struct Page {
    books: Arc<Books>,
    counts: [AtomicU64; HOOKS.len()],
}

/// Every start, and what it is owed.
const PAIRS: [(&str, &[&str]); 7] = [
    ("get_conn", &["got_conn", "get_conn_failed"]),
    ("got_conn", &["response_done"]),
    ("got_conn", &["put_idle_conn"]),
    ("dns_start", &["dns_done"]),
    ("connect_start", &["connect_done"]),
    ("tunnel_start", &["tunnel_done"]),
    ("tls_handshake_start", &["tls_handshake_done"]),
];

impl Page {
    fn count(&self, name: &str) -> u64 {
        let place = HOOKS.iter().position(|hook| *hook == name).expect("a hook");
        self.counts[place].load(SeqCst)
    }

    fn called(&self, place: usize) {
        self.counts[place].fetch_add(1, SeqCst);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let mut faults = Vec::new();
        for (start, ends) in PAIRS {
            let (begun, ended) = (self.count(start), ends.iter().map(|end| self.count(end)).sum::<u64>());
            if begun != ended {
                faults.push(format!("{begun} {start}, {ended} {}", ends.join(" or ")));
            }
        }
        let (attempts, retries) = (self.count("get_conn"), self.count("retry"));
        if attempts != retries + 1 {
            faults.push(format!("{attempts} get_conn, {retries} retry"));
        }
        self.books.unpaired.lock().expect("no panic").extend(faults);
        self.books.hooks.fetch_add(self.counts.iter().map(|count| count.load(SeqCst)).sum(), SeqCst);
        self.books.judged.fetch_add(1, SeqCst);
    }
}

macro_rules! page {
    ($($hook:ident($info:ty))+) => {
        const HOOKS: [&str; [$(stringify!($hook)),+].len()] = [$(stringify!($hook)),+];

        impl ClientTrace for Page {
            $(fn $hook(&self, _: &$info) {
                const NAME: &str = stringify!($hook);
                let mut place = 0;
                while HOOKS[place] != NAME {
                    place += 1;
                }
                self.called(place);
            })+
        }
    };
}

page! {
    get_conn(hooks::GetConnInfo<'_>)
    got_conn(hooks::GotConnInfo<'_>)
    get_conn_failed(hooks::GetConnFailedInfo<'_>)
    put_idle_conn(hooks::PutIdleConnInfo)
    got_first_response_byte(hooks::GotFirstResponseByteInfo)
    got_1xx_response(hooks::Got1xxResponseInfo<'_>)
    dns_start(hooks::DnsStartInfo<'_>)
    dns_done(hooks::DnsDoneInfo<'_>)
    connect_start(hooks::ConnectStartInfo)
    connect_done(hooks::ConnectDoneInfo<'_>)
    tunnel_start(hooks::TunnelStartInfo<'_>)
    tunnel_done(hooks::TunnelDoneInfo<'_>)
    tls_handshake_start(hooks::TlsHandshakeStartInfo<'_>)
    tls_handshake_done(hooks::TlsHandshakeDoneInfo<'_>)
    wrote_headers(hooks::WroteHeadersInfo)
    wrote_request(hooks::WroteRequestInfo<'_>)
    response_done(hooks::ResponseDoneInfo<'_>)
    retry(hooks::RetryInfo<'_>)
}

/// The ends of connections, which belong to no request.
struct Ends(Arc<Books>);

impl ClientTrace for Ends {
    fn conn_closed(&self, _: &hooks::ConnClosedInfo<'_>) {
        self.0.told_closed.fetch_add(1, SeqCst);
    }
}

// === records ===

/// One attempt: counts the spans that its record makes.
struct Attempt {
    books: Arc<Books>,
    /// It began to dial: its `get-connection` is a span even if the wait turned out to be none.
    dials: AtomicU64,
}

/// The books as a reporter.
struct Shared(Arc<Books>);

impl Reporter for Shared {
    fn started(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Attempt::begin(&self.0))
    }
}

impl Attempt {
    fn begin(books: &Arc<Books>) -> Arc<dyn Report> {
        books.attempts.fetch_add(1, SeqCst);
        Arc::new(Self { books: Arc::clone(books), dials: AtomicU64::new(0) })
    }
}

impl Report for Attempt {
    fn again(&self, _: &mut Parts, _: &Asked<'_>, _: TimeAnchor) -> Option<Arc<dyn Report>> {
        Some(Self::begin(&self.books))
    }

    fn setup_started(&self, _: std::time::Instant) -> Option<TraceRef> {
        self.dials.fetch_add(1, SeqCst);
        None
    }

    fn connection_opened(&self, _: &Arc<ConnectionInfo>) -> Option<Arc<dyn ConnectionReport>> {
        self.books.opened.fetch_add(1, SeqCst);
        Some(Arc::new(Connection(Arc::clone(&self.books))))
    }

    fn background_dial(&self, dial: &DialRecord) -> Option<PendingDial> {
        let spans = 1 + dial.phases().len() as u64;
        self.books.spans.fetch_add(spans, SeqCst);
        self.books.background.fetch_add(spans, SeqCst);
        None
    }

    fn finished(&self, timeline: &Arc<Timeline>) {
        self.books.records.fetch_add(1, SeqCst);
        let phases = timeline.phases();
        let waited = phases.iter().any(|phase| phase.phase == Phase::GetConnection);
        let given_away = self.dials.load(SeqCst) > 0 && !waited;
        self.books.spans.fetch_add(1 + phases.len() as u64 + u64::from(given_away), SeqCst);
    }
}

struct Connection(Arc<Books>);

impl ConnectionReport for Connection {
    fn taken(&self) {}

    fn returned(&self, _: IdleReturn) {}

    fn closed(&self, _: CloseReason, _: u64) {
        self.0.closed.fetch_add(1, SeqCst);
    }
}
