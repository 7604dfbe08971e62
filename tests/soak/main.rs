//! Under load: an origin fails a tenth of what it is asked for in every way it knows, requests are given up, the collector
//! goes away and comes back. Nothing hangs, nothing is lost, nothing is left over.
//!
//! In `cargo test` with three thousand requests; `.ci/run full` asks a hundred thousand times and shows the table. The load
//! and what it asks for is in `load.rs`, the origin in `origin.rs`, the collector in `collector.rs`; `books.rs` counts what the
//! client tells, `process.rs` what this process holds.
#![cfg(target_os = "linux")]

mod books;
mod collector;
mod kit;
mod load;
mod origin;
mod process;

use std::{fmt::Write, sync::Arc, time::Duration};

use httptrace::{
    Client,
    otlp::{self, Protocol},
    views::{metrics::Metrics, spans::Spans},
};
use tokio::runtime::{Builder, Runtime};

use self::{books::Books, collector::Collector, load::Load, origin::Origins, process::Held};

/// What the run is held to.
struct Size {
    requests: u64,
    /// Until the first look at what is held.
    first: u64,
    /// Places in the exporter's queue: fewer than an outage fills.
    queue: usize,
    /// Bytes that the process may have grown by meanwhile.
    growth: u64,
}

#[test]
fn three_thousand_good_and_failing_requests_lose_nothing_and_leave_nothing_over() {
    soak(&Size { requests: 3_000, first: 1_000, queue: 64, growth: 24 << 20 });
}

#[test]
#[ignore = "takes minutes"]
fn a_hundred_thousand_good_and_failing_requests_lose_nothing_and_leave_nothing_over() {
    soak(&Size { requests: 100_000, first: 1_000, queue: 2048, growth: 24 << 20 });
}

fn soak(size: &Size) {
    // Two runtimes, so that what is alive on the client's is the client's.
    let (theirs, ours) = (runtime(1), runtime(2));
    let origins = theirs.block_on(Origins::start());
    let collector = Collector::start(theirs.handle());
    let guard = otlp::builder()
        .endpoint(collector.endpoint())
        .protocol(Protocol::HttpProtobuf)
        .set_globals(false)
        .batch_delay(Duration::from_millis(100))
        .batch_queue(size.queue)
        .metric_interval(Duration::from_millis(500))
        .init()
        .expect("telemetry");
    let books = Arc::new(Books::default());
    // The books come first: of those who are asked for the span of a dial, the first one that has one gives it.
    let client = Client::builder()
        .telemetry(false)
        .reporter(books.reporter())
        .reporter(Arc::new(Spans::new(guard.tracer_provider())))
        .reporter(Arc::new(Metrics::new(guard.meter_provider())))
        .client_trace(books.ends())
        .root_certificates(vec![origins.root()])
        .resolve_to("origin.test", origins.refusing(), vec![std::net::Ipv4Addr::LOCALHOST.into()])
        .response_header_timeout(load::PATIENCE)
        .build()
        .expect("settings that fit");

    let load = Arc::new(Load::new(client.clone(), origins, Arc::clone(&books)));
    ours.block_on(Arc::clone(&load).run(0..size.first));
    let before = Held::settled(ours.handle(), &client, None);
    let outages = collector.outages(&load, size.first..size.requests);
    ours.block_on(Arc::clone(&load).run(size.first..size.requests));
    outages.join().expect("the collector's own thread");
    let after = Held::settled(ours.handle(), &client, Some(&before));
    ours.block_on(client.shutdown(process::PATIENCE));
    drop((load.take_client(), client));
    let ended = ours.block_on(guard.shutdown_async());

    let (told, asked) = (books.told(), load.outcomes());
    let mut report = String::new();
    let _ = writeln!(report, "{asked}{told}{collector}\n{ended}\nheld after {}: {before}", size.first);
    let _ = writeln!(report, "held after {}: {after}", size.requests);
    println!("{report}");
    let mut faults = asked.faults(size.requests);
    faults.extend(told.faults(size.requests));
    faults.extend(after.faults(&before, size.growth));
    let (made, exported, dropped) = (told.spans, ended.exported_spans, ended.dropped_spans);
    if made != exported + dropped {
        faults.push(format!("{made} spans were made, {exported} exported and {dropped} dropped"));
    }
    if dropped == 0 {
        faults.push("the outages cost nothing: they prove nothing".to_owned());
    }
    faults.extend(collector.faults(exported, made));
    assert!(faults.is_empty(), "{}\n{report}", faults.join("\n"));
}

fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("threads")
}
