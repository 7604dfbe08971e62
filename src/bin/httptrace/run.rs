//! The run: workers take requests in order until none is left, or until Ctrl-C.
//!
//! In: a [`Plan`]. Out: the exit code; attempts go to [`Output`] as they end, bodies to their files. All requests share
//! one client and so one pool.

use std::{
    collections::BTreeMap,
    fs::File,
    future::Future,
    io::Write,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Either, Empty, Full};
use httptrace::{
    Client, ClientTrace, RequestTimeout, Resends, ResponseBody,
    dial::Proxy,
    hooks::{GetConnFailedInfo, GetConnInfo, GotConnInfo, PutIdleConnInfo, ResponseDoneInfo},
    timeline::TimelineHandle,
    with_client_trace,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use crate::{
    args::Format,
    calls::Journal,
    exit::{CA_FILE, Failure, INTERRUPTED, STATUS, USAGE, WRITE, warn},
    mark::{Mark, Redirects},
    output::{Output, Reports},
    plan::{Plan, Protocol, Target, Trust},
    redirect::Hop,
    telemetry::Telemetry,
    verbose::Verbose,
};

/// Sends everything and reports it. Returns the exit code.
pub(crate) async fn run(plan: Plan) -> u8 {
    let silent = plan.silent;
    if matches!(plan.trust, Trust::Anything) && !silent {
        warn("warning: -k: any certificate is accepted, so who is on the way can read and change what is sent");
    }
    if plan.proxy_insecure && !silent {
        warn("warning: --proxy-insecure: who is on the way to the proxy can take its place, and is told its password");
    }
    let (telemetry, warnings) = Telemetry::start(&plan);
    let output = Output::start(&plan);
    let attempts = Arc::new(Attempts::default());
    let redirects = Arc::new(Redirects::default());
    let client = match client(&plan, &output, &attempts, &redirects) {
        Ok(client) => client,
        Err(failure) => {
            output.cancel();
            if !silent {
                failure.tell();
            }
            return failure.code;
        }
    };
    let workers = plan.requests().min(u64::from(plan.concurrency));
    let run = Arc::new(Run {
        plan,
        client,
        telemetry,
        attempts,
        redirects,
        reports: output.reports(),
        stop: watch::Sender::new(false),
        next: AtomicU64::new(1),
        failures: Mutex::new(BTreeMap::new()),
    });
    let interrupted = run.work(workers, &output).await;
    if interrupted {
        // Who asks twice does not want to wait for anything, a collector included.
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(INTERRUPTED.into());
            }
        });
    }
    run.client.shutdown(GRACE).await;
    run.attempts.over().await;
    for timeline in run.redirects.left() {
        run.reports.attempt(&timeline);
    }
    let written = output.finish();
    let failure = run.verdict(interrupted, written);
    let lost = tokio::select! {
        lost = run.telemetry.finish(failure.as_ref()) => lost,
        // Who asks twice does not want to wait for a collector.
        Ok(()) = tokio::signal::ctrl_c() => Some("telemetry was not flushed".to_owned()),
    };
    for warning in warnings.into_iter().chain(lost).filter(|_| !silent) {
        warn(&format!("warning: {warning}"));
    }
    failure.map_or(0, |failure| failure.code)
}

/// How long connections may take to close at the end.
const GRACE: Duration = Duration::from_millis(500);
/// The most that the end of an attempt is waited for once its response is read.
const SETTLE: Duration = Duration::from_secs(1);

fn client(
    plan: &Plan,
    output: &Output,
    attempts: &Arc<Attempts>,
    redirects: &Arc<Redirects>,
) -> Result<Client, Failure> {
    let reports = output.reports();
    let redirects = plan.redirects.is_some().then(|| Arc::clone(redirects));
    let mut builder = Client::builder()
        .max_headers(1_000)
        // The user's wish to decrypt a capture, as curl and browsers take it.
        .danger_log_tls_keys(std::env::var_os("SSLKEYLOGFILE").is_some_and(|path| !path.is_empty()))
        .timeline(true)
        .tcp_info(true)
        .server_timing(true)
        .server_timing_descriptions(true)
        .poll_times(true)
        .client_trace(Arc::clone(attempts) as Arc<dyn ClientTrace>)
        .on_timeline(move |timeline| match &redirects {
            None => reports.attempt(timeline),
            Some(redirects) => {
                if let Some(timeline) = redirects.ended(timeline) {
                    reports.attempt(&timeline);
                }
            }
        });
    builder = match plan.protocol {
        Protocol::Negotiated => builder,
        Protocol::Http1 => builder.http1_only(),
        Protocol::Http2PriorKnowledge => builder.http2_prior_knowledge(),
    };
    builder = match &plan.trust {
        Trust::Platform => builder,
        Trust::Roots(roots) => builder.root_certificates(roots.clone()),
        Trust::Anything => builder.danger_accept_invalid_certs(true),
    };
    if let Some(limit) = plan.connect_timeout {
        // The handshake is a part of the dial: its own limit must not be the shorter one.
        builder = builder.connect_timeout(limit).tls_handshake_timeout(limit);
    }
    if let Some(limit) = plan.expect_timeout {
        builder = builder.expect_continue_timeout(limit);
    }
    if let Some((chain, key)) = &plan.identity {
        builder = builder.client_certificate(chain.clone(), key.clone_key());
    }
    if let Some(version) = plan.ip_version {
        builder = builder.ip_version(version);
    }
    for known in &plan.known {
        builder = builder.resolve_to(&known.host, known.port, known.addresses.clone());
    }
    #[cfg(unix)]
    if let Some(path) = &plan.unix_socket {
        builder = builder.unix_socket(path);
    }
    builder = builder.proxies(plan.proxies.iter().cloned());
    builder.build().map_err(|error| {
        let code = if matches!(plan.trust, Trust::Roots(_)) { CA_FILE } else { USAGE };
        Failure { code, ..Failure::from(&error) }
    })
}

/// A request's body: all of it, or none.
type Payload = Either<Full<Bytes>, Empty<Bytes>>;

/// One run.
struct Run {
    plan: Plan,
    client: Client,
    telemetry: Telemetry,
    attempts: Arc<Attempts>,
    redirects: Arc<Redirects>,
    reports: Reports,
    /// Turns true when the run is to end before its time.
    stop: watch::Sender<bool>,
    /// The number of the next request, from 1.
    next: AtomicU64,
    failures: Mutex<BTreeMap<u64, Failure>>,
}

impl Run {
    /// Runs the workers to their end. Returns whether Ctrl-C came first.
    async fn work(self: &Arc<Self>, workers: u64, output: &Output) -> bool {
        let mut set = JoinSet::new();
        for _ in 0..workers {
            let run = Arc::clone(self);
            set.spawn(async move { while run.one().await {} });
        }
        let done = async { while set.join_next().await.is_some() {} };
        let interrupted = tokio::select! {
            () = done => false,
            Ok(()) = tokio::signal::ctrl_c() => true,
            () = output.closed() => false,
        };
        // The requests that are under way are given up: their attempts end as canceled.
        self.stop.send_replace(true);
        let over = async { while set.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(SETTLE, over).await;
        set.shutdown().await;
        interrupted
    }

    /// Sends the next request. Returns whether there was one.
    async fn one(&self) -> bool {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if number > self.plan.requests() {
            return false;
        }
        let urls = self.plan.targets.len() as u64;
        // The remainder is below the number of URLs.
        let target = &self.plan.targets[usize::try_from((number - 1) % urls).unwrap_or_default()];
        let round = (number - 1) / urls;
        let Some(result) = self.transfer(number, round, target).await else { return false };
        self.telemetry.ended(round, result.as_ref().err());
        let told = self.reports.ended(result.as_ref().err());
        if let Err(failure) = result {
            if !self.plan.silent && !told {
                failure.tell();
            }
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.insert(number, failure);
            // Only the first in the order of the requests is asked for, and a run may last for weeks.
            if failures.len() > 1 {
                failures.pop_last();
            }
        }
        true
    }

    /// One URL with all its hops. Absent if it was interrupted.
    async fn transfer(&self, number: u64, round: u64, target: &Target) -> Option<Result<(), Failure>> {
        let plan = &self.plan;
        let mut hop = Hop {
            method: plan.method.clone(),
            uri: target.uri.clone(),
            headers: plan.headers.clone(),
            body: plan.body.clone(),
        };
        let deadline = plan.max_time.map(|limit| tokio::time::Instant::now() + limit);
        let resends = Resends::default();
        let mut heads = Vec::new();
        for followed in 0.. {
            let mark = Mark { request: number, hop: followed };
            let (mut request, verbose) = self.request(mark, &hop, deadline, &resends);
            if let Some(trace) = self.telemetry.trace(round) {
                with_client_trace(&mut request, trace);
            }
            let sent = self.telemetry.within(round, || self.client.request(request));
            let response = tokio::select! {
                response = sent => response,
                () = self.stopped() => return None,
            };
            let response = match response {
                Ok(response) => response,
                Err(error) => return Some(Err(Failure::from(&error))),
            };
            if let Some(verbose) = verbose {
                verbose.response(response.status(), response.version(), response.headers());
            }
            if plan.head {
                write_head(&mut heads, &response);
            }
            let next = self.next(mark, &hop, &response);
            let output = matches!(next, Ok(None)).then_some(target.output.as_deref()).flatten();
            let result = self.receive(mark, response, output, &heads).await?;
            match next {
                Err(failure) => return Some(Err(failure)),
                Ok(Some(next)) if result.is_ok() => hop = next,
                Ok(_) => return Some(result),
            }
        }
        None
    }

    /// Where the response leads to, if redirects are followed.
    fn next(&self, mark: Mark, hop: &Hop, response: &Response<ResponseBody>) -> Result<Option<Hop>, Failure> {
        let Some(limit) = self.plan.redirects else { return Ok(None) };
        let next = hop.next(response.status(), response.headers(), mark.hop < limit);
        if response.status().is_redirection() {
            let error = next.as_ref().err().map(|refused| refused.error.clone());
            if let Some(timeline) = self.redirects.decided(mark, error) {
                self.reports.attempt(&timeline);
            }
        }
        next.map_err(|refused| refused.failure)
    }

    /// Reads a response to its end, into its file or nowhere. Absent if it was interrupted.
    async fn receive(
        &self,
        mark: Mark,
        response: Response<ResponseBody>,
        output: Option<&Path>,
        heads: &[u8],
    ) -> Option<Result<(), Failure>> {
        if self.plan.format == Format::Har {
            self.reports.header(mark.tag().0, response.headers());
        }
        let handle = response.extensions().get::<TimelineHandle>().cloned();
        let status = response.status();
        let failed = self.plan.fail && (status.is_client_error() || status.is_server_error());
        let output = output.filter(|_| !failed);
        let result = copy(response.into_body(), output, heads, self.stopped()).await;
        if let Some(handle) = handle {
            self.attempts.settled(&handle).await;
        }
        if failed && result.is_some() {
            return Some(Err(Failure::new(STATUS, format!("the server answered {}", status.as_u16()))));
        }
        result
    }

    /// Resolves when the run is to end before its time.
    async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as the run.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    fn request(
        &self,
        mark: Mark,
        hop: &Hop,
        deadline: Option<tokio::time::Instant>,
        resends: &Resends,
    ) -> (Request<Payload>, Option<Arc<Verbose>>) {
        let body = match &hop.body {
            Some(body) => Either::Left(Full::new(body.clone())),
            None => Either::Right(Empty::new()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = hop.method.clone();
        *request.uri_mut() = hop.uri.clone();
        *request.headers_mut() = hop.headers.clone();
        let tag = mark.tag();
        request.extensions_mut().insert(tag);
        request.extensions_mut().insert(resends.clone());
        if let Some(deadline) = deadline {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            request.extensions_mut().insert(RequestTimeout(left));
        }
        if matches!(self.plan.format, Format::Hooks | Format::Har) {
            let reports = self.reports.clone();
            with_client_trace(&mut request, Arc::new(Journal::new(move |calls| reports.calls(tag.0, calls))));
        }
        let several = self.plan.concurrency > 1;
        let verbose = self.plan.verbose.then(|| Arc::new(Verbose::new(mark, several, hop, self.proxy(&hop.uri))));
        if let Some(verbose) = &verbose {
            with_client_trace(&mut request, Arc::clone(verbose) as Arc<dyn ClientTrace>);
        }
        (request, verbose)
    }

    /// The proxy of a URL.
    fn proxy(&self, uri: &Uri) -> Option<&Proxy> {
        self.plan.proxies.iter().find(|proxy| proxy.is_for(uri))
    }

    /// What the command ends with: the first failing request's failure, in the order of the requests.
    fn verdict(&self, interrupted: bool, written: Result<(), Failure>) -> Option<Failure> {
        let first = self.failures.lock().unwrap_or_else(PoisonError::into_inner).first_entry().map(|e| e.get().clone());
        let told = first.is_some() && !interrupted;
        let failure = if interrupted {
            let failure = Failure::new(INTERRUPTED, "interrupted");
            Some(Failure { error_type: "canceled", ..failure })
        } else {
            first.or(written.err())
        };
        if let (Some(failure), false, false) = (&failure, told, self.plan.silent) {
            failure.tell();
        }
        failure
    }
}

/// Reads a body to its end, into its file, behind the heads that belong there, or nowhere. Absent if `stop` came first.
async fn copy(
    mut body: ResponseBody,
    output: Option<&Path>,
    heads: &[u8],
    stop: impl Future<Output = ()>,
) -> Option<Result<(), Failure>> {
    let unwritable = |error: std::io::Error| {
        let path = output.unwrap_or(Path::new("")).display();
        Failure::new(WRITE, format!("cannot write '{path}': {error}"))
    };
    let mut file = match output.map(File::create).transpose() {
        Ok(file) => file,
        Err(error) => return Some(Err(unwritable(error))),
    };
    let mut written = file.as_mut().map_or(Ok(()), |file| file.write_all(heads));
    let mut stop = pin!(stop);
    while written.is_ok() {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = &mut stop => {
                body.cancel();
                return None;
            }
        };
        match frame {
            None => break,
            Some(Err(error)) => return Some(Err(Failure::from(&error))),
            Some(Ok(frame)) => {
                if let (Some(file), Some(data)) = (&mut file, frame.data_ref()) {
                    written = file.write_all(data);
                }
            }
        }
    }
    Some(written.map_err(unwritable))
}

/// A response's head as HTTP/1 would write it: what `-I` asks for.
fn write_head(out: &mut Vec<u8>, response: &Response<ResponseBody>) {
    let status = response.status();
    let line =
        format!("{:?} {} {}", response.version(), status.as_u16(), status.canonical_reason().unwrap_or_default());
    out.extend_from_slice(line.trim_end().as_bytes());
    out.extend_from_slice(b"\r\n");
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Which attempts are under way. A request's own end is known by its record; that of a canceled one only by counting.
#[derive(Default)]
struct Attempts {
    /// Hooks that are still due: the last of them is called after the record is told.
    due: AtomicU64,
    news: Notify,
}

impl ClientTrace for Attempts {
    fn get_conn(&self, _: &GetConnInfo<'_>) {
        self.due.fetch_add(1, Ordering::Relaxed);
    }

    fn got_conn(&self, _: &GotConnInfo<'_>) {
        // Now there are two: `response_done` and `put_idle_conn`.
        self.due.fetch_add(1, Ordering::Relaxed);
    }

    fn get_conn_failed(&self, _: &GetConnFailedInfo<'_>) {
        self.paid();
    }

    fn response_done(&self, _: &ResponseDoneInfo<'_>) {
        self.paid();
    }

    fn put_idle_conn(&self, _: &PutIdleConnInfo) {
        self.paid();
    }
}

impl Attempts {
    /// The record and a request's own trace hear of it before this one, so their last word is out.
    fn paid(&self) {
        self.due.fetch_sub(1, Ordering::Relaxed);
        self.news.notify_waiters();
    }

    /// Waits until a record is complete, which is when its connection is back: the next request can use it then.
    async fn settled(&self, handle: &TimelineHandle) {
        self.until(|| handle.get().is_some()).await;
    }

    /// Waits until every attempt has ended.
    async fn over(&self) {
        self.until(|| self.due.load(Ordering::Relaxed) == 0).await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        let waiting = async {
            loop {
                let news = self.news.notified();
                if condition() {
                    return;
                }
                news.await;
            }
        };
        // Only a report would be lost after this, and a command that hangs is worse.
        let _ = tokio::time::timeout(SETTLE, waiting).await;
    }
}
