//! What one request costs: the parts shared by the bench's binaries.
//!
//! A [`Row`] is one way of sending a request, a [`Workload`] says over which protocol and in which manner. All rows send
//! `GET`s to the same origin, another process on loopback, from a current-thread runtime, and read the whole body. The
//! binaries differ only in what they count around the measured requests.

mod origin;
mod rows;
mod workload;

use std::{error::Error, future::Future};

use futures_util::{StreamExt, stream};
use http::Uri;
use tokio::runtime::{Builder, Runtime};

pub use self::{
    origin::{Origin, serve},
    rows::{Crowd, Held, Row},
    workload::{Load, Protocol, Workload},
};

/// Any error; the bench only ever prints it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Requests sent before anything is counted: the connections are open and every lazy static is filled.
const WARM_UP: usize = 50;

/// What a row is asked to do again and again.
pub(crate) trait Fetch {
    /// Sends one request and reads the whole response body. Returns its length.
    fn fetch(&self) -> impl Future<Output = Result<usize, BoxError>>;
}

/// What a binary counts around the measured requests.
pub trait Meter {
    /// Runs the measured region once, and counts.
    fn meter(&mut self, region: impl FnOnce());
}

/// One workload against one origin, ready to run.
pub struct Bench {
    runtime: Runtime,
    workload: Workload,
    origin: Origin,
}

impl Bench {
    /// Starts the origin and prepares the runtime.
    ///
    /// # Errors
    ///
    /// When either cannot be started.
    pub fn new(workload: Workload) -> Result<Self, BoxError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, workload, origin: Origin::start()? })
    }

    /// Runs a row: warm-up uncounted, then the measured requests inside `meter`.
    ///
    /// # Errors
    ///
    /// When a request fails, or when the row did not do what its name says.
    pub fn run(&self, row: Row, meter: &mut impl Meter) -> Result<(), BoxError> {
        rows::run(self, row, meter)
    }

    /// Measures requests in a crowd of this size.
    ///
    /// # Errors
    ///
    /// When a request fails.
    pub fn run_in(&self, crowd: Crowd, size: usize, meter: &mut impl Meter) -> Result<(), BoxError> {
        rows::run_crowd(self, crowd, size, meter)
    }

    /// Opens as many as the workload has requests, and holds them while the meter looks.
    ///
    /// # Errors
    ///
    /// When a request fails.
    pub fn hold(&self, row: Row, held: Held, meter: &mut impl Meter) -> Result<(), BoxError> {
        rows::hold(self, row, held, self.workload.requests, meter)
    }

    /// Measures requests of two worker threads that share one client.
    ///
    /// # Errors
    ///
    /// When a request fails, or when the row has none such.
    pub fn run_workers(&self, row: Row, meter: &mut impl Meter) -> Result<(), BoxError> {
        rows::run_workers(self, row, meter)
    }

    /// How many requests there are.
    pub fn many(&self) -> usize {
        self.workload.requests
    }

    pub(crate) fn drive(&self, client: &impl Fetch, meter: &mut impl Meter) -> Result<(), BoxError> {
        self.runtime.block_on(repeat(client, self.workload, WARM_UP))?;
        self.measure(meter, repeat(client, self.workload, self.workload.requests))
    }

    /// Runs what is measured.
    pub(crate) fn measure(
        &self,
        meter: &mut impl Meter,
        measured: impl Future<Output = Result<(), BoxError>>,
    ) -> Result<(), BoxError> {
        let mut result = Ok(());
        meter.meter(|| result = httptrace_bench_measured(&self.runtime, measured));
        result
    }

    pub(crate) fn uri(&self) -> Result<Uri, BoxError> {
        Ok(self.origin.url(self.workload).parse()?)
    }

    pub(crate) fn workload(&self) -> Workload {
        self.workload
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }
}

/// The region that callgrind collects: `bench/run` names this very function in `--toggle-collect`.
#[inline(never)]
fn httptrace_bench_measured(
    runtime: &Runtime,
    measured: impl Future<Output = Result<(), BoxError>>,
) -> Result<(), BoxError> {
    runtime.block_on(measured)
}

async fn repeat(client: &impl Fetch, workload: Workload, requests: usize) -> Result<(), BoxError> {
    let expected = workload.body_bytes();
    let once = || async {
        match client.fetch().await? {
            received if received == expected => Ok(()),
            received => Err(BoxError::from(format!("{received} bytes instead of {expected}"))),
        }
    };
    if workload.load == Load::Concurrent {
        let mut all = stream::iter(0..requests).map(|_| once()).buffer_unordered(workload::CONCURRENCY);
        while let Some(result) = all.next().await {
            result?;
        }
        return Ok(());
    }
    for _ in 0..requests {
        once().await?;
    }
    Ok(())
}
