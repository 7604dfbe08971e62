//! A log of every hook, in the order of the calls, and whether they pair as `ClientTrace` promises.
//!
//! Give `log.hooks()` to a client or to one request. On failure the whole log is in the message.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use httptrace::hooks::{self, ClientTrace};
use tokio::sync::watch;

use super::PATIENCE;

/// Cheap to clone; all clones are the same log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<watch::Sender<Vec<Entry>>>);

/// One call of a hook.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The hook's method name.
    pub(crate) name: &'static str,
    /// What tells this call's pair from others under way at the same time; mostly empty.
    pub(crate) pair: String,
    /// What it was told, in short.
    pub(crate) detail: String,
    /// When its event happened.
    pub(crate) at: Instant,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// This log, as the hooks of a client or request.
    pub(crate) fn hooks(&self) -> Arc<dyn ClientTrace> {
        Arc::new(self.clone())
    }

    /// The hooks' names in the order of the calls.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.borrow().iter().map(|entry| entry.name).collect()
    }

    /// How often a hook was called.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.borrow().iter().filter(|entry| entry.name == name).count()
    }

    /// What each call of a hook was told.
    pub(crate) fn details(&self, name: &str) -> Vec<String> {
        self.0.borrow().iter().filter(|entry| entry.name == name).map(|entry| entry.detail.clone()).collect()
    }

    /// Returns once a hook was called so often.
    pub(crate) async fn wait_for(&self, name: &str, count: usize) -> &Self {
        self.until(&format!("{count} calls of {name}"), |entries| {
            entries.iter().filter(|entry| entry.name == name).count() >= count
        })
        .await
    }

    /// Returns once something has begun and everything begun has ended.
    ///
    /// Of all requests together: one of several at once that waits here waits for the others too, and they must not wait for
    /// it. Every call of a hook has it read the whole log again, so one task waits for a burst, after it, and not each of it.
    pub(crate) async fn settled(&self) -> &Self {
        self.until("all that began to end", |entries| !entries.is_empty() && open(entries).is_empty()).await
    }

    /// Fails unless the log of one request holds rules 1, 2 and 4: every start has one done; each attempt has one
    /// `get_conn`, then either `got_conn` or `get_conn_failed`, and after `got_conn` one `response_done` and one
    /// `put_idle_conn`.
    #[track_caller]
    pub(crate) fn assert_paired(&self) {
        self.assert_paired_over(1);
    }

    /// The same for the log of so many requests.
    #[track_caller]
    pub(crate) fn assert_paired_over(&self, requests: usize) {
        let faults = self.faults(requests);
        assert!(faults.is_empty(), "the hooks do not pair:\n  {}\n{self}", faults.join("\n  "));
    }

    /// What does not hold; empty for a good log.
    pub(crate) fn faults(&self, requests: usize) -> Vec<String> {
        faults(&self.0.borrow(), requests)
    }

    /// Writes one call down.
    pub(crate) fn add(&self, name: &'static str, pair: String, detail: String, at: Instant) {
        self.0.send_modify(|entries| entries.push(Entry { name, pair, detail, at }));
    }

    async fn until(&self, what: &str, when: impl Fn(&Vec<Entry>) -> bool) -> &Self {
        let mut entries = self.0.subscribe();
        let waited = tokio::time::timeout(PATIENCE, entries.wait_for(when)).await.is_ok();
        assert!(waited, "still waiting after {PATIENCE:?} for {what}\n{self}");
        self
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.0.borrow();
        writeln!(f, "the log:")?;
        for entry in entries.iter() {
            let at = entries.first().map_or(Duration::ZERO, |first| entry.at.saturating_duration_since(first.at));
            writeln!(f, "  {:>9.3} ms  {} {} {}", at.as_secs_f64() * 1e3, entry.name, entry.pair, entry.detail)?;
        }
        Ok(())
    }
}

/// What each start owes: one of these, once.
const DEBTS: [(&str, &[&str]); 7] = [
    ("get_conn", &["got_conn", "get_conn_failed"]),
    ("got_conn", &["response_done"]),
    ("got_conn", &["put_idle_conn"]),
    ("dns_start", &["dns_done"]),
    ("connect_start", &["connect_done"]),
    ("tunnel_start", &["tunnel_done"]),
    ("tls_handshake_start", &["tls_handshake_done"]),
];

/// The debts that are open at the end, and in `Err` the first payment that nobody owed.
fn balance<'a>(entries: &'a [Entry], start: &str, ends: &[&str]) -> Result<HashMap<&'a str, usize>, String> {
    let mut owed: HashMap<&str, usize> = HashMap::new();
    for entry in entries {
        let owed = owed.entry(&entry.pair).or_default();
        if entry.name == start {
            *owed += 1;
        } else if ends.contains(&entry.name) {
            let paid = owed.checked_sub(1);
            *owed = paid.ok_or_else(|| format!("{} {} without {start}", entry.name, entry.pair))?;
        }
    }
    owed.retain(|_, owed| *owed > 0);
    Ok(owed)
}

fn open(entries: &[Entry]) -> Vec<String> {
    let open = DEBTS.iter().filter_map(|(start, ends)| {
        let owed = balance(entries, start, ends).ok()?;
        (!owed.is_empty()).then(|| format!("{start} without {} {owed:?}", ends.join(" or ")))
    });
    open.collect()
}

fn faults(entries: &[Entry], requests: usize) -> Vec<String> {
    let count = |name| entries.iter().filter(|entry| entry.name == name).count();
    let mut faults = open(entries);
    faults.extend(DEBTS.iter().filter_map(|(start, ends)| balance(entries, start, ends).err()));
    let attempts = requests + count("retry");
    if count("get_conn") != attempts {
        faults.push(format!("{} get_conn in {attempts} attempts", count("get_conn")));
    }
    for once in ["wrote_headers", "wrote_request", "got_first_response_byte"] {
        if count(once) > count("got_conn") {
            faults.push(format!("{} {once} in {} attempts with a connection", count(once), count("got_conn")));
        }
    }
    faults
}

fn failure(error: Option<&httptrace::Error>) -> String {
    error.map_or(String::new(), |error| format!("error={}/{}", error.phase(), error.error_type()))
}

macro_rules! log {
    ($($hook:ident($info:ident: $ty:ty) $(pair $pair:expr)? => $detail:expr;)+) => {
        impl ClientTrace for Log {
            $(fn $hook(&self, $info: &$ty) {
                // Only connects have several pairs at once.
                let pair: Vec<String> = vec![$($pair)?];
                self.add(stringify!($hook), pair.concat(), $detail, $info.at);
            })+
        }
    };
}

log! {
    get_conn(info: hooks::GetConnInfo<'_>) => format!("{}:{}", info.host, info.port);
    got_conn(info: hooks::GotConnInfo<'_>) => format!(
        "id={} outcome={} request_number={}", info.connection.id, info.outcome.as_str(), info.request_number);
    get_conn_failed(info: hooks::GetConnFailedInfo<'_>) => failure(Some(info.error));
    put_idle_conn(info: hooks::PutIdleConnInfo) => returned(info.outcome);
    got_first_response_byte(info: hooks::GotFirstResponseByteInfo) => String::new();
    got_100_continue(info: hooks::Got100ContinueInfo) => String::new();
    got_1xx_response(info: hooks::Got1xxResponseInfo<'_>) => info.status.as_str().to_owned();
    dns_start(info: hooks::DnsStartInfo<'_>) => info.host.to_owned();
    dns_done(info: hooks::DnsDoneInfo<'_>) => format!("{:?} {}", info.addrs, failure(info.error));
    connect_start(info: hooks::ConnectStartInfo) pair format!("{} #{}", address(info.addr), info.attempt) => String::new();
    connect_done(info: hooks::ConnectDoneInfo<'_>) pair format!("{} #{}", address(info.addr), info.attempt) => failure(info.error);
    tunnel_start(info: hooks::TunnelStartInfo<'_>) => format!("{}:{}", info.host, info.port);
    tunnel_done(info: hooks::TunnelDoneInfo<'_>) => format!("{:?} {}", info.status, failure(info.error));
    tls_handshake_start(info: hooks::TlsHandshakeStartInfo<'_>) => info.server_name.unwrap_or_default().to_owned();
    tls_handshake_done(info: hooks::TlsHandshakeDoneInfo<'_>) => format!(
        "{} {}", info.tls.map_or("", |tls| tls.version), failure(info.error));
    wrote_header_field(info: hooks::WroteHeaderFieldInfo<'_>) => info.name.to_owned();
    wrote_headers(info: hooks::WroteHeadersInfo) => String::new();
    wait_100_continue(info: hooks::Wait100ContinueInfo) => String::new();
    wrote_request(info: hooks::WroteRequestInfo<'_>) => format!("{:?} {}", info.body_bytes, failure(info.error));
    response_done(info: hooks::ResponseDoneInfo<'_>) => format!("{} {}", info.outcome.as_str(), failure(info.error));
    conn_closed(info: hooks::ConnClosedInfo<'_>) => format!("id={} {}", info.connection.id, info.reason.as_str());
    keep_alive_mismatch(info: hooks::KeepAliveMismatchInfo<'_>) => format!(
        "{}:{} {} {:?}", info.host, info.port, info.mismatch.source.as_str(), info.mismatch.server);
    retry(info: hooks::RetryInfo<'_>) => format!("#{} {}", info.attempt, info.reason.as_str());
}

/// Keeps what became of connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    told: Arc<Mutex<(Vec<String>, Vec<String>)>>,
    /// What `put_idle_conn` told: `pooled`, `closed goaway`.
    pub(crate) returned: Vec<String>,
    /// What `conn_closed` told: `goaway by server`.
    pub(crate) closed: Vec<String>,
}

impl Ends {
    pub(crate) fn hooks(&self) -> Arc<dyn ClientTrace> {
        Arc::new(self.clone())
    }

    /// All since the last time.
    pub(crate) fn taken(&self) -> Self {
        let (returned, closed) = std::mem::take(&mut *self.told.lock().expect("no panic under the lock"));
        Self { told: Arc::default(), returned, closed }
    }
}

impl ClientTrace for Ends {
    fn put_idle_conn(&self, info: &hooks::PutIdleConnInfo) {
        self.told.lock().expect("no panic under the lock").0.push(returned(info.outcome));
    }

    fn conn_closed(&self, info: &hooks::ConnClosedInfo<'_>) {
        let told = format!("{} by {}", info.reason.as_str(), info.initiator.as_str());
        self.told.lock().expect("no panic under the lock").1.push(told);
    }
}

fn address(addr: Option<std::net::SocketAddr>) -> String {
    addr.map_or_else(|| "somewhere".to_owned(), |addr| addr.to_string())
}

/// Keeps the interim responses, with their links: `103 </a> </b>`.
#[derive(Default)]
pub(crate) struct Hints(Mutex<Vec<String>>);

impl Hints {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic under the lock").clone()
    }
}

impl ClientTrace for Hints {
    fn got_1xx_response(&self, info: &hooks::Got1xxResponseInfo<'_>) {
        let links = info.headers.get_all("link").iter().map(|link| link.to_str().expect("ASCII"));
        let line = format!("{} {}", info.status.as_str(), links.collect::<Vec<_>>().join(" "));
        self.0.lock().expect("no panic under the lock").push(line);
    }
}

/// `pooled`, or `closed canceled`.
pub(crate) fn returned(outcome: hooks::IdleReturn) -> String {
    let reason = outcome.reason().map(|reason| format!(" {}", reason.as_str()));
    format!("{}{}", outcome.as_str(), reason.unwrap_or_default())
}
