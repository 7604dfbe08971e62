//! How true the marks are: each is compared with what another process saw on the wire.
//!
//! The origin (`origin.rs`, `script.rs`) is this binary once more, in a process of its own. It stamps its system calls with
//! the wall clock (`wire.rs`) and holds the client up by 20 ms at every boundary, so that a mark that was taken elsewhere
//! than at its boundary is wrong by 20 ms. `judge.rs` compares; here the requests are sent.
//!
//! Two things are asked. *Order*, in every single request: no mark lies where it can't have happened (a response's byte
//! before it was written, a request's last byte while the socket was known to be full, a handshake's end before its last
//! byte), and the marks of an attempt follow each other as in a packet capture. *Distance*: p95 of each boundary is at
//! most 2 ms plus p95 of what the origin's own sleeps were too long by, so that a busy machine is not taken for a lie. A
//! boundary that misses it is measured again, in five rounds at most; the order counts in all of them.
//!
//! The table goes to stdout itself, past the capture of test output. `TRUTH_SAMPLES` changes the requests of each kind;
//! with `TRUTH_AWAKE` both processes spin instead of sleeping, for a table without the processor's time to wake up.

#![cfg(target_os = "linux")]

mod judge;
mod order;
mod origin;
mod script;
mod wire;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use httptrace::{Client, Timeline};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;

use crate::{
    judge::{Findings, Table},
    order::{Kind, Order, Protocol, Stamps},
};

// mutants: src/exchange/sensor.rs: `take_due` doesn't look at `holds_back` (order, TLS with a full socket) · `take_due` reads
// the clock, and `passed_out` calls `flushed` (order, full socket) · `passed_in` tells `read` and `head_begins` once the head
// is final (distance, first-byte)
#[tokio::test]
async fn every_mark_is_where_another_process_saw_the_bytes() {
    if wire::stays_awake() {
        tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
    }
    let mut origin = Other::start();
    let mut table = Table::default();
    let mut lies = late_connect(&mut origin).await;
    for protocol in Protocol::ALL {
        // Boundaries that were too far in every round.
        let mut far: Option<BTreeMap<_, _>> = None;
        for round in 1..=ROUNDS {
            let findings = measure(&mut origin, protocol).await;
            lies.extend(findings.lies.iter().cloned());
            table.add(protocol, round, &findings);
            let mut now = findings.too_far();
            now.retain(|boundary, _| far.as_ref().is_none_or(|far| far.contains_key(boundary)));
            if far.insert(now).is_empty() {
                break;
            }
        }
        for (boundary, how) in far.into_iter().flatten() {
            lies.insert(0, format!("{}: {boundary}: {how}", protocol.name()));
        }
    }
    // Not `println!`: it would be captured, and the table is to be seen also when all is well.
    std::io::stdout().write_all(table.to_string().as_bytes()).unwrap();
    assert!(lies.is_empty(), "{} lies:\n{}", lies.len(), lies[..lies.len().min(20)].join("\n"));
}

/// The most rounds that the distances get.
const ROUNDS: u32 = 5;

/// Not a test but the other process: does nothing unless it is started as such.
#[test]
#[ignore = "the other process of the test above, which starts it"]
fn the_origin() {
    if let Ok(control) = std::env::var(CONTROL) {
        origin::run(&control);
    }
}

const CONTROL: &str = "TRUTH_CONTROL";

/// Requests of every kind.
async fn measure(origin: &mut Other, protocol: Protocol) -> Findings {
    let samples = std::env::var("TRUTH_SAMPLES").map_or(16, |samples| samples.parse().expect("a number"));
    let mut findings = Findings::default();
    // What fits into a socket is found out, so that there is a little more than that: what exceeds it is held by TLS and
    // by hyper, where a mark could be taken too early.
    let mut fits = [PLENTY, PLENTY / 4];
    for _ in 0..samples {
        let kept = Traced::new(origin, protocol);
        for kind in [Kind::Get, Kind::Again] {
            let (timeline, stamps) = kept.exchange(origin, Order { protocol, kind }, 0).await;
            findings.judge(Order { protocol, kind }, &timeline, &stamps);
        }
        for (kind, fits) in [Kind::Upload, Kind::BigHead].into_iter().zip(&mut fits) {
            let order = Order { protocol, kind };
            let (timeline, stamps) = Traced::new(origin, protocol).exchange(origin, order, *fits + MORE).await;
            findings.judge(order, &timeline, &stamps);
            let accepted = usize::try_from(stamps.get("accepted_bytes")).unwrap();
            *fits = if stamps.find("full_at").is_some() { accepted.max(64 * 1024) } else { PLENTY };
        }
    }
    findings
}

/// Less than TLS holds back (64 KiB), more than the sockets' sizes vary by.
const MORE: usize = 32 * 1024;

/// More than a socket takes.
const PLENTY: usize = 1024 * 1024;

/// A connect can't be done while the kernel drops its SYN.
async fn late_connect(origin: &mut Other) -> Vec<String> {
    let order = Order { protocol: Protocol::Http1, kind: Kind::SynDropped };
    let (timeline, stamps) = Traced::new(origin, Protocol::Http1).exchange(origin, order, 0).await;
    let mut findings = Findings::default();
    findings.judge(order, &timeline, &stamps);
    findings.lies
}

/// A client with its records.
struct Traced {
    client: Client,
    timelines: std::sync::Mutex<mpsc::UnboundedReceiver<Timeline>>,
}

impl Traced {
    fn new(origin: &Other, protocol: Protocol) -> Self {
        let (told, timelines) = mpsc::unbounded_channel();
        let builder = Client::builder()
            .root_certificates(vec![origin.root.clone()])
            .on_timeline(move |timeline| told.send(timeline.clone()).expect("the test listens"));
        let builder = if protocol == Protocol::Http2Tls { builder } else { builder.http1_only() };
        Self { client: builder.build().unwrap(), timelines: timelines.into() }
    }

    /// One request: its record, and what the origin saw of it.
    #[allow(clippy::await_holding_lock, reason = "one task")]
    async fn exchange(&self, origin: &mut Other, order: Order, size: usize) -> (Timeline, Stamps) {
        let ready = origin.order(order);
        let addr = ready.parse().unwrap_or(origin.addr);
        let scheme = if order.protocol == Protocol::Http1 { "http" } else { "https" };
        let mut request = Request::get(format!("{scheme}://{addr}/"));
        let mut body = Bytes::new();
        match order.kind {
            Kind::Upload => {
                request = request.method("POST");
                body = vec![b'b'; size].into();
            }
            // Huffman's code for an `X` has 8 bits (RFC 7541, appendix B), so it is as long on HTTP/2 as on HTTP/1.
            Kind::BigHead => request = request.header("big", "X".repeat(size)),
            _ => {}
        }
        let exchange = async {
            let request = request.body(Full::new(body)).unwrap();
            let response = self.client.request(request).await.unwrap_or_else(|error| panic!("{order}: {error:?}"));
            response.into_body().collect().await.unwrap_or_else(|error| panic!("{order}: {error:?}"));
            self.timelines.lock().unwrap().recv().await.expect("the client lives")
        };
        let timeline = tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("{order} hangs"));
        (timeline, origin.line().parse().unwrap())
    }
}

/// The other process; ends with this value, and at the latest with this process.
struct Other {
    process: Child,
    control: TcpStream,
    lines: BufReader<TcpStream>,
    addr: SocketAddr,
    root: CertificateDer<'static>,
}

impl Other {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_origin", "--ignored", "--nocapture"])
            .env(CONTROL, listener.local_addr().unwrap().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (control, _) = listener.accept().unwrap();
        control.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(control.try_clone().unwrap());
        let addr = control.peer_addr().unwrap();
        let mut this = Self { process, control, lines, addr, root: Vec::new().into() };
        let hello = this.line();
        let (addr, hex) = hello.split_once(' ').expect("an address and a certificate");
        this.addr = addr.parse().unwrap();
        let bytes = (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
        this.root = bytes.collect::<Vec<_>>().into();
        this
    }

    /// Gives an order, and returns what the origin says once it waits for the request.
    fn order(&mut self, order: Order) -> String {
        writeln!(self.control, "{order}").unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the origin answers");
        assert!(line.ends_with('\n'), "the origin is gone");
        line.trim().to_owned()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Far longer than anything here takes: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);
