//! Scenarios broken off at every point.
//!
//! Every k is tried, with one exception: with TLS, whose handshake alone has two thousand bytes, one byte in 23 is.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::Body;
use httptrace::{Client, Error, ResponseBody, ResponseFuture, dial::Proxy};
use rustls::{ServerConfig, pki_types::CertificateDer};
use tokio::task::yield_now;

use crate::{
    kit::certificate::Identity,
    ledger::Ledger,
    net::{Death, Net},
    origin::{Origin, serve},
    scenarios::{Ask, Scenario, framing, http2, proxied, sending, tls},
};

/// What is broken off, and when.
#[derive(Debug, Clone, Copy)]
enum Break {
    Nothing,
    /// The last request's future is dropped after so many polls.
    Head(usize),
    /// Its body is.
    Body(usize),
    /// All is dropped after so many steps of the scheduler.
    Step(usize),
    /// All is dropped after so many steps, and the client with it.
    Client(usize),
    /// The application's client is dropped after so many steps, and its requests go on.
    Leave(usize),
    /// The connection dies after so many bytes of the origin.
    Cut(usize, Death),
}

/// Longer than any timeout of the client but the idle one.
const SETTLED: Duration = Duration::from_secs(60);

/// Far shorter than the idle timeout, which must not be what closes connections here.
const CLOSED: Duration = Duration::from_secs(1);

/// Shorter than the time in which all settles.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How a request ends that there was no client for.
const NO_CLIENT: &str = "no client";

/// A scenario's certificate, made once.
type Secret = Option<(CertificateDer<'static>, Arc<ServerConfig>)>;

impl Scenario {
    fn https(&self) -> bool {
        self.proxy.map_or(self.tls, |via| via.https)
    }

    fn secret(&self) -> Secret {
        self.tls.then(|| {
            let identity = Identity::new(if matches!(self.origin, Origin::Http2(_)) { &["h2"] } else { &["http/1.1"] });
            (identity.root, identity.config)
        })
    }

    /// Plays it. Returns whether it came to its end before the break, and the bytes that the origin got across.
    async fn play(&self, secret: &Secret, at: Break) -> (bool, usize) {
        let (origin, config) = (self.origin, secret.as_ref().map(|(_, config)| Arc::clone(config)));
        // A script has the proxy's words in it.
        let tunnel = self.proxy.is_some() && matches!(origin, Origin::Http2(_));
        let cut = if let Break::Cut(at, death) = at { Some((at, death)) } else { None };
        let net = Net::new(cut, move |number, pipe| {
            tokio::spawn(serve(origin, number, config.clone(), tunnel, pipe));
        });
        let mut builder = Client::builder().timeout(TIMEOUT);
        if let Some(via) = self.proxy {
            let proxy = Proxy::all(via.url).expect("a URL");
            let roots = secret.iter().map(|(root, _)| root.clone()).collect();
            builder = builder.proxy(proxy.root_certificates(roots));
        }
        if let Some((root, _)) = secret {
            builder = builder.root_certificates(vec![root.clone()]);
        } else if let Origin::Http2(_) = origin {
            builder = builder.http2_prior_knowledge();
        }
        if self.one_connection {
            builder = builder.max_connections_per_host(1);
        }
        if self.limited {
            builder = builder.response_header_timeout(TIMEOUT / 4).body_idle_timeout(TIMEOUT / 4);
        }
        let ledger = Arc::new(Ledger::new(builder, net));
        let (ended, last) = self.requests(&ledger, at).await;
        let of = (self.name, at);
        if let Break::Client(_) = at {
            drop(ledger.take_client());
        }
        if let Break::Nothing | Break::Leave(_) = at {
            assert!(
                last == self.ends || last == NO_CLIENT,
                "{} ended with {last}, not with {}\n{}",
                self.name,
                self.ends,
                ledger.log()
            );
        }
        tokio::time::sleep(SETTLED).await;
        ledger.check(&of);
        if let (Break::Nothing, Some(wanted)) = (at, self.closes) {
            let reason = ledger
                .log()
                .details("conn_closed")
                .first()
                .map(|of| of.split_once(' ').expect("a reason").1.to_owned());
            assert!(
                reason.as_deref() == Some(wanted),
                "{}: {reason:?}, expected {wanted}\n{}",
                self.name,
                ledger.log()
            );
        }
        drop(ledger.take_client());
        tokio::time::sleep(CLOSED).await;
        ledger.check_closed(&of);
        (ended, ledger.net().read())
    }

    /// Whether they came to their end, and what was the last one's.
    async fn requests(&self, ledger: &Arc<Ledger>, at: Break) -> (bool, String) {
        let story = async {
            let (last, before) = self.asks.split_last().expect("a request");
            let mut others = Vec::new();
            for ask in before {
                let ask = *ask;
                let Some(request) = send(ledger, ask, self.https()) else { return NO_CLIENT.to_owned() };
                let request = one(request, ask, Break::Nothing);
                if self.together {
                    others.push(tokio::spawn(request));
                } else {
                    request.await;
                    // Its connection is back before the next one asks.
                    step(20).await;
                }
            }
            let Some(request) = send(ledger, *last, self.https()) else { return NO_CLIENT.to_owned() };
            let last = one(request, *last, at).await;
            for other in others {
                other.await.expect("no panic");
            }
            last
        };
        match at {
            Break::Step(steps) | Break::Client(steps) => tokio::select! {
                biased;
                () = step(steps) => (false, String::new()),
                last = story => (true, last),
            },
            Break::Leave(steps) => {
                let mut story = pin!(story);
                tokio::select! {
                    biased;
                    () = step(steps) => {
                        drop(ledger.take_client());
                        (false, story.await)
                    }
                    last = &mut story => (true, last),
                }
            }
            Break::Nothing | Break::Head(_) | Break::Body(_) | Break::Cut(..) => {
                let last = story.await;
                (!last.is_empty(), last)
            }
        }
    }
}

fn send(ledger: &Ledger, ask: Ask, https: bool) -> Option<ResponseFuture> {
    match ask.whole(https) {
        Some(request) => ledger.send(request),
        None => ledger.send(ask.request(https)),
    }
}

/// One request, and how it ended; empty if it was broken off.
async fn one(request: ResponseFuture, ask: Ask, at: Break) -> String {
    let result = match at {
        Break::Head(polls) => match polled(request, polls).await {
            Some(result) => result,
            None => return String::new(),
        },
        _ => request.await,
    };
    let response = match result {
        Ok(response) => response,
        Err(error) => return error.error_type().to_owned(),
    };
    let most = if let Break::Body(polls) = at { polls } else { usize::MAX };
    let status = response.status().as_u16();
    if ask.drops {
        return format!("{status} dropped");
    }
    match read(response, most).await {
        None => String::new(),
        Some(Ok(bytes)) => format!("{status} {bytes}"),
        Some(Err(error)) => format!("{status} {}", error.error_type()),
    }
}

/// The bytes of a body, unless it has been polled so often.
async fn read(response: Response<ResponseBody>, most: usize) -> Option<Result<usize, Error>> {
    let mut body = response.into_body();
    let (mut polls, mut bytes) = (0, 0);
    poll_fn(|cx| {
        loop {
            if polls == most {
                return Poll::Ready(None);
            }
            polls += 1;
            match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => bytes += frame.data_ref().map_or(0, Bytes::len),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(Some(Ok(bytes))),
                // Dropped at once, not at the next wake.
                Poll::Pending if polls == most => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// A future's result, unless it has been polled so often.
async fn polled(
    future: impl Future<Output = Result<Response<ResponseBody>, Error>>,
    most: usize,
) -> Option<Result<Response<ResponseBody>, Error>> {
    let mut future = pin!(future);
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == most {
            return Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if polls == most => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// So many turns of everybody.
async fn step(steps: usize) {
    for _ in 0..steps {
        yield_now().await;
    }
}

/// Polls and steps within which each scenario has ended, or waits for time to pass: no steps do that.
const MOST: usize = 120;

/// Breaks each scenario off after every k-th poll or step, until it comes to its end before that.
async fn for_every(scenarios: Vec<Scenario>, at: impl Fn(usize) -> Break) {
    for scenario in scenarios {
        let secret = scenario.secret();
        let mut k = 0;
        while k < MOST && !scenario.play(&secret, at(k)).await.0 {
            k += 1;
        }
    }
}

/// Cuts each scenario's connection after every byte.
async fn for_every_byte(scenarios: Vec<Scenario>, death: Death) {
    for scenario in scenarios {
        let secret = scenario.secret();
        let (_, bytes) = scenario.play(&secret, Break::Nothing).await;
        let stride = if scenario.tls { 23 } else { 1 };
        for k in (0..=bytes).step_by(stride) {
            scenario.play(&secret, Break::Cut(k, death)).await;
        }
    }
}

fn all() -> Vec<Scenario> {
    [framing(), sending(), http2(), tls(), proxied()].concat()
}

#[tokio::test(start_paused = true)]
async fn requests_dropped_after_any_poll_leave_balanced_books() {
    for_every(all(), Break::Head).await;
}

#[tokio::test(start_paused = true)]
async fn bodies_dropped_after_any_poll_leave_balanced_books() {
    for_every(all(), Break::Body).await;
}

#[tokio::test(start_paused = true)]
async fn requests_dropped_after_any_step_leave_balanced_books() {
    for_every(all(), Break::Step).await;
}

#[tokio::test(start_paused = true)]
async fn clients_dropped_after_any_step_leave_balanced_books() {
    for_every(all(), Break::Client).await;
}

#[tokio::test(start_paused = true)]
async fn requests_whose_client_is_dropped_after_any_step_end_as_they_would() {
    for_every(all(), Break::Leave).await;
}

#[tokio::test(start_paused = true)]
async fn scenarios_that_nothing_breaks_end_as_they_say() {
    for scenario in all() {
        scenario.play(&scenario.secret(), Break::Nothing).await;
    }
}

macro_rules! cuts {
    ($($name:ident($death:ident, $scenarios:expr);)+) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                for_every_byte($scenarios, Death::$death).await;
            }
        )+
    };
}

cuts! {
    answers_that_end_after_any_byte_leave_balanced_books(Eof, framing());
    answers_that_break_after_any_byte_leave_balanced_books(Reset, framing());
    answers_that_stop_after_any_byte_leave_balanced_books(Silence, framing());
    uploads_that_end_after_any_byte_leave_balanced_books(Eof, sending());
    uploads_that_break_after_any_byte_leave_balanced_books(Reset, sending());
    uploads_that_stop_after_any_byte_leave_balanced_books(Silence, sending());
    http2_that_ends_after_any_byte_leaves_balanced_books(Eof, http2());
    http2_that_breaks_after_any_byte_leaves_balanced_books(Reset, http2());
    http2_that_stops_after_any_byte_leaves_balanced_books(Silence, http2());
    proxies_that_end_after_any_byte_leave_balanced_books(Eof, proxied());
    proxies_that_break_after_any_byte_leave_balanced_books(Reset, proxied());
    proxies_that_stop_after_any_byte_leave_balanced_books(Silence, proxied());
    tls_that_ends_after_any_byte_leaves_balanced_books(Eof, tls());
    tls_that_breaks_after_any_byte_leaves_balanced_books(Reset, tls());
    tls_that_stops_after_any_byte_leaves_balanced_books(Silence, tls());
}
