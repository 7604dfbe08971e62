//! Whole trees as Jaeger's API gives them.

use httptrace::{
    Client,
    otlp::{self, Protocol},
};

use crate::{
    jaeger::Jaeger,
    prometheus::Prometheus,
    support::{client::read, origin::Origin},
};
use http::{Request, Response};
use http_body_util::Full;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs jaeger: .ci/run full"]
async fn a_first_look() {
    let jaeger = Jaeger::start().await;
    let guard = otlp::builder()
        .endpoint(jaeger.otlp(Protocol::Grpc))
        .protocol(Protocol::Grpc)
        .service_name("look")
        .set_globals(false)
        .init()
        .expect("telemetry");
    let origin = Origin::tls().serve(async |_: Request<_>| Response::new(Full::new(bytes::Bytes::from("hello"))));
    let client = Client::builder()
        .root_certificates(vec![origin.root_certificate()])
        .tracer_provider(guard.tracer_provider())
        .meter_provider(guard.meter_provider())
        .build()
        .unwrap();
    for _ in 0..2 {
        read(client.get(origin.url_at("localhost", "/")).await.unwrap()).await.unwrap();
    }
    client.shutdown(crate::support::PATIENCE).await;
    let done = tokio::task::spawn_blocking(move || guard.shutdown()).await.unwrap();
    assert!(done.is_complete(), "{done}");
    let traces = jaeger.traces_with("look", done.exported_spans as usize).await;
    for t in &traces {
        println!("{t}\n{t:#?}");
    }
    let prometheus = Prometheus::start(&jaeger).await;
    println!("{:#?}", prometheus.until("{__name__=~\"httptrace_connection_.*\"}", |s| !s.is_empty()).await);
    println!("{:#?}", jaeger.services().await);
}
