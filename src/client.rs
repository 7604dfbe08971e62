//! The client, and the whole story of a request, top to bottom.
//!
//! ```text
//!   request ─▶ Call::start        an attempt begins (client/attempt.rs): reports, record, hooks; get_conn
//!              Call::run          attempts, one after the other, until one is answered or none may follow
//!                Call::connection   the pool; a dial if nothing is at hand (client/dialing.rs, a task of its own)
//!                Call::exchange     got_conn, the request on the wire, the response's head
//!                Call::next         may it be tried again?
//!   ResponseBody                  the rest: exchange/body.rs; the connection's return: exchange/driver.rs
//! ```
//!
//! The stages (pool, dial, exchange) do not know each other. They meet here.

mod attempt;
mod dialing;
mod head;
mod keep_alive;
mod read;
mod shared;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, atomic::AtomicU32},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, request::Parts};
use http_body::Body;

pub(crate) use self::keep_alive::KeepAlives;
use self::{
    attempt::{Attempt, lower_case},
    dialing::Dial,
    head::{keep_out_of_table, prepare, unreadable},
};
pub use self::{
    read::{DEFAULT_BODY_LIMIT, LimitedResponse, ResponseExt},
    shared::get,
};
use crate::{
    builder::ClientBuilder,
    capture::Capture,
    clock,
    config::ExchangeConfig,
    connection::Protocol,
    dial::{Dialer, Progress, Target},
    error::{BoxError, Error, Kind},
    exchange::{self, Asks, Conn, Failed, Payload, RequestBody, ResponseBody, Terms},
    hooks::{
        ClientTrace, CloseReason, ConnOutcome, RetryInfo, RetryReason, WaitCause,
        emit::{GotConnFacts, Hooks},
    },
    phase::Phase,
    pool::{Checked, Grant, Lease, Permit, Pool, PoolKey, Waiting},
    redact::Rules,
    timeline::{Reporter, TimelineHandle},
};

/// A pooled HTTP/1.1 and HTTP/2 client that tells where the time of a request went.
///
/// Cheap to clone: clones share one pool. A [`tower_service::Service`] as well, always ready, since its limits wait inside
/// the request, where they are seen.
///
/// ```no_run
/// # async fn example() -> Result<(), httptrace::Error> {
/// let client = httptrace::Client::new();
/// let response = client.get("https://example.com/").await?;
/// println!("{}", response.status());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) pool: Arc<Pool<Conn>>,
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) exchange: ExchangeConfig,
    /// The longest wait in the pool's queue.
    pub(crate) wait_timeout: Option<Duration>,
    /// The hooks of every request.
    pub(crate) trace: Option<Arc<dyn ClientTrace>>,
    pub(crate) reporters: Vec<Arc<dyn Reporter>>,
    pub(crate) keep_alives: Arc<KeepAlives>,
    /// What of a URL is not shown.
    pub(crate) redaction: Rules,
    /// Every attempt is recorded, with the list of its hooks, and put into the response's extensions.
    pub(crate) timeline: bool,
    pub(crate) capture: Capture,
    /// The host of the last record.
    pub(crate) host: Mutex<Arc<str>>,
}

impl Inner {
    /// A host as records name it: mostly the one before, which costs no allocation then.
    fn host(&self, host: &str) -> Arc<str> {
        // Who would have to wait makes one.
        let Ok(mut last) = self.host.try_lock() else { return lower_case(host) };
        if **last != *host {
            *last = lower_case(host);
        }
        Arc::clone(&last)
    }
}

impl Client {
    /// A client with the default settings, which reports to the global OpenTelemetry providers if there are any.
    ///
    /// They are taken now: a provider that is set later, by `otlp::init()` or otherwise, is not seen by this client.
    ///
    /// Never fails and loads no files: if the platform's roots can't be used, the first `https` request says so.
    #[must_use]
    pub fn new() -> Self {
        ClientBuilder::default().into_client()
    }

    /// Settings for a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn from_inner(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Sends a request. The attempt begins with this call (its span's parent is the context that is current now), not with
    /// the first poll.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a response of whatever status is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the request up: its attempt ends as `canceled`. A dial that it began goes on, bounded by
    /// the connect timeout, and its connection serves others.
    ///
    /// # Panics
    ///
    /// When polled outside of a tokio runtime with its time and IO drivers enabled.
    pub fn request<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (head, body) = request.into_parts();
        match Call::start(&self.inner, head, Payload::new(body)) {
            Ok(call) => ResponseFuture(Box::pin(call.run())),
            Err(error) => ResponseFuture::failed(error),
        }
    }

    /// Sends a GET request without a body. The URL is text or an [`http::Uri`]; [`ResponseExt`] reads what comes back.
    ///
    /// ```no_run
    /// use httptrace::ResponseExt as _;
    ///
    /// # async fn example(client: httptrace::Client) -> Result<(), httptrace::Error> {
    /// let text = client.get("https://example.com/").await?.text().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request). A URL that can't be read is `invalid_request`, and the cause says what is wrong.
    pub fn get<U>(&self, url: U) -> ResponseFuture
    where
        U: TryInto<Uri>,
        U::Error: Into<http::Error>,
    {
        match url.try_into() {
            Ok(uri) => {
                let mut request = Request::new(http_body_util::Empty::new());
                *request.uri_mut() = uri;
                self.request(request)
            }
            Err(error) => ResponseFuture::failed(unreadable(&error.into())),
        }
    }

    /// Whether a request that names no limit has one.
    #[cfg(feature = "otel-http")]
    pub(crate) fn has_timeout(&self) -> bool {
        self.inner.exchange.timeout.is_some()
    }

    /// Closes the connections that no request is using.
    pub fn close_idle_connections(&self) {
        self.inner.pool.close_idle();
    }

    /// Closes idle connections, takes none back any more, and waits until the others are done, at most for `deadline`.
    pub async fn shutdown(&self, deadline: Duration) {
        self.inner.pool.close();
        let end = clock::now() + deadline;
        // Connections end in their own tasks; there is nothing to be notified by that would not cost every request.
        while self.inner.pool.busy() > 0 && clock::now() < end {
            tokio::time::sleep(Duration::from_millis(5).min(deadline)).await;
        }
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl<B> tower_service::Service<Request<B>> for Client
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.request(request)
    }
}

impl<B> tower_service::Service<Request<B>> for &Client
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.request(request)
    }
}

/// A request under way. Resolves with the response's head; the body follows.
#[must_use = "a request is not sent unless its future is polled"]
pub struct ResponseFuture(Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Error>> + Send>>);

impl ResponseFuture {
    fn failed(error: Error) -> Self {
        Self(Box::pin(std::future::ready(Err(error))))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

/// How often a request was sent, hops of a middleware included: put one into the request's extensions, and every attempt
/// counts on it. Without it, only the client's own retries are counted.
#[derive(Debug, Clone, Default)]
pub struct Resends(Arc<AtomicU32>);

/// The most that one request may take, instead of the client's own [`timeout`](ClientBuilder::timeout): put it into the
/// request's extensions. So that what sends several requests for one, such as redirects, bounds them all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTimeout(pub Duration);

impl Drop for Inner {
    /// The last client is gone: what is idle closes, what is in use ends with its response.
    fn drop(&mut self) {
        self.pool.close();
    }
}

// === one call: attempts, one after the other ===

struct Call {
    inner: Arc<Inner>,
    key: PoolKey,
    /// With what the reports of this attempt have added; the wire gets a copy in its own form.
    head: Parts,
    /// The application's own fields, for the next attempt; absent if there are none.
    fields: Option<Box<HeaderMap>>,
    payload: Payload,
    spare: Option<Spare>,
    deadline: Option<Instant>,
    attempt: Attempt,
    retries: u32,
    /// It was refused over HTTP/2 and is sent over HTTP/1.1: once.
    fell_back: bool,
}

/// What a retry would need: kept only where one can follow.
struct Spare {
    payload: Option<Payload>,
    /// The connection came from the idle pool, or has carried a request.
    used: bool,
    /// How long it had been idle there, in milliseconds.
    idle: u32,
}

impl Call {
    /// The attempt begins: here, in the caller's context.
    fn start(inner: &Arc<Inner>, mut head: Parts, payload: Payload) -> Result<Box<Self>, Error> {
        let key = PoolKey::from_uri(&head.uri)?;
        if head.method == Method::CONNECT && payload.size_hint().exact() != Some(0) {
            return Err(Error::invalid("a CONNECT request can't have a body"));
        }
        let own = head.extensions.get::<RequestTimeout>().map(|timeout| timeout.0);
        let deadline = own.or(inner.exchange.timeout).map(|timeout| clock::now() + timeout);
        let fields = (!head.headers.is_empty()).then(|| Box::new(head.headers.clone()));
        let attempt = Attempt::start(inner, &key, &mut head, 1, None);
        let inner = Arc::clone(inner);
        Ok(Box::new(Self {
            inner,
            key,
            head,
            fields,
            payload,
            spare: None,
            deadline,
            attempt,
            retries: 0,
            fell_back: false,
        }))
    }

    /// Boxed: a call is moved once, and its parts stay where they are. So are the futures of what most requests do not need:
    /// theirs is below 1 KiB then, which is as much as malloc has at hand.
    async fn run(mut self: Box<Self>) -> Result<Response<ResponseBody>, Error> {
        let mut fresh = false;
        loop {
            let lease = match self.connection(fresh).await {
                Ok(lease) => lease,
                Err(error) => {
                    if let Some(get_conn) = self.attempt.get_conn.take() {
                        get_conn.failed(&error);
                    }
                    return Err(error);
                }
            };
            let failed = match self.exchange(lease).await {
                Ok(mut response) => {
                    if let (true, Some(recorder)) = (self.inner.timeline, &self.attempt.recorder) {
                        response.extensions_mut().insert(TimelineHandle(Arc::clone(recorder)));
                    }
                    return Ok(response);
                }
                Err(failed) => failed,
            };
            let reason = self.next(*failed)?;
            fresh = reason == RetryReason::StaleConnection;
            Box::pin(self.back_off(reason)).await?;
        }
    }

    /// A connection that can carry the request.
    async fn connection(&mut self, fresh: bool) -> Result<Lease<Conn>, Error> {
        let mut now = clock::now();
        // One limit for all passes: a stale connection does not begin the wait anew.
        let turn = self.inner.wait_timeout.map(|timeout| now + timeout);
        loop {
            let lease = match self.inner.pool.checkout(&self.key, now, fresh) {
                Checked::Ready(lease) => lease,
                Checked::Waiting { waiting, dial, cause } => Box::pin(self.wait(waiting, dial, cause, turn)).await?,
            };
            if lease.outcome == ConnOutcome::New {
                return Ok(lease);
            }
            match lease.conn.is_fresh().await {
                Ok(()) => return Ok(lease),
                // Nothing was sent: the request moves on, whatever its method.
                Err(reason) => {
                    if let (CloseReason::PeerClosed, Some(idle)) = (reason, lease.idle_time) {
                        self.inner.keep_alives.closed(self.key.host(), self.key.port, idle);
                    }
                    lease.conn.close(reason);
                }
            }
            now = clock::now();
        }
    }

    /// Waits for a dial, a return or a stream, whatever comes first. `turn`: until when it waits without a dial of its own.
    async fn wait(
        &mut self,
        mut waiting: Waiting<Conn>,
        dial: Option<Permit<Conn>>,
        cause: Option<WaitCause>,
        turn: Option<Instant>,
    ) -> Result<Lease<Conn>, Error> {
        let _told = self.attempt.waiting();
        let mut progress = dial.map(|permit| self.dial(permit));
        let mut limit = self.waits_for(cause, turn);
        loop {
            let deadline = [self.deadline, limit.filter(|_| progress.is_none())].into_iter().flatten().min();
            let grant = match deadline {
                None => waiting.next().await,
                Some(deadline) => match tokio::time::timeout_at(deadline.into(), waiting.next()).await {
                    Ok(grant) => grant,
                    Err(_) => {
                        let phase = progress.as_ref().map_or(Phase::GetConnection, |progress| progress.phase());
                        return Err(Error::timeout(phase));
                    }
                },
            };
            match grant {
                Grant::Conn(lease) => return Ok(lease),
                Grant::Dial(permit) => {
                    self.waits_for(Some(WaitCause::Dial), turn);
                    progress = Some(self.dial(permit));
                }
                Grant::Waits(cause) => limit = self.waits_for(Some(cause), turn),
                Grant::Failed(error) => return Err(error),
            }
        }
    }

    /// Notes why nothing was at hand; the first cause stands, however the wait ends. Returns until when to wait in the queue.
    fn waits_for(&mut self, cause: Option<WaitCause>, turn: Option<Instant>) -> Option<Instant> {
        if let Some(get_conn) = &mut self.attempt.get_conn {
            get_conn.wait = get_conn.wait.or(cause);
        }
        // Another's dial is waited for no longer than an own one would be.
        let other = || clock::now() + self.inner.dialer.config.connect_timeout;
        let other = (cause == Some(WaitCause::OtherDial)).then(other);
        other.into_iter().chain(turn).min()
    }

    /// Begins a dial, which goes on even if this call ends.
    fn dial(&self, permit: Permit<Conn>) -> Arc<Progress> {
        let setup = self.attempt.setup_started();
        let progress = Arc::new(Progress::default());
        let dial = Dial {
            dialer: Arc::clone(&self.inner.dialer),
            pool: Arc::clone(&self.inner.pool),
            exchange: self.inner.exchange.clone(),
            trace: self.inner.trace.clone(),
            target: Target {
                https: self.key.https,
                host: self.key.host().into(),
                port: self.key.port,
                http1_only: permit.is_for_http1(),
            },
            hooks: self.attempt.hooks.clone(),
            reports: self.attempt.reports.clone(),
            info: self.attempt.info.clone(),
            setup,
            keep_alives: Arc::clone(&self.inner.keep_alives),
            progress: Arc::clone(&progress),
        };
        tokio::spawn(dial.run(permit));
        progress
    }

    /// The request on the wire. What it returns waits for the response's head.
    fn exchange(
        &mut self,
        lease: Lease<Conn>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Box<Failed>>> + use<> {
        let Lease { conn, outcome, idle_time, number: request_number, .. } = lease;
        let shared = Arc::clone(conn.shared());
        conn.count_request();
        let idle = idle_time.map_or(0, |idle| u32::try_from(idle.as_millis()).unwrap_or(u32::MAX));
        let used = request_number > 1 || outcome == ConnOutcome::Idle;
        let replayed = used || shared.info.protocol == Protocol::Http2;
        self.spare = replayed.then(|| Spare { payload: self.payload.replay(), used, idle });
        let get_conn = self.attempt.get_conn.take();
        let wait = get_conn.as_ref().and_then(|get_conn| get_conn.wait);
        let guards = get_conn.unwrap_or_else(|| Hooks::default().untold()).got(|at| GotConnFacts {
            connection: Arc::clone(&shared.info),
            outcome,
            idle_time,
            age: if outcome == ConnOutcome::New {
                Duration::ZERO
            } else {
                at.saturating_duration_since(shared.info.ready)
            },
            request_number,
            wait,
        });
        let payload = std::mem::replace(&mut self.payload, Payload::Gone);
        let headers = std::mem::take(&mut self.head.headers);
        let mut head = self.head.clone();
        head.headers = headers;
        let expects = !matches!(payload, Payload::Empty) && exchange::expects_continue(&head.headers);
        let asks = Asks {
            is_connect: head.method == Method::CONNECT,
            is_head: head.method == Method::HEAD,
            to_close: exchange::asks_to_close(&head.headers),
            deadline: self.deadline,
            capture: self.inner.capture.response.clone(),
        };
        prepare(&mut head, &payload, &self.key, &shared);
        let config = &self.inner.exchange;
        let terms = Terms {
            expect: expects.then_some(config.expect_continue_timeout),
            max_informational: config.max_informational,
            max_head_bytes: config.max_head_bytes,
            max_headers: config.max_headers,
            is_connect: asks.is_connect,
            response_header: config.response_header_timeout,
            body_idle: config.body_idle_timeout,
            facts: config.facts,
        };
        // What is sent now: with the fields that frame it, and its host.
        self.attempt.capture(&self.inner.capture.request, &head.headers);
        let exchange = self.attempt.exchange(&head, &shared, terms);
        if shared.info.protocol == Protocol::Http2 && self.attempt.reported {
            keep_out_of_table(&mut head.headers);
        }
        let body = RequestBody::new(payload, Arc::clone(&exchange), shared.info.protocol);
        exchange::send(conn, Request::from_parts(head, body), exchange, guards, asks)
    }

    /// Whether another attempt may follow (RFC 9110 §9.2.2, RFC 9113 §8.7), and makes ready for it.
    ///
    /// # Errors
    ///
    /// The failed attempt's error, if none may.
    fn next(&mut self, failed: Failed) -> Result<RetryReason, Error> {
        let Failed { error, unsent, refused, wants_http1, touched, answered } = failed;
        let Some(Spare { payload, used, idle }) = self.spare.take() else { return Err(error) };
        if answered {
            return Err(error);
        }
        let lost = matches!(error.kind(), Kind::ConnectionClosed | Kind::ConnectionReset | Kind::WriteFailed);
        let harmless = !touched || is_idempotent(&self.head.method, self.fields.as_deref());
        let stream_wants_http1 = refused == Some(RetryReason::Http11Required);
        let reason = match (refused, (wants_http1 || stream_wants_http1) && self.falls_back()) {
            (Some(_), true) => RetryReason::Http11Required,
            // What the server had begun is lost with the connection: it does not say that it did nothing.
            (None, true) if lost && harmless => RetryReason::Http11Required,
            (Some(reason), false) if !stream_wants_http1 && self.retries < MAX_REFUSED => reason,
            (None, _) if used && lost && harmless && self.retries == 0 => RetryReason::StaleConnection,
            (Some(_) | None, _) => return Err(error),
        };
        let Some(payload) = unsent.or(payload) else { return Err(error) };
        if reason == RetryReason::StaleConnection && idle > 0 {
            self.inner.keep_alives.closed(self.key.host(), self.key.port, Duration::from_millis(idle.into()));
        }
        self.retries += 1;
        self.head.headers = self.fields.as_deref().cloned().unwrap_or_default();
        let attempt = self.retries + 1;
        if let Some(at) = self.attempt.hooks.now() {
            self.attempt.hooks.emit(|t| t.retry(&RetryInfo { at, attempt, reason, error: &error }));
        }
        self.attempt = Attempt::start(&self.inner, &self.key, &mut self.head, attempt, Some((&self.attempt, reason)));
        self.payload = payload;
        Ok(reason)
    }

    /// A server that refuses HTTP/2 is asked in HTTP/1.1, from now on and for a while, if that may be spoken. Whether this
    /// request may be: once.
    fn falls_back(&mut self) -> bool {
        let may = self.key.https && self.inner.dialer.tls.may_fall_back();
        if may {
            self.inner.pool.insists_on_http1(&self.key);
        }
        may && !std::mem::replace(&mut self.fell_back, true)
    }

    /// After the server said that it is busy: at once, then 50 ms, then 100 ms, each up to half longer.
    async fn back_off(&mut self, reason: RetryReason) -> Result<(), Error> {
        let busy = matches!(reason, RetryReason::RefusedStream | RetryReason::GoAway);
        if !busy || self.retries < 2 {
            return Ok(());
        }
        let base = Duration::from_millis(25) * 2_u32.pow(self.retries.min(8) - 1);
        let pause = tokio::time::sleep(base + base / 2 * jitter() / 256);
        let Some(deadline) = self.deadline else {
            pause.await;
            return Ok(());
        };
        match tokio::time::timeout_at(deadline.into(), pause).await {
            Ok(()) => Ok(()),
            Err(_) => {
                let error = Error::timeout(Phase::Request);
                if let Some(get_conn) = self.attempt.get_conn.take() {
                    get_conn.failed(&error);
                }
                Err(error)
            }
        }
    }
}

/// Whether sending it twice is as good as once (RFC 9110 §9.2.2; PUT and DELETE only where the user says so).
fn is_idempotent(method: &Method, fields: Option<&HeaderMap>) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
        || fields.is_some_and(|fields| fields.contains_key("idempotency-key"))
}

/// Most further attempts after a server's refusal.
const MAX_REFUSED: u32 = 3;

/// A random number below 256. The standard hasher's keys are random enough to keep clients from retrying in step.
fn jitter() -> u32 {
    use std::hash::BuildHasher;
    u32::from(std::hash::RandomState::new().hash_one(0_u8).to_le_bytes()[0])
}

impl Client {
    /// Builds the TLS configuration now, so that what can't be used is told now.
    pub(crate) fn check_tls(&self) -> Result<(), Error> {
        self.inner.dialer.tls.check()
    }

    /// The same for proxies that have a configuration of their own.
    pub(crate) fn check_proxies(&self) -> Result<(), Error> {
        self.inner.dialer.routes.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_sent_twice_is_told_by_its_method_or_its_key() {
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
            assert!(is_idempotent(&method, None), "{method}");
        }
        let mut fields = HeaderMap::new();
        fields.insert("x-key", http::HeaderValue::from_static("1"));
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::CONNECT] {
            assert!(!is_idempotent(&method, None) && !is_idempotent(&method, Some(&fields)), "{method}");
        }
        fields.insert("idempotency-key", http::HeaderValue::from_static("1"));
        assert!(is_idempotent(&Method::POST, Some(&fields)));
    }
}
