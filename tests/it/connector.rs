//! A client whose byte streams come from a connector of its user's: `tokio::io::duplex`, with a hyper server behind it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, header::CONNECTION};
use httptrace::{BoxError, Client};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    spans::scene::{Scene, hello},
    support::{
        certificate::Identity,
        client::{Traced, read},
        gate::Gate,
        origin::Io,
        spans::ExpectedSpan,
        timeline::ExpectedTimeline,
        within,
    },
};

type Connecting = Pin<Box<dyn Future<Output = Result<TokioIo<DuplexStream>, BoxError>> + Send>>;

/// Connects as its function says, and counts the calls.
#[derive(Clone)]
pub(crate) struct Pipes {
    connect: Arc<dyn Fn(Uri) -> Connecting + Send + Sync>,
    calls: Arc<AtomicUsize>,
}

impl Pipes {
    pub(crate) fn new<Fut>(connect: impl Fn(Uri) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Result<DuplexStream, BoxError>> + Send + 'static,
    {
        let connect = move |uri| {
            let connecting = connect(uri);
            Box::pin(async move { connecting.await.map(TokioIo::new) }) as Connecting
        };
        Self { connect: Arc::new(connect), calls: Arc::default() }
    }

    /// As the function says for each dial, by its number from 0.
    pub(crate) fn numbered<Fut>(connect: impl Fn(usize) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = Result<DuplexStream, BoxError>> + Send + 'static,
    {
        let dials = AtomicUsize::new(0);
        Self::new(move |_| connect(dials.fetch_add(1, Ordering::Relaxed)))
    }

    /// To a server that says hello.
    fn to_server(identity: Option<Identity>, http2: bool) -> Self {
        let config = identity.map(|identity| identity.config);
        Self::new(move |_| {
            let (client, server) = tokio::io::duplex(4096);
            let config = config.clone();
            tokio::spawn(async move {
                let io: Box<dyn Io> = match config {
                    None => Box::new(server),
                    Some(config) => Box::new(TlsAcceptor::from(config).accept(server).await.expect("a handshake")),
                };
                let (io, service) =
                    (TokioIo::new(io), service_fn(|request| async { Ok::<_, io::Error>(hello(request).await) }));
                if http2 {
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
                } else {
                    hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
                }
            });
            async { Ok(client) }
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl tower_service::Service<Uri> for Pipes {
    type Response = TokioIo<DuplexStream>;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        self.calls.fetch_add(1, Ordering::Relaxed);
        (self.connect)(uri)
    }
}

fn uri(text: &'static str) -> Uri {
    Uri::from_static(text)
}

#[tokio::test]
async fn requests_run_over_the_connectors_stream_and_reuse_it() {
    let pipes = Pipes::to_server(None, false);
    let traced = Traced::new(Client::builder().connector(pipes.clone()));
    for _ in 0..3 {
        assert_eq!(traced.read(uri("http://no.such.name/")).await.expect("an answer"), "hello");
        traced.log.settled().await;
    }
    assert_eq!(pipes.calls(), 1);
    let timelines = traced.timelines(3).await;
    let cold = ExpectedTimeline::new()
        .phases(["get-connection", "connect", "request-write", "response-wait", "response-read"])
        .outcome("new")
        .idle_return("pooled");
    cold.check(&timelines[0]);
    for reused in &timelines[1..] {
        let phases = ["request-write", "response-wait", "response-read"];
        ExpectedTimeline::new().phases(phases).outcome("idle").reused(true).idle_return("pooled").check(reused);
    }
    for timeline in &timelines {
        assert!(timeline.wrote_headers.is_some() && timeline.wrote_request.is_some() && timeline.first_byte.is_some());
        let connection = timeline.connection.as_ref().expect("a connection");
        assert_eq!((connection.info.local, connection.info.peer), (None, None));
    }
    traced.log.assert_paired_over(3);
}

#[tokio::test]
async fn https_is_tls_over_the_connectors_stream() {
    for http2 in [false, true] {
        let identity = Identity::new(if http2 { &["h2"] } else { &["http/1.1"] });
        let root = identity.root.clone();
        let pipes = Pipes::to_server(Some(identity), http2);
        let traced = Traced::new(Client::builder().connector(pipes).root_certificates(vec![root]));
        let response = within("an answer", traced.get(uri("https://origin.test/"))).await.expect("an answer");
        assert_eq!(response.version() == http::Version::HTTP_2, http2);
        assert_eq!(read(response).await.expect("a body"), "hello");
        let phases = ["get-connection", "connect", "tls", "request-write", "response-wait", "response-read"];
        ExpectedTimeline::new().phases(phases).outcome("new").check(&traced.timeline().await);
        traced.log.settled().await.assert_paired();
    }
}

#[tokio::test]
async fn http2_with_prior_knowledge_shares_one_stream() {
    let pipes = Pipes::to_server(None, true);
    let traced = Traced::new(Client::builder().connector(pipes.clone()).http2_prior_knowledge());
    let two = tokio::join!(traced.read(uri("http://origin.test/a")), traced.read(uri("http://origin.test/b")));
    assert!(two.0.is_ok() && two.1.is_ok(), "{two:?}");
    assert_eq!(pipes.calls(), 1);
    traced.log.settled().await.assert_paired_over(2);
}

#[tokio::test]
async fn a_connector_is_called_with_the_origin_alone() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let pipes = Pipes::new(move |uri| {
        told.lock().expect("no panic").push(uri.to_string());
        async { Err("no way".into()) }
    });
    let traced = Traced::new(Client::builder().connector(pipes));
    for text in ["http://user:secret@origin.test/path?query", "https://[::1]:8443/"] {
        let _ = traced.read(uri(text)).await.expect_err("there is no way");
    }
    assert_eq!(*seen.lock().expect("no panic"), ["http://origin.test:80/", "https://[::1]:8443/"]);
}

#[tokio::test]
async fn a_connectors_error_is_the_source_and_an_io_error_keeps_its_kind() {
    #[derive(Debug)]
    struct Wrapped(io::Error);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let failing = Pipes::new(|uri: Uri| async move {
        Err(match uri.host() {
            Some("refused.test") => Wrapped(io::ErrorKind::ConnectionRefused.into()).into(),
            _ => BoxError::from("no way"),
        })
    });
    for (url, error_type, source) in
        [("http://refused.test/", "connection_refused", "wrapped"), ("http://other.test/", "connect_failed", "no way")]
    {
        let traced = Traced::new(Client::builder().connector(failing.clone()));
        let error = traced.read(uri(url)).await.expect_err("it never connects");
        assert_eq!(error.error_type(), error_type);
        assert_eq!(std::error::Error::source(&error).expect("a cause").to_string(), source);
        let phases = ["get-connection", "connect"];
        ExpectedTimeline::new().phases(phases).error("connect", error_type).check(&traced.timeline().await);
        traced.log.settled().await.assert_paired();
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_connector_ends_with_the_connect_timeout() {
    let pipes = Pipes::new(|_| std::future::pending());
    let traced = Traced::new(Client::builder().connector(pipes).connect_timeout(Duration::from_secs(3)));
    let error = traced.client.get(uri("http://origin.test/")).await.expect_err("it never connects");
    assert!(error.is_timeout());
    let timeline = traced.timeline().await;
    ExpectedTimeline::new().phases(["get-connection", "connect"]).error("connect", "timeout").check(&timeline);
    assert_eq!(timeline.end.expect("an end") - timeline.start, Duration::from_secs(3));
    traced.log.assert_paired();
}

#[tokio::test]
async fn a_panic_of_a_connector_is_an_error_of_all_who_wait_for_it() {
    let pipes = Pipes::new(|_| async { panic!("out of pipes") });
    let builder = Client::builder().connector(pipes.clone()).http2_prior_knowledge();
    let traced = Traced::new(builder);
    let (one, two) = tokio::join!(traced.read(uri("http://origin.test/")), traced.read(uri("http://origin.test/")));
    for error in [one, two].map(|result| result.expect_err("it never connects")) {
        assert_eq!(error.error_type(), "connect_failed");
        let source = std::error::Error::source(&error).expect("a cause");
        assert_eq!(source.to_string(), "the connector panicked: out of pipes");
    }
    assert_eq!(pipes.calls(), 1);
    traced.log.settled().await.assert_paired_over(2);
}

/// Ready once its gate is open; a call before that is a mistake.
#[derive(Clone)]
struct Busy {
    gate: Gate,
    /// A clone starts unasked.
    pipes: Pipes,
    ready: Arc<AtomicBool>,
}

impl tower_service::Service<Uri> for Busy {
    type Response = TokioIo<DuplexStream>;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let (gate, waker) = (self.gate.clone(), cx.waker().clone());
        if self.ready.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        let ready = Arc::clone(&self.ready);
        tokio::spawn(async move {
            gate.wait().await;
            ready.store(true, Ordering::Relaxed);
            waker.wake();
        });
        Poll::Pending
    }

    fn call(&mut self, uri: Uri) -> Connecting {
        assert!(self.ready.load(Ordering::Relaxed), "called before it was ready");
        self.pipes.call(uri)
    }
}

#[tokio::test]
async fn a_connector_is_called_when_it_is_ready() {
    let (gate, pipes) = (Gate::default(), Pipes::to_server(None, false));
    let busy = Busy { gate: gate.clone(), pipes: pipes.clone(), ready: Arc::default() };
    let traced = Traced::new(Client::builder().connector(busy));
    let (body, ()) = tokio::join!(traced.read(uri("http://origin.test/")), async {
        gate.reached().await;
        assert_eq!(pipes.calls(), 0);
        gate.open();
    });
    assert_eq!(body.expect("an answer"), "hello");
    assert_eq!(pipes.calls(), 1);
}

#[tokio::test]
async fn a_stream_that_ended_while_idle_is_not_used_again() {
    let pipes = Pipes::new(|_| async {
        let (client, mut server) = tokio::io::duplex(4096);
        tokio::spawn(async move {
            let read = server.read(&mut [0; 4096]).await.expect("a request");
            assert!(read > 0);
            server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("a reader");
        });
        Ok(client)
    });
    let traced = Traced::new(Client::builder().connector(pipes.clone()));
    for _ in 0..3 {
        assert_eq!(traced.read(uri("http://origin.test/")).await.expect("an answer"), "ok");
        traced.log.settled().await;
    }
    assert_eq!((pipes.calls(), traced.log.count("retry")), (3, 0), "{}", traced.log);
    traced.log.assert_paired_over(3);
}

#[tokio::test]
async fn an_end_that_nobody_has_read_yet_is_seen_before_a_request_is_sent() {
    let (servers, mut accepted) = tokio::sync::mpsc::unbounded_channel();
    let pipes = Pipes::new(move |_| {
        let (client, server) = tokio::io::duplex(4096);
        servers.send(server).expect("the test is not over");
        async { Ok(client) }
    });
    let traced = Traced::new(Client::builder().connector(pipes));
    let answer = async |server: &mut DuplexStream| {
        let read = server.read(&mut [0; 4096]).await.expect("a request");
        assert!(read > 0);
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.expect("a reader");
    };
    for _ in 0..2 {
        let request = traced.read(uri("http://origin.test/"));
        let (body, server) = tokio::join!(request, async {
            let mut server = accepted.recv().await.expect("a connect");
            answer(&mut server).await;
            server
        });
        assert_eq!(body.expect("an answer"), "ok");
        traced.log.settled().await;
        // The next request comes before the connection's own task had a turn to notice.
        drop(server);
    }
    assert_eq!(traced.log.count("retry"), 0, "{}", traced.log);
    traced.log.assert_paired_over(2);
}

#[tokio::test]
async fn a_connectors_spans_name_no_address() {
    let scene = Scene::new(Client::builder().connector(Pipes::to_server(None, false)));
    scene.traced.read(uri("http://origin.test/")).await.expect("an answer");
    let spans = scene.spans(1, 6).await;
    for name in ["GET", "connect"] {
        let span = ExpectedSpan::new().without("network.peer.address").without("network.peer.port");
        span.without("network.type").without("network.transport").check(spans.only(name));
    }
    ExpectedSpan::new().with("httptrace.connect.attempt", 1).check(spans.only("connect"));
}

#[tokio::test]
async fn what_the_server_asks_of_a_connectors_stream_counts_as_on_tcp() {
    let pipes = Pipes::new(|_| async {
        let (client, server) = tokio::io::duplex(4096);
        let closing = service_fn(|request| async {
            let mut response = hello(request).await;
            response.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("close"));
            Ok::<_, io::Error>(response)
        });
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), closing));
        Ok(client)
    });
    let traced = Traced::new(Client::builder().connector(pipes));
    traced.read(uri("http://origin.test/")).await.expect("an answer");
    ExpectedTimeline::new().idle_return("closed connection_close").check(&traced.timeline().await);
    traced.log.wait_for("conn_closed", 1).await;
}
