//! Clients with nothing around them: the floor, the yardstick, and what most programs use.

use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

use bytes::Bytes;
use http::{Uri, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::{get, length};
use crate::{
    Bench, BoxError, Fetch,
    workload::{Load, Protocol},
};

/// Connections in hand, none waited for and none looked up: what no client can go below.
pub(super) struct Raw {
    uri: Uri,
    address: String,
    host: header::HeaderValue,
    protocol: Protocol,
    keeps: bool,
    tls: tokio_rustls::TlsConnector,
    idle: RefCell<Vec<http1::SendRequest<Empty<Bytes>>>>,
    shared: RefCell<Option<http2::SendRequest<Empty<Bytes>>>>,
}

impl Raw {
    pub(super) fn new(bench: &Bench) -> Result<Self, BoxError> {
        let uri = bench.uri()?;
        let authority = uri.authority().ok_or("an absolute URL")?;
        Ok(Self {
            address: format!("127.0.0.1:{}", authority.port_u16().ok_or("a port")?),
            host: authority.as_str().parse()?,
            protocol: bench.workload().protocol,
            keeps: bench.workload().load != Load::NewConnection,
            tls: Arc::new(bench.origin().tls()?).into(),
            idle: RefCell::default(),
            shared: RefCell::default(),
            uri,
        })
    }

    async fn http1(&self) -> Result<http1::SendRequest<Empty<Bytes>>, BoxError> {
        if let Some(sender) = self.idle.borrow_mut().pop() {
            return Ok(sender);
        }
        let stream = self.tcp().await?;
        if self.protocol == Protocol::Http1 {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            return Ok(sender);
        }
        let stream = self.tls.connect(ServerName::try_from("localhost")?, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn http2(&self) -> Result<http2::SendRequest<Empty<Bytes>>, BoxError> {
        if let Some(sender) = &*self.shared.borrow() {
            return Ok(sender.clone());
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(self.tcp().await?)).await?;
        tokio::spawn(connection);
        *self.shared.borrow_mut() = Some(sender.clone());
        Ok(sender)
    }

    async fn tcp(&self) -> Result<TcpStream, BoxError> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Fetch for Raw {
    async fn fetch(&self) -> Result<usize, BoxError> {
        let mut request = get(&self.uri);
        if self.protocol == Protocol::Http2 {
            let mut sender = self.http2().await?;
            return length(sender.send_request(request).await?).await;
        }
        let mut sender = self.http1().await?;
        request.headers_mut().insert(header::HOST, self.host.clone());
        *request.uri_mut() = Uri::from_static(if self.keeps { "/" } else { "/close" });
        if let Some(path) = self.uri.path_and_query() {
            *request.uri_mut() = path.clone().into();
        }
        let read = length(sender.send_request(request).await?).await?;
        if self.keeps {
            sender.ready().await?;
            self.idle.borrow_mut().push(sender);
        }
        Ok(read)
    }
}

/// The connector that hyper-util's and tower-otel's rows share.
pub(super) type Connector = HttpsConnector<HttpConnector>;

pub(super) fn legacy<B>(bench: &Bench) -> Result<Legacy<B>, BoxError>
where
    B: hyper::body::Body + Send + 'static + Unpin,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    Ok(match bench.workload().protocol {
        Protocol::Http1 => Legacy::Plain(builder.build(http)),
        Protocol::Http2 => Legacy::Plain(builder.http2_only(true).build(http)),
        Protocol::Http1Tls => {
            let https = HttpsConnectorBuilder::new().with_tls_config(bench.origin().tls()?).https_only();
            Legacy::Tls(builder.build(https.enable_http1().wrap_connector(http)))
        }
    })
}

/// hyper-util's client; plain where no TLS is needed, as its users have it.
pub(super) enum Legacy<B> {
    Plain(Client<HttpConnector, B>),
    Tls(Client<Connector, B>),
}

pub(super) struct HyperUtil {
    client: Legacy<Empty<Bytes>>,
    uri: Uri,
    /// The next `traceparent`, if one is sent.
    traceparent: Option<Cell<u8>>,
}

impl HyperUtil {
    pub(super) fn new(bench: &Bench, traceparent: bool) -> Result<Self, BoxError> {
        Ok(Self { client: legacy(bench)?, uri: bench.uri()?, traceparent: traceparent.then(Cell::default) })
    }
}

impl Fetch for HyperUtil {
    async fn fetch(&self) -> Result<usize, BoxError> {
        let mut request = get(&self.uri);
        if let Some(next) = &self.traceparent {
            let mut text = *b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
            next.set((next.get() + 1) % 10);
            text[40] = b'0' + next.get();
            let mut value = header::HeaderValue::from_bytes(&text)?;
            // As ours: in no header table, where it would be compared with all before it.
            value.set_sensitive(true);
            request.headers_mut().insert("traceparent", value);
        }
        let response = match &self.client {
            Legacy::Plain(client) => client.request(request).await?,
            Legacy::Tls(client) => client.request(request).await?,
        };
        length(response).await
    }
}

/// reqwest's own client; its peers wrap it.
pub(super) fn reqwest(bench: &Bench) -> Result<reqwest::Client, BoxError> {
    // A proxy from the environment would change what is measured.
    let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(bench.origin().tls()?);
    Ok(match bench.workload().protocol {
        Protocol::Http1 | Protocol::Http1Tls => builder.http1_only().build()?,
        Protocol::Http2 => builder.http2_prior_knowledge().build()?,
    })
}

pub(super) struct Reqwest {
    client: reqwest::Client,
    url: String,
}

impl Reqwest {
    pub(super) fn new(bench: &Bench) -> Result<Self, BoxError> {
        Ok(Self { client: reqwest(bench)?, url: bench.origin().url(bench.workload()) })
    }
}

impl Fetch for Reqwest {
    async fn fetch(&self) -> Result<usize, BoxError> {
        read(self.client.get(&self.url).send().await?).await
    }
}

pub(super) async fn read(mut response: reqwest::Response) -> Result<usize, BoxError> {
    let mut length = 0;
    while let Some(chunk) = response.chunk().await? {
        length += chunk.len();
    }
    Ok(length)
}
