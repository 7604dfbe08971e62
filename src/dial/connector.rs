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
    net::SocketAddr,
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

type Connecting = Pin<Box<dyn Future<Output = Result<Made, BoxError>> + Send>>;

/// A user's `Service<Uri>`, its types erased.
#[derive(Clone)]
pub(crate) struct Connector {
    connect: Arc<dyn Fn(Uri) -> Connecting + Send + Sync>,
    /// What it returns for `https` is encrypted already.
    pub(super) does_tls: bool,
}

/// A stream, and what its connector says of it.
pub(super) struct Made {
    stream: Box<dyn OwnStream>,
    said: Said,
}

/// What a connector says of its stream; the bare ones say nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    /// ALPN has chosen HTTP/2.
    pub(super) http2: bool,
    /// A proxy is at the other end, to which requests are given to pass on.
    pub(super) forwards: bool,
    pub(super) local: Option<SocketAddr>,
    pub(super) peer: Option<SocketAddr>,
}

impl Connector {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Uri> + Clone + Send + Sync + 'static,
        S::Response: Read + Write + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self { connect: called(service, |_| Said::default()), does_tls: false }
    }

    /// One that was written for hyper-util's client.
    #[cfg(feature = "hyper-connector")]
    pub(crate) fn of_hyper<S>(service: S) -> Self
    where
        S: Service<Uri> + Clone + Send + Sync + 'static,
        S::Response: Read + Write + hyper_util::client::legacy::connect::Connection + Send + Unpin + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        use hyper_util::client::legacy::connect::{Connection as _, HttpInfo};

        let said = |stream: &S::Response| {
            let (connected, mut extras) = (stream.connected(), http::Extensions::new());
            connected.get_extras(&mut extras);
            let addrs = extras.get::<HttpInfo>();
            Said {
                http2: connected.is_negotiated_h2(),
                forwards: connected.is_proxied(),
                local: addrs.map(HttpInfo::local_addr),
                peer: addrs.map(HttpInfo::remote_addr),
            }
        };
        Self { connect: called(service, said), does_tls: true }
    }

    /// A Unix socket, whatever is asked for.
    #[cfg(unix)]
    pub(crate) fn unix(path: PathBuf) -> Self {
        let path = Arc::<Path>::from(path);
        let connect = move |_| {
            let path = Arc::clone(&path);
            Box::pin(async move {
                let stream = tokio::net::UnixStream::connect(path).await?;
                Ok(Made { stream: Box::new(stream), said: Said::default() })
            }) as Connecting
        };
        Self { connect: Arc::new(connect), does_tls: false }
    }

    /// One stream to the target, or to its proxy, with its pair of hooks.
    pub(super) async fn connect(
        &self,
        place: Place<'_>,
        deadline: Instant,
        hooks: &Hooks,
    ) -> Result<(Socket, Said), Error> {
        let uri = origin(place)?;
        let guard = hooks.connect(None, 1);
        let connecting = contained(|| (self.connect)(uri));
        let result = tokio::time::timeout_at(deadline.into(), connecting).await;
        let at = hooks.now();
        let result = result.map(|ended| ended.unwrap_or_else(|panic| Err(panicked(&*panic).into())));
        let result = match result {
            Ok(Ok(Made { stream, said })) => Ok((Socket::own(stream), said)),
            Ok(Err(error)) => {
                let kind = find::<io::Error>(&*error).map_or(Kind::ConnectFailed, Kind::of_connect);
                Err(Error::with(kind, Phase::Connect, error))
            }
            Err(_) => Err(Error::timeout(Phase::Connect)),
        };
        let local = |(_, said): &(Socket, Said)| LocalEnd { addr: said.local, ..LocalEnd::default() };
        guard.done(at, result.as_ref().map(local));
        result
    }
}

/// The service as a function, asked what it has made of each stream.
fn called<S>(
    service: S,
    said: impl Fn(&S::Response) -> Said + Copy + Send + Sync + 'static,
) -> Arc<dyn Fn(Uri) -> Connecting + Send + Sync>
where
    S: Service<Uri> + Clone + Send + Sync + 'static,
    S::Response: Read + Write + Send + Unpin + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    Arc::new(move |uri| {
        // A clone has to be asked anew whether it is ready.
        let mut service = service.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(Into::into)?;
            let stream = service.call(uri).await.map_err(Into::into)?;
            Ok(Made { said: said(&stream), stream: Box::new(TokioIo::new(stream)) })
        })
    })
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
