//! What goes around the client, one recipe each: copy the function that you need, they know nothing of each other.
//!
//! The client is a [`Service`] that is always ready and cheap to clone, so every layer of tower and tower-http fits. What is
//! nearest to the client decides what one attempt is: each hop, each try has its own CLIENT span, under the caller's.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header::USER_AGENT};
use http_body_util::Full;
use httptrace::{BoxError, Client, Error, Resends, ResponseBody, views::spans::ParentContext};
use tower::{
    Service, ServiceBuilder,
    balance::p2c::Balance,
    discover::ServiceList,
    load::{CompleteOnResponse, PendingRequests},
    retry::{
        Policy, RetryLayer,
        backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
};
use tower_http::{
    decompression::{DecompressionBody, DecompressionLayer},
    follow_redirect::FollowRedirectLayer,
    set_header::SetRequestHeaderLayer,
    timeout::{ResponseBodyTimeoutLayer, TimeoutBody, TimeoutLayer},
};

/// A request that can be sent again.
pub(crate) type Sent = Request<Full<Bytes>>;

/// Redirects: each hop is an attempt, counted in `http.request.resend_count`.
pub(crate) fn redirects(
    client: Client,
) -> impl Service<Sent, Response = Response<ResponseBody>, Error = Error> + Clone {
    ServiceBuilder::new().map_request(counted).layer(FollowRedirectLayer::new()).service(client)
}

/// Hops and tries of one request add to one count. Not with `AddExtensionLayer`: all requests would share that.
fn counted(mut request: Sent) -> Sent {
    request.extensions_mut().insert(Resends::default());
    request
}

/// Compressed answers: the spans and metrics tell the bytes of the wire, the application gets those of the text.
pub(crate) fn decompressed(
    client: Client,
) -> impl Service<Sent, Response = Response<DecompressionBody<ResponseBody>>, Error = Error> + Clone {
    ServiceBuilder::new().layer(DecompressionLayer::new()).service(client)
}

/// Limits from outside: the layer drops the request, whose span says `canceled`, and answers in the server's place. The
/// client's own limits (`ClientBuilder::timeout`, `response_header_timeout`, `RequestTimeout` for one request) say `timeout`
/// and in which phase, so prefer those; this is for limits that have to hold several attempts together.
pub(crate) fn limited_in_time(
    client: Client,
    head: Duration,
    body: Duration,
) -> impl Service<Sent, Response = Response<TimeoutBody<ResponseBody>>, Error = Error> + Clone {
    ServiceBuilder::new()
        .layer(ResponseBodyTimeoutLayer::new(body))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, head))
        .service(client)
}

/// A field on every request. `traceparent` is not such a field: the client writes it for each attempt, over what is there.
pub(crate) fn with_user_agent(
    client: Client,
    name: HeaderValue,
) -> impl Service<Sent, Response = Response<ResponseBody>, Error = Error> + Clone {
    ServiceBuilder::new().layer(SetRequestHeaderLayer::if_not_present(USER_AGENT, name)).service(client)
}

/// Retries: each try is an attempt, counted in `http.request.resend_count`. (The client itself sends again only what no
/// server has seen.)
pub(crate) fn retried(client: Client) -> impl Service<Sent, Response = Response<ResponseBody>, Error = Error> + Clone {
    ServiceBuilder::new().map_request(counted).layer(RetryLayer::new(Tries::new(2))).service(client)
}

/// At most so many further tries, as long as all requests together have not used up their budget.
#[derive(Clone)]
pub(crate) struct Tries {
    left: u32,
    pauses: ExponentialBackoff,
    budget: Arc<TpsBudget>,
}

impl Tries {
    pub(crate) fn new(left: u32) -> Self {
        let (shortest, longest) = (Duration::from_millis(50), Duration::from_secs(2));
        let mut pauses = ExponentialBackoffMaker::new(shortest, longest, 0.5, Default::default()).expect("in order");
        Self { left, pauses: pauses.make_backoff(), budget: Arc::new(TpsBudget::default()) }
    }
}

impl<B> Policy<Sent, Response<B>, Error> for Tries {
    type Future = tokio::time::Sleep;

    fn retry(&mut self, request: &mut Sent, result: &mut Result<Response<B>, Error>) -> Option<Self::Future> {
        let may_pass = match result {
            Ok(response) => matches!(response.status().as_u16(), 429 | 502..=504),
            Err(error) => !error.is_invalid_request() && !error.is_canceled(),
        };
        if !may_pass {
            self.budget.deposit();
            return None;
        }
        if self.left == 0 || !request.method().is_idempotent() || !self.budget.withdraw() {
            return None;
        }
        self.left -= 1;
        Some(self.pauses.next_backoff())
    }

    fn clone_request(&mut self, request: &Sent) -> Option<Sent> {
        Some(request.clone())
    }
}

/// A queue before the client. It calls the client on a task of its own, where no OpenTelemetry context of the caller's is
/// current: so the request takes it along. (A `tracing` span would come along by itself.)
pub(crate) fn buffered(
    client: Client,
    room: usize,
) -> impl Service<Sent, Response = Response<ResponseBody>, Error = BoxError> + Clone {
    ServiceBuilder::new().map_request(below_its_caller).buffer(room).service(client)
}

fn below_its_caller(mut request: Sent) -> Sent {
    request.extensions_mut().insert(ParentContext(opentelemetry::Context::current()));
    request
}

/// So many requests at once, counted until the head of the response. Who waits has no span yet; with
/// `ClientBuilder::max_connections_per_host` the client itself holds requests back, and says how long.
pub(crate) fn at_most(
    client: Client,
    requests: usize,
) -> impl Service<Sent, Response = Response<ResponseBody>, Error = Error> + Clone {
    ServiceBuilder::new().concurrency_limit(requests).service(client)
}

/// So many requests in each period. A rate limit is one for all who share it, which the queue before it makes possible.
pub(crate) fn at_most_in(
    client: Client,
    requests: u64,
    period: Duration,
) -> impl Service<Sent, Response = Response<ResponseBody>, Error = BoxError> + Clone {
    ServiceBuilder::new().map_request(below_its_caller).buffer(64).rate_limit(requests, period).service(client)
}

/// Several servers that do the same: of two picked at random, the one with fewer requests under way. One client is enough,
/// since it keeps the connections of each server apart.
pub(crate) fn balanced(
    client: &Client,
    origins: impl IntoIterator<Item = Uri>,
) -> impl Service<Sent, Response = Response<ResponseBody>, Error = BoxError> + Clone {
    let servers = origins.into_iter().map(|origin| {
        let server = Server { client: client.clone(), origin };
        PendingRequests::new(server, CompleteOnResponse::default())
    });
    let balance = Balance::new(ServiceList::new::<Sent>(servers.collect::<Vec<_>>()));
    ServiceBuilder::new().map_request(below_its_caller).buffer(64).service(balance)
}

/// The client, for one server: requests name a path alone.
struct Server {
    client: Client,
    origin: Uri,
}

impl Service<Sent> for Server {
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = httptrace::ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Sent) -> Self::Future {
        let mut to = self.origin.clone().into_parts();
        to.path_and_query = request.uri_mut().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(to).expect("an origin with a path");
        self.client.request(request)
    }
}
