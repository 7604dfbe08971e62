//! The origin: a keep-alive HTTP/1.1 server in a process of its own.
//!
//! The bench's binary starts itself again with the one argument `serve`; the child binds a free loopback port, prints
//! it on a line, and answers every request with the same five bytes until it is killed.

use std::{
    convert::Infallible,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::BoxError;

/// The origin's process; killed on drop.
pub struct Origin {
    process: Child,
    url: String,
}

impl Origin {
    /// Starts the origin and waits until it listens.
    ///
    /// # Errors
    ///
    /// When the process cannot be started or does not name its port.
    pub fn start() -> Result<Self, BoxError> {
        let mut process =
            Command::new(std::env::current_exe()?).arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().expect("stdout was asked to be piped");
        let mut port = String::new();
        BufReader::new(stdout).read_line(&mut port)?;
        let port: u16 = port.trim().parse()?;
        Ok(Self { process, url: format!("http://127.0.0.1:{port}/") })
    }

    /// The one address to ask for.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
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
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", listener.local_addr()?.port())?;
        stdout.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    })
}

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(Bytes::from_static(b"hello"))))
}
