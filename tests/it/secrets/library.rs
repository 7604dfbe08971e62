//! An application that says all it can: every hook's and every type's `Debug`, its logs at TRACE (those of the
//! libraries below as well), and its telemetry.

use std::{process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Request, Response, Uri};
use http_body_util::{BodyExt, Full, StreamBody};
use httptrace::{
    BoxError, Client, ClientBuilder, Error,
    dial::{Proxy, Resolve, ResolveError, Resolving},
    otlp::{self, Protocol},
    timeline::TimelineHandle,
    views::waterfall::{Style, Waterfall},
};
use hyper::body::Frame;
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use tracing_subscriber::{Layer, filter::LevelFilter, layer::SubscriberExt, util::SubscriberInitExt};

use super::{ANSWER, FIELDS, QUERY, USERINFO, WORD, assert_says_nothing};
use crate::{
    connector::Pipes,
    every::every_hook,
    support::{
        PATIENCE,
        collector::Collector,
        frames::{GOAWAY, HEADERS, PREFACE, RST_STREAM, frame, goaway, greeting, head},
        origin::{Origin, OriginBuilder, Refusing},
        script::{
            Step::{self, AwaitClose, Close, ReadHead, Reset, Stall},
            write,
        },
        within,
    },
};

/// Set in the process that does the talking.
const TALKS: &str = "SECRETS_ARE_PLANTED";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_an_application_says_is_secret() {
    if std::env::var_os(TALKS).is_some() {
        return talk().await;
    }
    let name = "secrets::library::nothing_that_an_application_says_is_secret";
    let mut talks = tokio::process::Command::new(std::env::current_exe().expect("this test"));
    talks.args([name, "--exact", "--nocapture"]).env(TALKS, "1").env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    // Where telemetry goes is said in code; what else it is told here is secret, and wrong.
    talks.env("OTEL_EXPORTER_OTLP_HEADERS", "x-env=geheim,geheim,a b=geheim").env("OTEL_BSP_SCHEDULE_DELAY", "60000");
    talks.env("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/geheim").env("OTEL_RESOURCE_ATTRIBUTES", "a=b");
    // Nobody asks the library for a log of keys.
    let keys = std::env::temp_dir().join(format!("httptrace-keys-{}", std::process::id()));
    talks.env("SSLKEYLOGFILE", &keys);
    let output = within("the application", talks.output()).await.expect("it runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(!keys.exists(), "{} holds the secrets of TLS", keys.display());
    assert_says_nothing("stdout", &stdout);
    assert_says_nothing("stderr", &stderr);
    // All of it was said.
    for part in [
        "http://REDACTED:REDACTED@127.0.0.1",
        "sig=REDACTED&%73ig=REDACTED",
        "token=REDACTED",
        "\"link\": \"<http://REDACTED:REDACTED@a.test/?%73ig=REDACTED>; rel=next\"",
        "hook wrote_header_field: WroteHeaderFieldInfo",
        "hook got_1xx_response: Got1xxResponseInfo",
        "hook retry: RetryInfo",
        "hook dns_done: DnsDoneInfo",
        "hook tunnel_done: TunnelDoneInfo",
        "hook tls_handshake_done: TlsHandshakeDoneInfo",
        "credentials: Some(REDACTED)",
        "through http://127.0.0.1",
        "collected span GET",
        "collected metric http.client.request.duration",
        "WARN httptrace::otlp",
        "items refused (it repeats a credential",
        "the client's identity",
    ] {
        assert!(stdout.contains(part), "`{part}` in:\n{stdout}");
    }
    for error_type in [
        "host_not_found",
        "connection_refused",
        "connect_failed",
        "certificate_untrusted",
        "connection_closed",
        "connection_reset",
        "malformed_response",
        "body_incomplete",
        "head_too_large",
        "timeout",
        "canceled",
        "request_body_failed",
        "invalid_request",
        "proxy_auth_required",
        "proxy_refused",
        "proxy_protocol_error",
        "http2_goaway",
        "http2_stream_reset",
    ] {
        assert!(stdout.contains(&format!("failed as {error_type}\n")), "{error_type} in:\n{stdout}");
    }
}

/// As `println!`, which formats under the lock of stdout: a `Debug` that takes a lock would wait there for somebody who logs
/// under it.
macro_rules! say {
    ($($text:tt)+) => {{
        let text = format!($($text)+);
        println!("{text}");
    }};
}

/// Says all that happens to a client.
struct Talker;

every_hook! { for Talker, |_, hook, info| say!("hook {hook}: {info:?} {info:#?}") }

/// Finds a name for what it is, and says why it can't find others.
struct Names;

impl Resolve for Names {
    fn resolve(&self, host: &str) -> Resolving {
        let found = host == "origin.test";
        Box::pin(async move {
            match found {
                true => Ok(vec![[127, 0, 0, 1].into()]),
                false => Err(ResolveError::host_not_found().because(format!("the name server wants {WORD}"))),
            }
        })
    }
}

fn client(builder: ClientBuilder) -> Client {
    let builder = builder
        .resolver(Arc::new(Names))
        .client_trace(Arc::new(Talker))
        .timeline(true)
        .sensitive_query_keys(["token"])
        .capture_request_headers(
            FIELDS.map(|(name, _)| name).into_iter().chain(["x-from"]).map(HeaderName::from_static),
        )
        .capture_response_headers(ANSWER.lines().filter_map(|line| line.split_once(':')?.0.parse::<HeaderName>().ok()))
        .propagate_to(["127.0.0.1", "origin.test"])
        .on_timeline(|timeline| {
            let chart = Waterfall::from_timeline(timeline);
            say!("{timeline:?} {timeline:#?} {chart:?} {}", chart.render(&Style::plain(200)));
        });
    say!("{builder:?} {builder:#?}");
    let client = builder.build().expect("settings that fit");
    say!("{client:?} {client:#?}");
    client
}

/// A request with a secret at every place that has room for one.
fn request<B>(uri: &Uri, body: B) -> Request<B> {
    let authority = uri.authority().expect("an absolute URL");
    let scheme = uri.scheme_str().unwrap_or("http");
    let url = format!("{scheme}://{USERINFO}@{authority}/path?{QUERY}&token={WORD}&%74oken={WORD}");
    let fields = FIELDS.into_iter().filter(|(name, _)| *name != "authorization");
    // A key that this client alone knows to be secret.
    let start = Request::get(url).header("x-from", format!("/?token={WORD}"));
    let request = fields.fold(start, |request, (name, value)| request.header(name, value));
    request.body(body).expect("a request")
}

fn full(uri: &Uri) -> Request<Full<Bytes>> {
    request(uri, Full::from(WORD))
}

/// Sends it and says what became of it. `chain`: the causes are those of libraries, and not the application's own.
async fn sent<B>(client: &Client, request: Request<B>, chain: bool)
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let future = client.request(request);
    say!("{future:?} {future:#?}");
    let result = async {
        let response = future.await?;
        if let Some(record) = response.extensions().get::<TimelineHandle>() {
            say!("{record:?}");
        }
        say!("{:?} {:#?}", response.body(), response.body());
        response.into_body().collect().await
    };
    match within("an end", result).await {
        Ok(_) => say!("an answer"),
        Err(error) => failed(&error, chain),
    }
}

fn failed(error: &Error, chain: bool) {
    say!("{error} {error:?} {error:#?}");
    let mut next = std::error::Error::source(error).filter(|_| chain);
    while let Some(cause) = next {
        say!("because {cause} {cause:?}");
        next = cause.source();
    }
    say!("failed as {}", error.error_type());
}

/// One request to a server with this script.
async fn scripted(origin: OriginBuilder, change: impl FnOnce(ClientBuilder) -> ClientBuilder, script: Vec<Step>) {
    let origin = origin.script(script);
    let client = client(change(origin.client_builder()));
    sent(&client, full(&origin.url("/")), true).await;
}

async fn talk() {
    let key = format!("-----BEGIN PRIVATE KEY-----\n{WORD}{WORD}\n-----END PRIVATE KEY-----\n{WORD}");
    let collector = Collector::http();
    let endpoint = collector.endpoint().replace("http://", &format!("http://{USERINFO}@"));
    let builder = || {
        let builder = otlp::builder().protocol(Protocol::HttpProtobuf).timeout(Duration::from_secs(5));
        builder.header("authorization", format!("Bearer {WORD}")).header("bad name", WORD)
    };
    let told = builder().endpoint(&endpoint);
    say!("{told:?} {told:#?}");
    let guard = told.init().expect("telemetry");
    say!("{guard:?} {guard:#?} {:?}", guard.warnings());
    say!("{:?} {:?}", guard.tracer_provider(), guard.meter_provider());
    // With the runtime every task of it is over, before there is a log.
    let words = || tokio::runtime::Runtime::new().expect("a runtime").block_on(a_peers_words());
    tokio::task::spawn_blocking(words).await.expect("no panic");
    let log = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stdout);
    let log = log.with_filter(LevelFilter::TRACE);
    tracing_subscriber::registry().with(log).init();
    let identity = builder().client_identity(key.clone(), key);
    say!("{identity:?} {identity:#?}");
    let refused = identity.init().expect_err("no key");
    say!("{refused} {refused:?} {:?}", std::error::Error::source(&refused));

    answers().await;
    failures().await;
    failures_of_its_own().await;
    let ended = tokio::task::spawn_blocking(move || guard.shutdown()).await.expect("an end");
    say!("{ended} {ended:?}");
    assert!(ended.is_complete(), "{ended}");
    received(&collector);
    echoing(builder).await;
}

/// Answered by HTTP/1 and HTTP/2, with and without TLS; and by a server that closes what is idle, so that it is tried again.
async fn answers() {
    let hello = async |request: Request<hyper::body::Incoming>| {
        let seen = format!("{:?}", request.headers());
        assert!(seen.contains(WORD) && seen.contains("Z2VoZWltLXVzZXI6Z2VoZWltLXBhc3M="), "secrets are sent: {seen}");
        let fields = ANSWER.lines().map(|line| line.split_once(": ").expect("a field"));
        let response =
            fields.fold(Response::builder().status(302), |response, (name, value)| response.header(name, value));
        response.body(Full::new(Bytes::from(WORD))).expect("a response")
    };
    for origin in [Origin::plain(), Origin::tls(), Origin::tls_with_alpn(&["http/1.1"])] {
        let origin = origin.serve(hello);
        let client = client(origin.client_builder());
        let uri = if origin.is_tls() { origin.url_at("origin.test", "/") } else { origin.url("/") };
        for _ in 0..2 {
            sent(&client, full(&uri), true).await;
        }
        client.shutdown(PATIENCE).await;
    }
    let interim = format!(
        "HTTP/1.1 103 Early Hints\r\n{ANSWER}\r\nHTTP/1.1 200 {WORD}\r\n{ANSWER}content-length: 6\r\n\r\n{WORD}"
    );
    let stale = vec![ReadHead, Step::Read(6), write(interim.clone()), ReadHead, Close];
    let origin = Origin::plain().scripts([stale, vec![ReadHead, Step::Read(6), write(interim), AwaitClose]]);
    let client = client(origin.client_builder());
    for _ in 0..2 {
        sent(&client, full(&origin.url("/")), true).await;
    }
    client.shutdown(PATIENCE).await;
}

/// A failure in each phase, by a server that says what it was told.
async fn failures() {
    let same = |builder: ClientBuilder| builder;
    let h1 = |end: Vec<Step>| [vec![ReadHead, Step::Read(6)], end].concat();
    scripted(Origin::plain(), same, h1(vec![Close])).await;
    scripted(Origin::plain(), same, h1(vec![Reset])).await;
    scripted(Origin::plain(), same, h1(vec![write(format!("{WORD} {WORD}\r\n{ANSWER}\r\n")), AwaitClose])).await;
    scripted(
        Origin::plain(),
        same,
        h1(vec![write(format!("HTTP/1.1 200 OK\r\n{ANSWER}a b: {WORD}\r\n\r\n")), AwaitClose]),
    )
    .await;
    let half = format!("HTTP/1.1 200 {WORD}\r\n{ANSWER}content-length: 99\r\n\r\n{WORD}");
    scripted(Origin::plain(), same, h1(vec![write(half), Close])).await;
    let endless = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", WORD.repeat(5_000));
    scripted(Origin::plain(), |builder| builder.max_head_bytes(9_000), h1(vec![write(endless), AwaitClose])).await;
    let hasty = |builder: ClientBuilder| builder.response_header_timeout(Duration::from_millis(50));
    scripted(Origin::plain(), hasty, h1(vec![Stall])).await;
    let h2 = |end: Vec<u8>| vec![Step::Read(PREFACE), greeting(), Step::ReadFrame(HEADERS, 1), write(end), AwaitClose];
    let knows = |builder: ClientBuilder| builder.http2_prior_knowledge();
    scripted(Origin::plain(), knows, h2(frame(RST_STREAM, 0, 1, &2_u32.to_be_bytes()))).await;
    let leaving = [head(1, 200, &[("set-cookie", WORD)], false), goaway(0, 2)].concat();
    scripted(Origin::plain(), knows, h2(leaving)).await;

    through_proxies().await;
    let refusing = Refusing::new();
    let uri: Uri = format!("http://{}/", refusing.addr()).parse().expect("a URL");
    sent(&client(Client::builder()), full(&uri), true).await;
    let untrusted = Origin::tls().script([Stall]);
    sent(&client(Origin::tls().script([Stall]).client_builder()), full(&untrusted.url_at("origin.test", "/")), true)
        .await;
    // Not http, no host, and a field that HTTP/2 forbids: refused before anything is sent.
    for uri in
        [format!("ftp://{USERINFO}@a.test/?{QUERY}"), format!("http://{USERINFO}@:80/?{QUERY}"), format!("/?{QUERY}")]
    {
        let Ok(uri) = uri.parse::<Uri>() else { continue };
        let mut request = Request::new(Full::from(WORD));
        *request.uri_mut() = uri;
        sent(&client(Client::builder()), request, true).await;
    }
    let silent = Origin::plain().script([ReadHead, Stall]);
    let client = client(Client::builder());
    let given_up = client.request(full(&silent.url("/")));
    assert!(tokio::time::timeout(Duration::from_millis(50), given_up).await.is_err(), "no answer");
    say!("failed as canceled");
}

/// A proxy with credentials, which repeats them, in each way that one fails.
async fn through_proxies() {
    let at = |scheme: &str, origin: &Origin| {
        let host = if origin.is_tls() { "origin.test" } else { "127.0.0.1" };
        let proxy = Proxy::all(&format!("{scheme}://{USERINFO}@{host}:{}/{WORD}?{QUERY}", origin.addr().port()));
        let proxy = proxy.expect("a URL").no_proxy("a.test");
        let proxy = if origin.is_tls() { proxy.root_certificates(vec![origin.root_certificate()]) } else { proxy };
        say!("{proxy:?} {proxy:#?} {}", proxy.url());
        proxy
    };
    let answer = |status: &str| write(format!("HTTP/1.1 {status} {WORD}\r\n{ANSWER}content-length: 6\r\n\r\n{WORD}"));
    let user = 3 + "geheim-user".len() + "geheim-pass".len();
    let scripts = [
        ("http", vec![ReadHead, answer("407"), AwaitClose]),
        ("http", vec![ReadHead, answer("403"), AwaitClose]),
        ("http", vec![ReadHead, write(format!("{WORD}\r\n{ANSWER}\r\n")), AwaitClose]),
        ("http", vec![ReadHead, write(format!("HTTP/1.1 200 {WORD}\r\n{ANSWER}\r\n{WORD}")), AwaitClose]),
        ("socks5h", vec![Step::Read(4), write(vec![5, 2]), Step::Read(user), write(vec![1, 1]), Close]),
        ("socks5h", vec![Step::Read(4), write(WORD), AwaitClose]),
    ];
    let target = Uri::from_static("https://127.0.0.1/");
    for (scheme, script) in scripts {
        let proxy = Origin::plain().script(script);
        let client = client(Client::builder().proxy(at(scheme, &proxy)));
        sent(&client, full(&target), true).await;
    }
    let proxy = Origin::tls_with_alpn(&["http/1.1"]).script([ReadHead, answer("407"), AwaitClose]);
    sent(&client(Client::builder().proxy(at("https", &proxy))), full(&target), true).await;
    let proxy = Origin::plain().script([ReadHead, Step::Read(6), answer("200"), AwaitClose]);
    let uri = Uri::from_static("http://127.0.0.1/");
    let mut request = full(&uri);
    request.headers_mut().remove("proxy-authorization");
    sent(&client(Client::builder().proxy(at("http", &proxy))), request, true).await;
    let told = String::from_utf8(proxy.record().connections[0].received.clone()).expect("text");
    assert!(told.contains("proxy-authorization: Basic Z2VoZWltLXVzZXI6Z2VoZWltLXBhc3M="), "{told}");
    for url in [
        format!("socks4://{USERINFO}@a.test"),
        format!("http://{USERINFO}@a.test:{WORD}"),
        format!("http://{USERINFO}@"),
    ] {
        failed(&Proxy::all(&url).expect_err("no proxy's URL"), true);
    }
}

/// Whose cause is the application's own error, which says what it likes to who asks for it.
async fn failures_of_its_own() {
    let silent = Origin::plain().script([ReadHead, Stall]);
    let parts = [Ok(Frame::data(Bytes::from(WORD))), Err(BoxError::from(WORD))];
    let body = StreamBody::new(tokio_stream::iter(parts));
    sent(&client(Client::builder()), request(&silent.url("/"), body), false).await;
    let nowhere: Uri = "http://nowhere.test/".parse().expect("a URL");
    sent(&client(Client::builder()), full(&nowhere), false).await;
    let broken = Pipes::numbered(|_| async { Err::<tokio::io::DuplexStream, _>(BoxError::from(WORD)) });
    sent(&client(Client::builder().connector(broken)), full(&nowhere), false).await;
    let panics = Pipes::numbered(|_| async { std::panic::resume_unwind(Box::new(WORD)) });
    sent(&client(Client::builder().connector(panics)), full(&nowhere), false).await;
}

/// A peer's own words are a cause, and are not shown. (h2 tells of them in its own log.)
async fn a_peers_words() {
    let leaving = [&[0_u8; 4][..], &2_u32.to_be_bytes(), WORD.as_bytes()].concat();
    let origin = Origin::plain().script([
        Step::Read(PREFACE),
        greeting(),
        Step::ReadFrame(HEADERS, 1),
        write([head(1, 200, &[], false), frame(GOAWAY, 0, 0, &leaving)].concat()),
        AwaitClose,
    ]);
    sent(&client(origin.client_builder().http2_prior_knowledge()), full(&origin.url("/")), false).await;
}

/// All that the collector got, each field of it.
fn received(collector: &Collector) {
    let received = collector.received();
    for span in received.spans.iter().flat_map(|spans| &spans.scope_spans).flat_map(|spans| &spans.spans) {
        say!("collected span {} {span:?}", span.name);
    }
    for metric in
        received.metrics.iter().flat_map(|metrics| &metrics.scope_metrics).flat_map(|metrics| &metrics.metrics)
    {
        say!("collected metric {} {metric:?}", metric.name);
    }
    say!("{received:?}");
    let sent = format!("{:?}", collector.requests());
    assert!(sent.contains(&format!("Bearer {WORD}")), "the credentials are sent: {sent}");
}

/// A collector that repeats the credentials it was sent, in each way that it has to say something.
async fn echoing(builder: impl Fn() -> otlp::Builder) {
    for text in [true, false] {
        let collector = Origin::plain().serve(move |request: Request<hyper::body::Incoming>| {
            let repeated = request.headers()["authorization"].to_str().expect("text").to_owned();
            let partial =
                ExportTracePartialSuccess { rejected_spans: 1, error_message: format!("not with {repeated}") };
            let answer = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
            let kind =
                if text { format!("text/{}", repeated.replace(' ', "-")) } else { "application/x-protobuf".to_owned() };
            let response = Response::builder().header("content-type", kind).body(Full::new(Bytes::from(answer)));
            std::future::ready(response.expect("an answer"))
        });
        let endpoint = format!("http://{USERINFO}@{}", collector.addr());
        let guard = builder().endpoint(endpoint).set_globals(false).metrics(false).init().expect("telemetry");
        guard.tracer_provider().tracer("application").start("work").end();
        let ended = tokio::task::spawn_blocking(move || guard.shutdown()).await.expect("an end");
        say!("{ended} {ended:?}");
        assert_eq!(ended.problems.len(), 1, "{ended}");
    }
}
