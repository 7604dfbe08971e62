//! The client under test, with everything that it tells: a log of its hooks and the record of every attempt.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use http::{Response, Uri};
use http_body_util::BodyExt;
use httptrace::{Client, ClientBuilder, Error, ResponseBody, ResponseFuture, Timeline};
use tokio::sync::watch;

use super::{dns::FakeResolver, origin::Origin, trace::Log, within};

/// A client, its log, and its records.
pub(crate) struct Traced {
    pub(crate) client: Client,
    pub(crate) log: Log,
    timelines: watch::Sender<Vec<Timeline>>,
}

impl Traced {
    pub(crate) fn new(builder: ClientBuilder) -> Self {
        let log = Log::new();
        let timelines = watch::Sender::<Vec<Timeline>>::default();
        let told = timelines.clone();
        let client = builder
            .client_trace(log.hooks())
            .on_timeline(move |timeline| told.send_modify(|all| all.push(timeline.clone())))
            .build()
            .expect("settings that fit");
        Self { client, log, timelines }
    }

    pub(crate) fn get(&self, uri: Uri) -> ResponseFuture {
        self.client.get(uri)
    }

    /// The same, for a task of its own.
    pub(crate) fn read_later(&self, uri: Uri) -> impl Future<Output = Result<Bytes, Error>> + Send + 'static {
        let response = self.get(uri);
        async { read(response.await?).await }
    }

    /// A GET whose response is read to the end.
    pub(crate) async fn read(&self, uri: Uri) -> Result<Bytes, Error> {
        read(within("a response's head", self.get(uri)).await?).await
    }

    /// The record of the attempt that was over first.
    pub(crate) async fn timeline(&self) -> Timeline {
        self.timelines(1).await.remove(0)
    }

    /// The records of all attempts in the order of their ends, once there are so many.
    pub(crate) async fn timelines(&self, at_least: usize) -> Vec<Timeline> {
        let mut timelines = self.timelines.subscribe();
        let waited = timelines.wait_for(|all| all.len() >= at_least);
        within(&format!("{at_least} records\n{}", self.log), waited).await.expect("the sender is in self").clone()
    }
}

/// The whole body of a response.
pub(crate) async fn read(response: Response<ResponseBody>) -> Result<Bytes, Error> {
    Ok(within("a response's body", response.into_body().collect()).await?.to_bytes())
}

impl Origin {
    /// A client that trusts this origin and knows the name "origin.test".
    pub(crate) fn client_builder(&self) -> ClientBuilder {
        let builder = Client::builder().resolver(Arc::new(FakeResolver::new().local("origin.test")));
        if self.is_tls() { builder.root_certificates(vec![self.root_certificate()]) } else { builder }
    }
}
