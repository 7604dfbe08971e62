//! A user's own way to a byte stream, instead of lookup and TCP connect.
//!
//! In comes the origin, out goes a stream for TLS or HTTP to run on. Where it leads is the connector's secret: no address
//! is known, so none is told. Whatever it does (an error, a panic, silence) ends within the dial's deadline as one
//! `connect` that failed, since others may wait for this dial.

#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::{
    any::Any,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    time::Instant,
};

use http::Uri;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use super::{Place, contained::contained};
use crate::{
    error::{BoxError, Error, Kind, find},
    hooks::emit::Hooks,
    phase::Phase,
    transport::{LocalEnd, OwnStream, Socket},
};

type Connecting = Pin<Box<dyn Future<Output = Result<Box<dyn OwnStream>, BoxError>> + Send>>;

/// A user's `Service<Uri>`, its types erased.
#[derive(Clone)]
pub(crate) struct Connector(Arc<dyn Fn(Uri) -> Connecting + Send + Sync>);

impl Connector {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Uri> + Clone + Send + Sync + 'static,
        S::Response: Read + Write + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self(Arc::new(move |uri| {
            // A clone has to be asked anew whether it is ready.
            let mut service = service.clone();
            Box::pin(async move {
                poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
                let stream = service.call(uri).await.map_err(Into::into)?;
                Ok(Box::new(TokioIo::new(stream)) as Box<dyn OwnStream>)
            })
        }))
    }

    /// A Unix socket, whatever is asked for.
    #[cfg(unix)]
    pub(crate) fn unix(path: PathBuf) -> Self {
        let path = Arc::<Path>::from(path);
        Self(Arc::new(move |_| {
            let path = Arc::clone(&path);
            Box::pin(async move {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Ok(Box::new(stream) as Box<dyn OwnStream>)
            })
        }))
    }

    /// One stream to the target, or to its proxy, with its pair of hooks.
    pub(super) async fn connect(&self, place: Place<'_>, deadline: Instant, hooks: &Hooks) -> Result<Socket, Error> {
        let uri = origin(place)?;
        let guard = hooks.connect(None, 1);
        let connecting = contained(|| (self.0)(uri));
        let result = tokio::time::timeout_at(deadline.into(), connecting).await;
        let at = hooks.now();
        let result = result.map(|ended| ended.unwrap_or_else(|panic| Err(panicked(&*panic).into())));
        let result = match result {
            Ok(Ok(stream)) => Ok(Socket::own(stream)),
            Ok(Err(error)) => {
                let kind = find::<io::Error>(&*error).map_or(Kind::ConnectFailed, Kind::of_connect);
                Err(Error::with(kind, Phase::Connect, error))
            }
            Err(_) => Err(Error::timeout(Phase::Connect)),
        };
        guard.done(at, result.as_ref().map(|_| LocalEnd::default()));
        result
    }
}

/// The URI that a connector is called with: scheme, host and port, the path `/`.
fn origin(Place { scheme, host, port }: Place<'_>) -> Result<Uri, Error> {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
    uri.map_err(|error| Error::with(Kind::InvalidRequest, Phase::Request, error))
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the connector panicked: {}", text.unwrap_or("no message"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_is_called_with_scheme_host_and_port() {
        let uri = |scheme, host: &str| {
            let place = Place { scheme, host: &host.into(), port: 8443 };
            origin(place).expect("an origin").to_string()
        };
        assert_eq!(uri("https", "example.com"), "https://example.com:8443/");
        assert_eq!(uri("http", "::1"), "http://[::1]:8443/");
        assert_eq!(uri("socks5h", "proxy.test"), "socks5h://proxy.test:8443/");
    }
}
