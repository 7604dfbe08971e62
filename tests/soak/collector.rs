//! A collector that counts what it gets and keeps nothing, and that goes away and comes back, at the same address.

use std::{
    convert::Infallible,
    fmt,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::{
    net::TcpListener,
    runtime::Handle,
    task::{JoinHandle as Task, JoinSet},
};

use crate::load::Load;

pub(crate) struct Collector {
    addr: SocketAddr,
    runtime: Handle,
    accepting: Arc<Mutex<Option<Task<()>>>>,
    got: Arc<Mutex<Got>>,
}

#[derive(Default)]
struct Got {
    exports: u64,
    spans: u64,
    outages: u64,
}

impl Collector {
    pub(crate) fn start(runtime: &Handle) -> Self {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)));
        let addr = listener.local_addr().expect("a bound socket");
        let this = Self { addr, runtime: runtime.clone(), accepting: Arc::default(), got: Arc::default() };
        this.up(listener);
        this
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Twice, each time for a fifth of these requests, it is not there.
    pub(crate) fn outages(&self, load: &Arc<Load>, requests: Range<u64>) -> JoinHandle<()> {
        let this = Self { got: Arc::clone(&self.got), accepting: Arc::clone(&self.accepting), ..self.also() };
        let load = Arc::clone(load);
        thread::spawn(move || {
            let fifth = (requests.end - requests.start) / 5;
            for end in 1..5 {
                while load.begun() < requests.start + fifth * end {
                    thread::sleep(Duration::from_millis(1));
                }
                if end % 2 == 1 { this.down() } else { this.up(listen(this.addr)) }
            }
        })
    }

    fn also(&self) -> Self {
        Self { addr: self.addr, runtime: self.runtime.clone(), accepting: Arc::default(), got: Arc::default() }
    }

    fn up(&self, listener: std::net::TcpListener) {
        let got = Arc::clone(&self.got);
        let accepting = self.runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("inside a runtime");
            let mut connections = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let got = Arc::clone(&got);
                let service = service_fn(move |request| answer(request, Arc::clone(&got)));
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
            }
        });
        *self.accepting.lock().expect("no panic") = Some(accepting);
    }

    /// Its port refuses from now on, and what was open breaks.
    fn down(&self) {
        let accepting = self.accepting.lock().expect("no panic").take().expect("it is up");
        accepting.abort();
        let _ = self.runtime.block_on(accepting);
        self.got.lock().expect("no panic").outages += 1;
    }

    /// What is exported has arrived, and what has arrived was made.
    pub(crate) fn faults(&self, exported: u64, made: u64) -> Vec<String> {
        let got = self.got.lock().expect("no panic");
        let arrived = got.spans;
        // An export whose answer an outage takes away comes again, or counts as dropped.
        let twice = got.outages * 512;
        let mut faults = Vec::new();
        if got.outages != 2 {
            faults.push(format!("{} outages", got.outages));
        }
        if exported == 0 || exported > arrived || arrived > made + twice {
            faults.push(format!("{exported} spans count as exported, {arrived} have arrived, {made} were made"));
        }
        faults
    }
}

fn listen(addr: SocketAddr) -> std::net::TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    // Connections of its last life may not be gone yet.
    socket.set_reuse_address(true).expect("a socket of our own");
    socket.bind(&addr.into()).expect("a free port");
    socket.listen(128).expect("a bound socket");
    socket.set_nonblocking(true).expect("a socket of our own");
    socket.into()
}

async fn answer(request: Request<Incoming>, got: Arc<Mutex<Got>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let traces = request.uri().path().ends_with("/traces");
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    if traces && let Ok(export) = ExportTraceServiceRequest::decode(body) {
        let mut got = got.lock().expect("no panic");
        let scopes = export.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
        got.spans += scopes.map(|scope| scope.spans.len() as u64).sum::<u64>();
        got.exports += 1;
    }
    let mut response = Response::new(Full::default());
    let protobuf = http::HeaderValue::from_static("application/x-protobuf");
    response.headers_mut().insert(http::header::CONTENT_TYPE, protobuf);
    Ok(response)
}

impl fmt::Display for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = self.got.lock().expect("no panic");
        let Got { exports, spans, outages } = &*got;
        write!(f, "the collector got {exports} exports with {spans} spans, and was away {outages} times")
    }
}
