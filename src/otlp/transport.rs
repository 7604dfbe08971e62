//! Carries OTLP messages with this crate's own client: without spans, metrics or hooks, on the pipeline's own runtime.
//!
//! In: one encoded message. Out: the collector's answer, or why there is none. gRPC is the same message behind five bytes,
//! over HTTP/2, with its status in the trailers. The SDK's threads that export have no runtime of their own, and the
//! application's may be the very thread that waits for a flush: so a message is handed to the pipeline's runtime, and only
//! its answer is waited for.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use std::{io::Write, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, TE, USER_AGENT},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full, Limited};
use percent_encoding::percent_decode_str;
use rustls::ClientConfig;
use tokio::runtime::Handle;

use super::{
    Protocol,
    delivery::Delivery,
    env::Target,
    port::{Heard, Port},
    problem::{Failure, Problem, quoted},
};
use crate::{
    client::Client,
    error::{BoxError, Error, find},
    redact::Hidden,
};

/// The most that a collector may answer: what the SDK's own clients take.
const MAX_ANSWER: usize = 4 << 20;
/// Further attempts, and the pause before the first of them, which doubles: the SDK's own.
const RETRIES: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest that a collector's `Retry-After` is heeded.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// One signal's way to one collector.
#[derive(Debug)]
pub(super) struct Transport {
    route: Arc<Route>,
    runtime: Handle,
    timeout: Duration,
}

#[derive(Debug)]
struct Route {
    client: Client,
    heard: Arc<Heard>,
    uri: Hidden<Uri>,
    protocol: Protocol,
    headers: Hidden<HeaderMap>,
    /// What of the two above the collector might repeat.
    secrets: Hidden<Vec<String>>,
    gzip: bool,
    delivery: Arc<Delivery>,
}

impl Transport {
    pub(super) fn new(target: &Target, runtime: Handle, delivery: Arc<Delivery>) -> Result<Self, Error> {
        let heard = Arc::new(Heard::default());
        let client = Client::builder()
            .telemetry(false)
            .connect_timeout(target.timeout)
            .tls_handshake_timeout(target.timeout)
            .connector(Port(Arc::clone(&heard)));
        let client = match &target.tls {
            Some(config) => client.tls_config(ClientConfig::clone(config)),
            None => client,
        };
        let client = match target.protocol {
            Protocol::Grpc => client.http2_prior_knowledge(),
            Protocol::HttpProtobuf => client,
        };
        let route = Route {
            client: client.build()?,
            heard,
            uri: Hidden::new(uri(target)),
            protocol: target.protocol,
            headers: Hidden::new(headers(target)),
            secrets: Hidden::new(secrets(target)),
            gzip: target.gzip,
            delivery,
        };
        Ok(Self { route: Arc::new(route), runtime, timeout: target.timeout })
    }

    /// Delivers one message, with retries, within the timeout. A failure is told here.
    pub(super) async fn send(&self, message: Vec<u8>) -> Result<Bytes, Failure> {
        let (route, timeout) = (Arc::clone(&self.route), self.timeout);
        let sending = self.runtime.spawn(async move {
            let body = route.framed(message);
            let sent = tokio::time::timeout(timeout, route.deliver(body)).await;
            sent.unwrap_or_else(|_| Err(Failure::silence(timeout)))
        });
        let result = sending.await.unwrap_or_else(|_| Err(Failure::new(Problem::Stopped, "not sent")));
        if let Err(failure) = &result {
            self.route.delivery.complain(failure);
        }
        result
    }

    /// What the collector says, as far as it may be told.
    pub(super) fn quoted(&self, words: &str) -> String {
        quoted(words, &self.route.secrets)
    }
}

impl Route {
    async fn deliver(&self, body: Bytes) -> Result<Bytes, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut left = RETRIES;
        loop {
            let failure = match self.attempt(body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if left == 0 || !failure.may_pass() || self.delivery.gives_up(&failure) {
                return Err(failure);
            }
            left -= 1;
            let jitter = u64::from(rand_byte()) * u64::try_from(FIRST_PAUSE.as_millis()).unwrap_or(0) / 256;
            let wait =
                failure.retry_after.map_or(pause, |wish| wish.min(LONGEST_PAUSE)) + Duration::from_millis(jitter);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // The end of the program: what has not been reached by now has one more chance.
                () = self.delivery.closing() => left = 0,
            }
            pause *= 2;
        }
    }

    async fn attempt(&self, body: Bytes) -> Result<Bytes, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = (*self.uri).clone();
        *request.headers_mut() = (*self.headers).clone();
        let response = self.client.request(request).await.map_err(|error| self.failure(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| self.broken(&error))?;
        let trailers = body.trailers().cloned();
        let body = body.to_bytes();
        if !head.status.is_success() {
            let mut failure = Failure::status(head.status.as_u16(), &body);
            failure.retry_after = head.headers.get(RETRY_AFTER).and_then(seconds);
            return Err(failure);
        }
        let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let foreign = |kind: &str| {
            let kind = quoted(kind, &self.secrets);
            Failure::new(Problem::NotACollector, format!("an answer of type `{kind}`"))
        };
        match self.protocol {
            Protocol::HttpProtobuf if kind.starts_with("text/") => Err(foreign(kind)),
            Protocol::HttpProtobuf => Ok(body),
            Protocol::Grpc if !kind.starts_with("application/grpc") => Err(foreign(kind)),
            Protocol::Grpc => {
                let status = trailers.as_ref().filter(|fields| fields.contains_key("grpc-status"));
                grpc_status(status.unwrap_or(&head.headers))?;
                // Whether it is compressed was not offered: it is not.
                Ok(body.get(5..).map_or_else(Bytes::new, |message| body.slice_ref(message)))
            }
        }
    }

    /// The message as the protocol has it.
    fn framed(&self, message: Vec<u8>) -> Bytes {
        let message = if self.gzip { zipped(&message) } else { message };
        match self.protocol {
            Protocol::HttpProtobuf => message.into(),
            Protocol::Grpc => {
                let mut framed = BytesMut::with_capacity(5 + message.len());
                framed.put_u8(u8::from(self.gzip));
                // A batch of 4 GiB is none.
                framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
                framed.put_slice(&message);
                framed.freeze()
            }
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        let tls = self.uri.scheme_str() == Some("https");
        Failure::no_answer(error, &self.heard.bytes(), self.protocol, tls)
    }

    /// A response body that failed.
    fn broken(&self, error: &BoxError) -> Failure {
        match find::<Error>(&**error) {
            Some(error) => self.failure(error),
            None => Failure::new(Problem::NotACollector, "an endless answer"),
        }
    }
}

/// What is requested.
fn uri(target: &Target) -> Uri {
    let mut parts = (*target.endpoint).clone().into_parts();
    if target.protocol == Protocol::Grpc {
        parts.path_and_query = Some(PathAndQuery::from_static(target.service));
    }
    Uri::from_parts(parts).expect("a URL with another path is one")
}

fn zipped(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(message).and_then(|()| encoder.finish()).expect("a Vec takes it all")
}

fn headers(target: &Target) -> HeaderMap {
    let mut fields = (*target.headers).clone();
    let agent = concat!("OTel-OTLP-Exporter-Rust/", env!("CARGO_PKG_VERSION"), " httptrace");
    fields.entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
    let (kind, encoding) = match target.protocol {
        Protocol::Grpc => ("application/grpc", http::HeaderName::from_static("grpc-encoding")),
        Protocol::HttpProtobuf => ("application/x-protobuf", CONTENT_ENCODING),
    };
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if target.protocol == Protocol::Grpc {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    if target.gzip {
        fields.insert(encoding, HeaderValue::from_static("gzip"));
    }
    fields
}

/// The credentials that go to the collector, word by word: a scheme's name before one is none.
fn secrets(target: &Target) -> Vec<String> {
    use base64::{Engine, prelude::BASE64_STANDARD};

    let fields = target.headers.values().filter_map(|value| value.to_str().ok());
    let mut all: Vec<_> = fields.flat_map(str::split_whitespace).map(str::to_owned).collect();
    if let Some((userinfo, _)) = target.endpoint.authority().and_then(|authority| authority.as_str().rsplit_once('@')) {
        let plain = percent_decode_str(userinfo).decode_utf8_lossy();
        let (user, password) = plain.split_once(':').unwrap_or((&plain, ""));
        all.extend([BASE64_STANDARD.encode(format!("{user}:{password}")), password.to_owned()]);
    }
    // A shorter one would be found in words that have nothing to do with it.
    all.retain(|secret| secret.len() >= 6 && !secret.eq_ignore_ascii_case("bearer"));
    all
}

fn grpc_status(fields: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status").map(str::parse) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => {
            let message = percent_decode_str(text("grpc-message").unwrap_or_default()).decode_utf8_lossy();
            Err(Failure::grpc(code, &message))
        }
        Some(Err(_)) | None => Err(Failure::new(Problem::NotACollector, "an answer without a gRPC status")),
    }
}

/// `Retry-After` in seconds. As a date it is not heeded: the usual pause is.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// Random enough to keep many processes from retrying in step.
fn rand_byte() -> u8 {
    use opentelemetry_sdk::trace::IdGenerator;
    opentelemetry_sdk::trace::RandomIdGenerator::default().new_span_id().to_bytes()[7]
}
