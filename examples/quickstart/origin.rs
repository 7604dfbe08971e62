//! A local HTTPS server, HTTP/1.1 and HTTP/2 by ALPN, with a certificate made at its start.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, channel::Channel, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Origin {
    pub(crate) addr: SocketAddr,
    pub(crate) certificate: CertificateDer<'static>,
}

pub(crate) async fn start() -> Result<Origin, Failure> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    // The address that the name has on this machine, be it 127.0.0.1 or ::1.
    let listener = TcpListener::bind(("localhost", 0)).await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let stream = TokioIo::new(acceptor.accept(stream).await?);
                let service = hyper::service::service_fn(answer);
                Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
            });
        }
    });
    Ok(Origin { addr, certificate })
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let full = |text: &'static str| Full::new(Bytes::from_static(text.as_bytes())).boxed();
    let response = match request.uri().path() {
        "/" => Response::new(full("hello\n")),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(80)).await;
            Response::new(full("at last\n"))
        }
        "/report" => Response::new(in_parts()),
        _ => {
            let mut response = Response::new(full("no such page\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    Ok(response)
}

/// Five parts, a pause before each.
fn in_parts() -> BoxBody<Bytes, Infallible> {
    let (mut parts, body) = Channel::new(1);
    tokio::spawn(async move {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(8)).await;
            if parts.send_data(Bytes::from(vec![b'.'; 20_000])).await.is_err() {
                return;
            }
        }
    });
    body.boxed()
}
