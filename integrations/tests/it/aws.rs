//! The AWS SDK over the client, by `httptrace_integrations::smithy::Traced`: its S3, against one in memory.

use std::time::Duration;

use aws_sdk_s3::{
    Client as S3,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::SdkError,
    primitives::ByteStream,
};
use http::StatusCode;
use httptrace::Client;
use httptrace_integrations::smithy::Traced;
use opentelemetry::{context::FutureExt, trace::TraceContextExt};
use tokio::sync::watch;

use crate::{
    attempts,
    scene::Scene,
    store::Store,
    support::{
        origin::{Origin, Refusing},
        spans::ExpectedSpan,
        within,
    },
};

fn s3(transport: Traced, endpoint: String, retries: RetryConfig, timeouts: TimeoutConfig) -> S3 {
    let config = aws_sdk_s3::Config::builder()
        .http_client(transport)
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("id", "key", None, None, "test"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(retries)
        .timeout_config(timeouts);
    S3::from_conf(config.build())
}

/// A transport whose spans go to the scene.
fn transport(scene: &Scene) -> Traced {
    let provider = scene.provider.clone();
    Traced::new(move || Client::builder().tracer_provider(&provider))
}

fn endpoint(origin: &Origin) -> String {
    format!("http://{}", origin.addr())
}

#[tokio::test]
async fn operations_are_spans_on_one_connection_below_their_caller() {
    let store = Store::default();
    let origin = Origin::plain().serve(move |request| store.clone().answer(request));
    let scene = Scene::new(Client::builder());
    let s3 = s3(transport(&scene), endpoint(&origin), RetryConfig::disabled(), TimeoutConfig::disabled());
    let application = scene.application();
    let work = async {
        let tea = ByteStream::from_static(b"green tea");
        s3.put_object().bucket("bucket").key("tea").body(tea).send().await.expect("room");
        let object = s3.get_object().bucket("bucket").key("tea").send().await.expect("an object");
        // Its span ends with its bytes, not with its head.
        assert_eq!(scene.exported(), 6, "only what was put");
        assert_eq!(object.body.collect().await.expect("its bytes").into_bytes(), "green tea");
        let listed = s3.list_objects_v2().bucket("bucket").send().await.expect("a list");
        assert_eq!(listed.contents()[0].key(), Some("tea"));
        let error = s3.get_object().bucket("bucket").key("coffee").send().await.expect_err("no such object");
        assert!(matches!(error, SdkError::ServiceError(_)), "{error:?}");
    };
    within("the work", work.with_context(application.clone())).await;
    application.span().end();

    let spans = scene.spans(0, 19).await;
    let [put] = spans.named("PUT")[..] else { panic!("{spans}") };
    let [get, list, unknown] = spans.named("GET")[..] else { panic!("{spans}") };
    for (span, reused) in [(put, false), (get, true), (list, true)] {
        let under = ExpectedSpan::new().under(spans.only("application"));
        under.with("httptrace.connection.reused", reused).with("http.response.status_code", 200).check(span);
    }
    ExpectedSpan::new().under(spans.only("application")).error("404").check(unknown);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn what_the_sdk_tries_again_is_an_attempt_of_its_own() {
    let (failures, store) = (watch::Sender::new(1), Store::default());
    let origin = Origin::plain().serve(move |request| {
        let failed = failures.send_if_modified(|left| std::mem::take(left) > 0);
        let store = store.clone();
        async move {
            let mut response = store.answer(request).await;
            if failed {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    });
    let scene = Scene::new(Client::builder());
    let retries = RetryConfig::standard().with_initial_backoff(Duration::from_millis(1));
    let s3 = s3(transport(&scene), endpoint(&origin), retries, TimeoutConfig::disabled());
    let put = s3.put_object().bucket("bucket").key("tea").body(ByteStream::from_static(b"green tea")).send();
    within("room", put).await.expect("the second time");
    let spans = scene.spans(0, 10).await;
    let [first, second] = attempts(&spans, "PUT")[..] else { panic!("{spans}") };
    ExpectedSpan::new().error("503").check(first);
    ExpectedSpan::new().with("http.response.status_code", 200).check(second);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_failure_is_of_the_kind_that_decides_over_another_try() {
    let refusing = Refusing::new();
    let scene = Scene::new(Client::builder());
    let nobody = format!("http://{}", refusing.addr());
    let s3_of_nobody = s3(transport(&scene), nobody, RetryConfig::disabled(), TimeoutConfig::disabled());
    let error = within("an error", s3_of_nobody.list_objects_v2().bucket("bucket").send()).await;
    let error = error.expect_err("nobody there");
    assert!(matches!(&error, SdkError::DispatchFailure(failure) if failure.is_io()), "{error:?}");
}

#[tokio::test]
async fn the_sdks_timeouts_hold_and_an_operation_may_have_its_own() {
    let silent = Origin::plain().serve(|request| async move {
        if request.uri().query().is_some_and(|query| query.contains("prefix=slow")) {
            std::future::pending::<()>().await;
        }
        Store::default().answer(request).await
    });
    let scene = Scene::new(Client::builder());
    let patient = TimeoutConfig::builder().read_timeout(Duration::from_secs(20)).build();
    let s3 = s3(transport(&scene), endpoint(&silent), RetryConfig::disabled(), patient);
    for _ in 0..2 {
        let hasty = TimeoutConfig::builder().read_timeout(Duration::from_millis(50)).build();
        let hasty = aws_sdk_s3::Config::builder().timeout_config(hasty);
        let listing = s3.list_objects_v2().bucket("bucket").prefix("slow").customize().config_override(hasty).send();
        let error = within("a timeout", listing).await.expect_err("nobody answers");
        assert!(matches!(&error, SdkError::DispatchFailure(failure) if failure.is_timeout()), "{error:?}");
        within("a list", s3.list_objects_v2().bucket("bucket").send()).await.expect("a list");
    }
    let spans = scene.spans(0, 16).await;
    let [slow, list, _, again] = spans.named("GET")[..] else { panic!("{spans}") };
    ExpectedSpan::new().error("timeout").check(slow);
    // Two clients, one for each pair of timeouts; each keeps its connections.
    ExpectedSpan::new().with("httptrace.connection.reused", false).check(list);
    ExpectedSpan::new().with("httptrace.connection.reused", true).check(again);
}
