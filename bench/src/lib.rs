//! What one request costs: the parts shared by the bench's two binaries.
//!
//! Sequential `GET`s over one HTTP/1.1 keep-alive connection on loopback, on a current-thread runtime. The origin is
//! another process (the same binary, started as `serve`), so nothing it does is counted. A [`Row`] is one way of
//! sending the request; the binaries differ only in what they count around the measured requests.

mod exporter;
mod origin;
mod rows;

use std::{error::Error, future::Future};

use tokio::runtime::{Builder, Runtime};

pub use self::{
    origin::{Origin, serve},
    rows::Row,
};

/// Any error; the bench only ever prints it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Requests sent before anything is counted: the connection is open and every lazy static is filled.
const WARM_UP: usize = 50;

/// What a row is asked to do again and again.
pub(crate) trait Fetch {
    /// Sends one request and reads the whole response body.
    fn fetch(&self) -> impl Future<Output = Result<(), BoxError>>;
}

/// What a binary counts around the measured requests.
pub trait Meter {
    /// Runs the measured region once, and counts.
    fn meter(&mut self, region: impl FnOnce());
}

/// One row, ready to run.
pub struct Bench {
    runtime: Runtime,
    requests: usize,
}

impl Bench {
    /// Prepares `requests` measured requests.
    ///
    /// # Errors
    ///
    /// When the runtime cannot be started.
    pub fn new(requests: usize) -> Result<Self, BoxError> {
        Ok(Self { runtime: Builder::new_current_thread().enable_all().build()?, requests })
    }

    /// Runs a row against the origin: warm-up uncounted, then the measured requests inside `meter`.
    ///
    /// # Errors
    ///
    /// When a request fails, or when the row did not do what its name says.
    pub fn run(&self, row: Row, origin: &Origin, meter: &mut impl Meter) -> Result<(), BoxError> {
        rows::run(self, row, origin, meter)
    }

    pub(crate) fn drive(&self, client: &impl Fetch, meter: &mut impl Meter) -> Result<(), BoxError> {
        self.warm_up(client)?;
        let mut result = Ok(());
        meter.meter(|| result = httptrace_bench_measured(&self.runtime, client, self.requests));
        result
    }

    fn warm_up(&self, client: &impl Fetch) -> Result<(), BoxError> {
        self.runtime.block_on(repeat(client, WARM_UP))
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// The region that callgrind collects: `bench/run` names this very function in `--toggle-collect`.
#[inline(never)]
fn httptrace_bench_measured(runtime: &Runtime, client: &impl Fetch, requests: usize) -> Result<(), BoxError> {
    runtime.block_on(repeat(client, requests))
}

async fn repeat(client: &impl Fetch, requests: usize) -> Result<(), BoxError> {
    for _ in 0..requests {
        client.fetch().await?;
    }
    Ok(())
}
