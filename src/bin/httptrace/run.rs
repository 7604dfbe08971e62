//! The run: workers take requests in order until none is left, or until Ctrl-C.
//!
//! In: a [`Plan`]. Out: the exit code; attempts go to [`Output`] as they end, bodies to their files. All requests share
//! one client and so one pool.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Either, Empty, Full};
use httptrace::{
    Client, ClientTrace, ResponseBody,
    hooks::{GetConnFailedInfo, GetConnInfo, GotConnInfo, PutIdleConnInfo, ResponseDoneInfo},
    timeline::{Tag, TimelineHandle},
    with_client_trace,
};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    args::Format,
    calls::Journal,
    exit::{CA_FILE, Failure, INTERRUPTED, USAGE, WRITE, warn},
    output::{Output, Reports},
    plan::{Plan, Protocol, Target, Trust},
    telemetry::Telemetry,
};

/// Sends everything and reports it. Returns the exit code.
pub(crate) async fn run(plan: Plan) -> u8 {
    let silent = plan.silent;
    let (telemetry, warnings) = Telemetry::start(&plan);
    let output = Output::start(&plan);
    let attempts = Arc::new(Attempts::default());
    let client = match client(&plan, &output, &attempts) {
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
        reports: output.reports(),
        next: AtomicU64::new(1),
        failures: Mutex::new(BTreeMap::new()),
    });
    let interrupted = run.work(workers, &output).await;
    run.client.shutdown(GRACE).await;
    run.attempts.over().await;
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

fn client(plan: &Plan, output: &Output, attempts: &Arc<Attempts>) -> Result<Client, Failure> {
    let reports = output.reports();
    let mut builder = Client::builder()
        .max_headers(1_000)
        // The user's wish to decrypt a capture, as curl and browsers take it.
        .danger_log_tls_keys(std::env::var_os("SSLKEYLOGFILE").is_some_and(|path| !path.is_empty()))
        .timeline(true)
        .client_trace(Arc::clone(attempts) as Arc<dyn ClientTrace>)
        .on_timeline(move |timeline| reports.attempt(timeline));
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
    if let Some(limit) = plan.max_time {
        builder = builder.timeout(limit);
    }
    builder.build().map_err(|error| {
        let code = if matches!(plan.trust, Trust::Roots(_)) { CA_FILE } else { USAGE };
        Failure { code, ..Failure::from(&error) }
    })
}

/// One run.
struct Run {
    plan: Plan,
    client: Client,
    telemetry: Telemetry,
    attempts: Arc<Attempts>,
    reports: Reports,
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
        // Drops the requests that are under way: their attempts end as canceled.
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
        let result = self.exchange(number, round, target).await;
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

    async fn exchange(&self, number: u64, round: u64, target: &Target) -> Result<(), Failure> {
        let response = self.telemetry.within(round, || self.client.request(self.request(number, target)));
        let response = response.await.map_err(|error| Failure::from(&error))?;
        if self.plan.format == Format::Har {
            self.reports.header(number, response.headers());
        }
        let handle = response.extensions().get::<TimelineHandle>().cloned();
        let result = receive(response.into_body(), target.output.as_deref()).await;
        if let Some(handle) = handle {
            self.attempts.settled(&handle).await;
        }
        result
    }

    fn request(&self, number: u64, target: &Target) -> Request<Either<Full<Bytes>, Empty<Bytes>>> {
        let body = match &self.plan.body {
            Some(body) => Either::Left(Full::new(body.clone())),
            None => Either::Right(Empty::new()),
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.plan.method.clone();
        *request.uri_mut() = target.uri.clone();
        *request.headers_mut() = self.plan.headers.clone();
        request.extensions_mut().insert(Tag(number));
        if matches!(self.plan.format, Format::Hooks | Format::Har) {
            let reports = self.reports.clone();
            with_client_trace(&mut request, Arc::new(Journal::new(move |calls| reports.calls(number, calls))));
        }
        request
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

/// Reads a body to its end, into its file or nowhere.
async fn receive(mut body: ResponseBody, output: Option<&Path>) -> Result<(), Failure> {
    let unwritable = |error: std::io::Error| {
        let path = output.unwrap_or(Path::new("")).display();
        Failure::new(WRITE, format!("cannot write '{path}': {error}"))
    };
    let mut file = output.map(File::create).transpose().map_err(unwritable)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::from(&error))?;
        if let (Some(file), Some(data)) = (&mut file, frame.data_ref()) {
            file.write_all(data).map_err(unwritable)?;
        }
    }
    Ok(())
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
