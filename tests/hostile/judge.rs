//! What must hold whatever an origin does: one judge for every case.
//!
//! The request ends as the case says and as its record says, in time; every hook that began has its end; the next request is
//! answered, on the connection or on another as the case says; no POST was sent more often than it may be; no flood was
//! taken in; and when the client is shut down, all levels are at zero and all connections closed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use httptrace::Error;

use crate::{
    case::{Ask, Case, Ends, Next, Over, Time},
    reading::{Meters, total},
    support::{
        PATIENCE,
        client::{Traced, read},
        frames::lines,
        origin::Origin,
        within,
    },
};

/// Farther than any test goes.
const NEVER: Duration = Duration::from_secs(600);

/// What a case that nothing but a timeout ends waits for.
pub(crate) const SOON: Duration = Duration::from_millis(700);

/// Of an endless flood: what fits into the buffers of two sockets, and what the client may read.
const FLOOD: usize = 24 << 20;

/// Judges each case with each of its methods, and names those that do not hold.
pub(crate) async fn all_hold(cases: Vec<Case>) {
    let only = std::env::var("HOSTILE_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    for case in cases.into_iter().filter(|case| case.name.contains(&only)).map(Arc::new) {
        for &ask in case.asks {
            let one = Arc::clone(&case);
            if let Err(died) = tokio::spawn(async move { holds(&one, ask).await }).await {
                let panic = died.into_panic();
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                failed.push(format!("{} ({ask:?}): {}", case.name, text.unwrap_or_default()));
            }
        }
    }
    assert!(failed.is_empty(), "{} fail:\n{}", failed.len(), failed.join("\n"));
}

async fn holds(case: &Case, ask: Ask) {
    let origin = case.origin(ask);
    let meters = Meters::new(1);
    let traced = Traced::new(client(case, &origin).meter_provider(&meters.provider));
    let url = url(case, &origin);
    for _ in 0..case.before {
        traced.read(url.clone()).await.expect("it is not hostile yet");
        traced.log.wait_for("put_idle_conn", 1).await;
        origin.gate("idle").open();
        if case.script.iter().any(|step| matches!(step, crate::support::script::Step::Gate("idle"))) {
            traced.log.wait_for("conn_closed", 1).await;
        }
    }
    let began = tokio::time::Instant::now();
    let result = asked(&traced, url.clone(), ask).await;
    let took = began.elapsed();
    ended_as_told(case, ask, &traced, result).await;
    match case.time {
        Time::AtOnce => assert!(took < PATIENCE, "it took {took:?}"),
        Time::Timeout(_) => assert!(took >= SOON / 2, "it took only {took:?}"),
    }
    traced.log.settled().await;
    let faults = traced.log.faults(case.before + 1);
    assert!(faults.is_empty(), "the hooks do not pair: {faults:?}\n{}", traced.log);
    next_is_answered(case, &traced, &origin, url).await;
    books_are_closed(case, ask, traced, &origin, &meters).await;
}

fn client(case: &Case, origin: &Origin) -> httptrace::ClientBuilder {
    let builder = (case.client)(origin.client_builder().timeout(NEVER));
    match case.over {
        Over::Http2 => builder.http2_prior_knowledge(),
        Over::Http1 | Over::Tls(_) | Over::NoTls => builder,
    }
}

fn url(case: &Case, origin: &Origin) -> http::Uri {
    match case.over {
        Over::NoTls => format!("https://{}/", origin.addr()).parse().expect("a URL"),
        Over::Http1 | Over::Http2 | Over::Tls(_) => origin.url("/"),
    }
}

async fn asked(traced: &Traced, url: http::Uri, ask: Ask) -> Result<(u16, Bytes), Error> {
    let request = match ask {
        Ask::Get => Request::get(url),
        Ask::Post => Request::post(url),
        Ask::Head => Request::head(url),
    };
    let body = if ask == Ask::Post { Bytes::from_static(b"body") } else { Bytes::new() };
    let request = request.body(Full::new(body)).expect("a request");
    let response = within("a response's head", traced.client.request(request)).await?;
    let status = response.status().as_u16();
    Ok((status, read(response).await?))
}

async fn ended_as_told(case: &Case, ask: Ask, traced: &Traced, result: Result<(u16, Bytes), Error>) {
    let attempts = case.before + 1 + traced.log.count("retry");
    let timeline = traced.timelines(attempts).await.pop().expect("one at least");
    let recorded = timeline.error.as_ref().map(|error| (error.phase().as_str(), error.error_type()));
    match (case.ends(ask), result) {
        (Ends::Answer(status, body), Ok(got)) => {
            assert_eq!((got.0, String::from_utf8_lossy(&got.1).as_ref()), (status, body));
            assert_eq!(recorded, None, "the record");
        }
        (Ends::Dies(any), Err(error)) => {
            let told = (error.phase().as_str(), error.error_type());
            assert!(any.contains(&told), "it died of {told:?}, not of {any:?}: {error:?}\n{}", traced.log);
            assert_eq!(recorded, Some(told), "the record");
        }
        (ends, result) => panic!("{ends:?}, but {result:?}\n{}", traced.log),
    }
}

/// The identity of the connection that was got last.
fn last_connection(traced: &Traced) -> Option<String> {
    let last = traced.log.details("got_conn").pop()?;
    last.split(' ').next().map(str::to_owned)
}

/// The identity of the first connection, if anybody got it.
fn first_connection(traced: &Traced) -> Option<String> {
    traced.log.details("got_conn").first().and_then(|first| first.split(' ').next().map(str::to_owned))
}

async fn next_is_answered(case: &Case, traced: &Traced, origin: &Origin, url: http::Uri) {
    let hostile = first_connection(traced);
    let accepted = origin.accepted();
    let next = traced.read(url).await;
    if let (Over::NoTls, _) | (Over::Tls(_), None) = (case.over, &hostile) {
        // Each connection is as bad as the first.
        assert!(next.is_err(), "the next request was answered");
        assert_eq!(origin.accepted(), accepted + 1, "connections after the next request");
        return;
    }
    if case.next == Next::Waits || case.next == Next::WaitsOrDials && next.is_err() {
        let error = next.expect_err("the connection recovered");
        assert_eq!(error.error_type(), "timeout", "the next request");
        return;
    }
    assert_eq!(next.as_deref().ok(), Some(&b"good"[..]), "the next request: {next:?}\n{}", traced.log);
    let reused = last_connection(traced) == hostile;
    assert_eq!(reused, case.next == Next::Reuses, "the connection was used again, or was not\n{}", traced.log);
}

/// How often a POST reached the origin.
fn posts(case: &Case, origin: &Origin) -> usize {
    let of = |received: &[u8]| match case.over {
        _ if received.starts_with(b"PRI * HTTP/2") => {
            let lines = lines(received);
            lines.iter().filter(|line| line.fields.contains(&(":method".to_owned(), "POST".to_owned()))).count()
        }
        _ => received.windows(7).filter(|window| *window == b"POST / ").count(),
    };
    origin.record().connections.iter().map(|connection| of(&connection.received)).sum()
}

/// The connection that answered and was left: why.
fn why_it_closed(case: &Case, traced: &Traced) {
    let hostile = format!("{} ", first_connection(traced).unwrap_or_default());
    let told =
        traced.log.details("conn_closed").into_iter().find_map(|told| Some(told.strip_prefix(&hostile)?.to_owned()));
    let told = told.unwrap_or_default();
    assert!(case.closes.is_empty() || case.closes.contains(&&*told), "it closed for {told:?}, not {:?}", case.closes);
}

async fn books_are_closed(case: &Case, ask: Ask, traced: Traced, origin: &Origin, meters: &Meters) {
    let requests = case.before + 2;
    traced.log.settled().await;
    let faults = traced.log.faults(requests);
    assert!(faults.is_empty(), "the hooks do not pair: {faults:?}\n{}", traced.log);
    within("the shutdown", traced.client.shutdown(PATIENCE)).await;
    let levels = || {
        let collection = meters.first();
        ["http.client.active_requests", "httptrace.request.pending", "http.client.open_connections"]
            .map(|name| total(&collection, name, None))
    };
    assert_eq!(levels(), [0.0; 3], "active, pending, open");
    why_it_closed(case, &traced);
    origin.gate("end").open();
    origin.until("every connection's end", |record| record.connections.iter().all(|one| one.closed)).await;
    if ask == Ask::Post {
        let posts = posts(case, origin);
        assert!(posts <= case.posts, "the POST was sent {posts} times");
    }
    if case.time != Time::AtOnce {
        return;
    }
    let flooded = origin.record().connections.iter().map(|one| one.flooded).max().unwrap_or_default();
    assert!(flooded < FLOOD, "{flooded} bytes of a flood were taken");
}
