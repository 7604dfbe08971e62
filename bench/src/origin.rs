//! The origin: an HTTP server in a process of its own, and the sink of the exporters.
//!
//! The bench's binary starts itself again with the one argument `serve`. The child binds three free loopback ports (HTTP/1.1,
//! HTTP/1.1 over TLS, HTTP/2), prints them and its certificate, and answers until it is killed: `/big` with 1 MiB, `/close`
//! with an end of the connection, `/never` not at all, `/v1/…` as a collector that takes everything, all else with five bytes.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    BoxError,
    workload::{BIG, Protocol, SMALL, Workload},
};

/// The origin's process; killed on drop.
pub struct Origin {
    process: Child,
    ports: [u16; 3],
    certificate: CertificateDer<'static>,
}

impl Origin {
    /// Starts the origin and waits until it listens.
    ///
    /// # Errors
    ///
    /// When the process cannot be started or does not name its ports.
    pub fn start() -> Result<Self, BoxError> {
        let mut process =
            Command::new(std::env::current_exe()?).arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout was asked to be piped"));
        let mut ports = [0; 3];
        for port in &mut ports {
            let mut line = String::new();
            stdout.read_line(&mut line)?;
            *port = line.trim().parse()?;
        }
        let certificate = CertificateDer::from_pem_reader(stdout)?;
        Ok(Self { process, ports, certificate })
    }

    pub(crate) fn url(&self, workload: Workload) -> String {
        let [http1, tls, http2] = self.ports;
        let base = match workload.protocol {
            Protocol::Http1 => format!("http://127.0.0.1:{http1}"),
            Protocol::Http1Tls => format!("https://localhost:{tls}"),
            Protocol::Http2 => format!("http://127.0.0.1:{http2}"),
        };
        base + workload.path()
    }

    /// Where spans and metrics go.
    pub(crate) fn collector(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// TLS as every row has it.
    pub(crate) fn tls(&self) -> Result<rustls::ClientConfig, BoxError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Nothing can be done about an origin that is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves until killed: the child's whole life.
///
/// # Errors
///
/// When no port can be bound or the parent has gone.
pub fn serve() -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let tls = tokio_rustls::TlsAcceptor::from(Arc::new(server_tls(&identity)?));
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await?,
            TcpListener::bind("127.0.0.1:0").await?,
            TcpListener::bind("127.0.0.1:0").await?,
        ];
        let mut stdout = std::io::stdout();
        for listener in &listeners {
            writeln!(stdout, "{}", listener.local_addr()?.port())?;
        }
        stdout.write_all(identity.cert.pem().as_bytes())?;
        stdout.flush()?;
        let [plain, over_tls, http2] = &listeners;
        loop {
            tokio::select! {
                accepted = plain.accept() => drop(tokio::spawn(http1(accepted?.0))),
                accepted = over_tls.accept() => drop(tokio::spawn(http1_tls(accepted?.0, tls.clone()))),
                accepted = http2.accept() => drop(tokio::spawn(http2_plain(accepted?.0))),
            }
        }
    })
}

fn server_tls(identity: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Result<rustls::ServerConfig, BoxError> {
    let key = PrivateKeyDer::from_pem_slice(identity.signing_key.serialize_pem().as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_no_client_auth().with_single_cert(vec![identity.cert.der().clone()], key)?)
}

async fn http1(stream: TcpStream) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await?)
}

async fn http1_tls(stream: TcpStream, tls: tokio_rustls::TlsAcceptor) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(tls.accept(stream).await?);
    Ok(http1::Builder::new().serve_connection(stream, service_fn(answer)).await?)
}

async fn http2_plain(stream: TcpStream) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let builder = http2::Builder::new(TokioExecutor::new());
    Ok(builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await?)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    static BODY: [u8; BIG] = [b'x'; BIG];
    let mut response = Response::new(Full::new(Bytes::from_static(match request.uri().path() {
        "/big" => &BODY,
        _ if request.method() == Method::POST => b"", // what was exported has been taken
        _ => SMALL,
    })));
    if request.uri().path() == "/never" {
        return std::future::pending().await;
    }
    if request.uri().path() == "/close" {
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    if request.method() == Method::POST {
        let protobuf = header::HeaderValue::from_static("application/x-protobuf");
        response.headers_mut().insert(header::CONTENT_TYPE, protobuf);
        // An exporter that goes away in the middle is nobody's error here.
        let _ = request.into_body().collect().await;
    }
    Ok(response)
}
