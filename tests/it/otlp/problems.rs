//! What is said when exports fail: one line per kind, with the endpoint and the likely fix, and the count of what was lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use httptrace::otlp::{Builder, Protocol, Shutdown};
use opentelemetry::trace::{Span, Tracer, TracerProvider};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;

use super::{builder, emit, end};
use crate::support::{
    certificate::Identity,
    collector::{Answer, Collector},
    origin::{Origin, Refusing},
    script::{Step, write},
};

const GRPC: Protocol = Protocol::Grpc;
const HTTP: Protocol = Protocol::HttpProtobuf;

/// Three spans and a metric that go there: what is told at the end.
async fn told(endpoint: &str, protocol: Protocol) -> Shutdown {
    lost(builder(endpoint.to_owned(), protocol)).await
}

async fn lost(builder: Builder) -> Shutdown {
    let guard = Arc::new(builder.init().expect("telemetry"));
    emit(&guard, 3);
    tokio::task::spawn_blocking(move || end(Arc::into_inner(guard).expect("ours alone")).0).await.expect("an end")
}

/// One line for both signals, with all of these words in it, and nothing delivered.
fn assert_told(ended: &Shutdown, endpoint: &str, words: &[&str]) {
    let [line] = &*ended.problems else { panic!("one line for {words:?}: {:?}", ended.problems) };
    let host = endpoint.rsplit(['/', '@']).next().expect("a host");
    for word in words.iter().chain([&host]) {
        assert!(line.contains(word), "`{word}` in: {line}");
    }
    assert_eq!((ended.exported_spans, ended.dropped_spans, ended.metrics_delivered), (0, 3, false), "{line}");
    assert!(ended.to_string().contains(line.as_str()), "{ended}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_with_the_endpoint_and_without_its_credentials() {
    for protocol in [GRPC, HTTP] {
        let down = Refusing::new();
        let endpoint = format!("http://user:secret@{}", down.addr());
        let ended = told(&endpoint, protocol).await;
        assert_told(&ended, &endpoint, &["connection refused", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
        assert!(!ended.to_string().contains("secret"), "{ended}");
        let ended = told("http://collector.invalid:4318", protocol).await;
        assert_told(&ended, "collector.invalid:4318", &["check the host"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_protocols_port_is_told_with_the_protocol_it_speaks() {
    // As Go's server does, and so most collectors. hyper's says nothing, so that less can be said.
    let unsupported = "HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\n\r\n";
    let http = Origin::plain().script([Step::Read(24), write(unsupported)]);
    let endpoint = format!("http://{}", http.addr());
    let words = ["speaks http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "4317"];
    assert_told(&told(&endpoint, GRPC).await, &endpoint, &words);
    let (grpc, http) = (Collector::grpc(), Collector::http());
    let ended = told(&http.endpoint(), GRPC).await;
    assert_told(&ended, &http.endpoint(), &["speak gRPC?", "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf 4318"]);
    let ended = told(&grpc.endpoint(), HTTP).await;
    assert_told(&ended, &grpc.endpoint(), &["speaks gRPC", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_to_a_plain_port_and_the_reverse_are_told_apart() {
    for (protocol, plain) in [(GRPC, Collector::grpc()), (HTTP, Collector::http())] {
        let endpoint = plain.endpoint().replace("http://", "https://");
        assert_told(&told(&endpoint, protocol).await, &endpoint, &["does not speak TLS", "use http://"]);
    }
    for (protocol, tls) in
        [(GRPC, Collector::grpc_tls(Identity::new(&["h2"]))), (HTTP, Collector::http_tls(Identity::new(&[])))]
    {
        let endpoint = tls.endpoint().replace("https://", "http://");
        assert_told(&told(&endpoint, protocol).await, &endpoint, &["wants TLS", "use https://"]);
        let untrusted = told(&tls.endpoint(), protocol).await;
        assert_told(&untrusted, &tls.endpoint(), &["not trusted", "OTEL_EXPORTER_OTLP_CERTIFICATE"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_port_that_answers_plain_http_with_a_hint_is_understood() {
    let hint = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let origin = Origin::plain().script([Step::ReadHead, write(hint)]);
    let endpoint = format!("http://{}", origin.addr());
    assert_told(&told(&endpoint, HTTP).await, &endpoint, &["wants TLS", "use https://"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_path_is_told() {
    let collector = Collector::http();
    let ended = told(&format!("{}/base", collector.endpoint()), HTTP).await;
    assert_told(&ended, &collector.endpoint(), &["404", "wrong path", "/base/v1/", "used as it is"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_says_is_told_with_what_to_do() {
    let cases: [(Protocol, u16, &[&str]); 15] = [
        (HTTP, 401, &["HTTP status 401", "OTEL_EXPORTER_OTLP_HEADERS"]),
        (HTTP, 403, &["HTTP status 403", "OTEL_EXPORTER_OTLP_HEADERS"]),
        (HTTP, 405, &["HTTP status 405", "wrong path"]),
        (HTTP, 413, &["HTTP status 413", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"]),
        (HTTP, 415, &["HTTP status 415", "protobuf"]),
        (HTTP, 429, &["HTTP status 429", "overloaded"]),
        (HTTP, 503, &["HTTP status 503", "overloaded"]),
        (HTTP, 308, &["HTTP status 308", "does not speak OTLP"]),
        (HTTP, 500, &["HTTP status 500", "log"]),
        (GRPC, 16, &["UNAUTHENTICATED", "OTEL_EXPORTER_OTLP_HEADERS"]),
        (GRPC, 7, &["PERMISSION_DENIED", "OTEL_EXPORTER_OTLP_HEADERS"]),
        (GRPC, 12, &["UNIMPLEMENTED", "no such OTLP service"]),
        (GRPC, 14, &["UNAVAILABLE", "overloaded"]),
        (GRPC, 8, &["RESOURCE_EXHAUSTED", "overloaded"]),
        (GRPC, 3, &["gRPC status 3", "log"]),
    ];
    for (protocol, status, words) in cases {
        let collector = super::collector(protocol);
        collector.answer(Answer::Status(status));
        assert_told(&told(&collector.endpoint(), protocol).await, &collector.endpoint(), words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_by_something_else_is_told() {
    let ssh = Origin::plain().script([write("SSH-2.0-OpenSSH_9.6\r\n"), Step::AwaitClose]);
    let web = || {
        async |_: Request<_>| {
            let page = Response::builder().header("content-type", "text/html; charset=utf-8");
            page.body(Full::new(Bytes::from("<h1>Hello</h1>"))).expect("a page")
        }
    };
    let (web1, web2) = (Origin::plain().serve(web()), Origin::plain().http2().serve(web()));
    for (origin, protocol) in [(&ssh, HTTP), (&ssh, GRPC), (&web1, HTTP), (&web2, GRPC)] {
        let endpoint = format!("http://{}", origin.addr());
        assert_told(&told(&endpoint, protocol).await, &endpoint, &["does not speak OTLP", "is the port right?"]);
    }
    let closing = Origin::plain().script([Step::Read(1), Step::Reset]);
    for protocol in [HTTP, GRPC] {
        let endpoint = format!("http://{}", closing.addr());
        assert_told(&told(&endpoint, protocol).await, &endpoint, &["OTEL_EXPORTER_OTLP_PROTOCOL", "https://"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_told_with_the_time_that_was_given() {
    for protocol in [GRPC, HTTP] {
        let collector = super::collector(protocol);
        collector.answer(Answer::Hang);
        let ended = lost(builder(collector.endpoint(), protocol).timeout(Duration::from_millis(300))).await;
        assert_told(&ended, &collector.endpoint(), &["no answer within 300ms", "OTEL_EXPORTER_OTLP_TIMEOUT"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_that_a_collector_refuses_out_of_a_batch_are_counted() {
    for protocol in [GRPC, HTTP] {
        let collector = super::collector(protocol);
        collector.answer(Answer::AllBut(2));
        let ended = told(&collector.endpoint(), protocol).await;
        assert_eq!((ended.exported_spans, ended.dropped_spans, ended.problems.len()), (1, 2, 1), "{ended}");
        assert!(ended.problems[0].contains("2 items refused (too old)"), "{ended}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_stops_complaining_is_quoted_in_short() {
    let exports = AtomicUsize::new(0);
    let collector = Origin::plain().serve(move |_: Request<hyper::body::Incoming>| {
        // Every other export is taken, so that the next complaint is a new one.
        let number = exports.fetch_add(1, Ordering::Relaxed);
        let error_message = format!("{number}\n{}", "long ".repeat(10_000));
        let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message };
        let answer = ExportTraceServiceResponse { partial_success: Some(partial).filter(|_| number.is_multiple_of(2)) };
        let response = Response::builder().header("content-type", "application/x-protobuf");
        std::future::ready(response.body(Full::new(Bytes::from(answer.encode_to_vec()))).expect("an answer"))
    });
    let guard = builder(format!("http://{}", collector.addr()), HTTP).metrics(false).init().expect("telemetry");
    let ended = tokio::task::spawn_blocking(move || {
        for _ in 0..150 {
            guard.tracer_provider().tracer("tests").start("work").end();
            guard.tracer_provider().force_flush().expect("a flush");
        }
        end(guard).0
    });
    let ended = ended.await.expect("an end");
    assert_eq!((ended.exported_spans, ended.dropped_spans, ended.problems.len()), (75, 75, 64));
    for line in &ended.problems {
        assert!(line.len() < 500 && line.contains('…') && !line.contains('\n'), "{line}");
    }
}
