//! The five doors and what happens at each, from the accept to the close.
//!
//! | door | port | what is behind it |
//! |---|---|---|
//! | `h2` | first | TLS; HTTP/2 or HTTP/1.1, as the client likes |
//! | `h1` | second | TLS; HTTP/1.1 only |
//! | `stranger` | third | TLS with a certificate that nobody trusts |
//! | `mute` | fourth | nobody: connections are accepted, and no byte ever comes back |
//! | `counts` | fifth | plain HTTP/1.1: `/counts`, and `/loaded` for a health check |
//!
//! `h2` and `h1` say goodbye to a connection that has been idle for [`IDLE`].

use std::{io::Write, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
};
use serde_json::json;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Failure, Options, answers,
    counts::{Counts, Door, End},
    idle::Idle,
};

/// How long a connection may be idle: shorter than the rounds of the load, so that some are closed.
const IDLE: Duration = Duration::from_millis(400);

/// Opens all doors and serves for ever.
pub(crate) async fn open(options: Options) -> Result<(), Failure> {
    let trusted = Identity::kept(&options).await?;
    let unknown = Identity::new(&options.name)?;
    let counts = Arc::new(Counts::default());
    let h2 = Tls::listen(&options, 0, &trusted, &[b"h2", b"http/1.1"]).await?;
    let h1 = Tls::listen(&options, 1, &trusted, &[b"http/1.1"]).await?;
    let stranger = Tls::listen(&options, 2, &unknown, &[b"http/1.1"]).await?;
    let mute = TcpListener::bind(options.door(3)).await?;
    let plain = TcpListener::bind(options.door(4)).await?;
    let ports = json!({
        "h2": h2.listener.local_addr()?.port(),
        "h1": h1.listener.local_addr()?.port(),
        "stranger": stranger.listener.local_addr()?.port(),
        "mute": mute.local_addr()?.port(),
        "counts": plain.local_addr()?.port(),
    });
    tokio::spawn(h2.serve(counts.door("h2")));
    tokio::spawn(h1.serve(counts.door("h1")));
    tokio::spawn(stranger.serve(counts.door("stranger")));
    tokio::spawn(keep_silent(mute, counts.door("mute")));
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{ports}")?;
    stdout.flush()?;
    show_counts(plain, counts).await
}

/// A certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new(name: &str) -> Result<Self, Failure> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self { certificate: made.cert.der().clone(), key: key.into() })
    }

    /// The one of the last start, so that who trusted it goes on; else a new one.
    async fn kept(options: &Options) -> Result<Self, Failure> {
        let [certificate, key] = ["ca.pem", "key.pem"].map(|name| options.certificates.join(name));
        if !certificate.exists() {
            let made = rcgen::generate_simple_self_signed([options.name.clone()])?;
            tokio::fs::write(&key, made.signing_key.serialize_pem()).await?;
            // Whoever sees the certificate sees all of it.
            let unfinished = options.certificates.join("ca.pem.new");
            tokio::fs::write(&unfinished, made.cert.pem()).await?;
            tokio::fs::rename(unfinished, &certificate).await?;
        }
        let certificate = CertificateDer::from_pem_slice(&tokio::fs::read(certificate).await?)?;
        let key = PrivateKeyDer::from_pem_slice(&tokio::fs::read(key).await?)?;
        Ok(Self { certificate, key })
    }
}

/// A door with TLS.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Tls {
    async fn listen(options: &Options, number: u16, identity: &Identity, protocols: &[&[u8]]) -> Result<Self, Failure> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let listener = TcpListener::bind(options.door(number)).await?;
        Ok(Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    async fn serve(self, door: Arc<Door>) {
        loop {
            // Out of file descriptors, say: the next one may do.
            let Ok((stream, _)) = self.listener.accept().await else { continue };
            door.accepted();
            tokio::spawn(serve_one(stream, self.acceptor.clone(), Arc::clone(&door)));
        }
    }
}

/// One connection, to its end.
async fn serve_one(stream: TcpStream, acceptor: TlsAcceptor, door: Arc<Door>) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    // Outlives the stream, so that its close is the last one and resets if it was told to.
    let socket = socket2::SockRef::from(&stream).try_clone()?;
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(failure) => {
            door.handshake_failed();
            return Err(failure.into());
        }
    };
    let idle = Arc::new(Idle::new(IDLE));
    let visit = Arc::new(door.shake_hands());
    let service = service_fn(|request| {
        let (idle, visit) = (Arc::clone(&idle), Arc::clone(&visit));
        async move {
            let _busy = idle.begin();
            answers::answer(request, &visit).await
        }
    });
    let builder = Builder::new(TokioExecutor::new());
    {
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => Some(ended),
            () = idle.over() => None,
        };
        if ended.is_none() {
            visit.ended_by(End::Idle);
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        if visit.was_reset() {
            socket.set_linger(Some(Duration::ZERO))?;
        }
    }
    visit.over();
    Ok(())
}

/// Accepts, and says nothing until the client has had enough.
async fn keep_silent(listener: TcpListener, door: Arc<Door>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        door.accepted();
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            let mut heard = [0; 1024];
            while stream.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
            door.handshake_failed();
        });
    }
}

async fn show_counts(listener: TcpListener, counts: Arc<Counts>) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        let counts = Arc::clone(&counts);
        let service = service_fn(move |request| std::future::ready(answers::tell(&request, &counts)));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
