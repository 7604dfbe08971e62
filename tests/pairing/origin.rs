//! Origins behind a pipe: HTTP/1.1 byte by byte from a script, HTTP/2 by the `h2` crate, either one with TLS if asked to.
//!
//! In comes a pipe's end, out goes what the scenario's server says. A script whose client has gone ends quietly.

use std::{io, sync::Arc};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Connection, SendResponse},
};
use http::{HeaderMap, Request, Response};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    task::yield_now,
};
use tokio_rustls::TlsAcceptor;

use self::Step::{Body, Close, Head, Send};

/// One thing that a server does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Reads to the end of a request head.
    Head,
    /// Reads so many bytes.
    Body(usize),
    /// Writes, and lets the others run.
    Send(&'static str),
    /// Ends its side.
    Close,
}

/// What stands at the other end of the pipes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin {
    /// The first connection plays the first script, and so on; what comes later plays the last one again.
    Http1(&'static [&'static [Step]]),
    Http2(Way),
}

/// What an HTTP/2 origin does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Reads the body, answers with two pieces and trailers.
    Answer,
    /// Answers with a head alone.
    Empty,
    /// Resets the stream in the middle of the answer.
    Reset,
    /// Refuses the connection's first stream, answers the others.
    Refuse,
    /// Says GOAWAY after the first request, and answers it.
    GoAway,
    /// Breaks off with GOAWAY in the middle of the answer.
    BreakOff,
    /// Takes 16 bytes of an upload at a time.
    Narrow,
    /// Takes 16 bytes of an upload, then no more, and does not answer.
    Stuck,
    /// Allows one stream at a time.
    OneStream,
    /// Takes requests and says nothing.
    Silent,
}

/// Serves one connection to its end. `tunnel`: once it was asked for one, and said yes.
pub(crate) async fn serve(
    origin: Origin,
    number: usize,
    tls: Option<Arc<ServerConfig>>,
    tunnel: bool,
    mut pipe: DuplexStream,
) {
    if tunnel && connected(&mut pipe).await.is_err() {
        return;
    }
    match tls {
        None => converse(origin, number, pipe).await,
        Some(config) => {
            if let Ok(stream) = TlsAcceptor::from(config).accept(pipe).await {
                converse(origin, number, stream).await;
            }
        }
    }
}

async fn connected(pipe: &mut DuplexStream) -> io::Result<()> {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        more(pipe, &mut asked).await?;
    }
    pipe.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await
}

async fn converse<T: AsyncRead + AsyncWrite + Unpin>(origin: Origin, number: usize, io: T) {
    match origin {
        Origin::Http1(scripts) => {
            let script = scripts.get(number).or(scripts.last()).copied().unwrap_or_default();
            // A client that has gone ends the script.
            let _ = play(io, script).await;
        }
        Origin::Http2(way) => http2(io, way).await,
    }
}

async fn play<T: AsyncRead + AsyncWrite + Unpin>(mut io: T, script: &[Step]) -> io::Result<()> {
    let mut unread = Vec::new();
    for step in script {
        match step {
            Head => {
                let end = loop {
                    if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
                        break at + 4;
                    }
                    more(&mut io, &mut unread).await?;
                };
                unread.drain(..end);
            }
            Body(length) => {
                while unread.len() < *length {
                    more(&mut io, &mut unread).await?;
                }
                unread.drain(..*length);
            }
            Send(text) => {
                io.write_all(text.as_bytes()).await?;
                io.flush().await?;
                // What was sent is read before there is more.
                for _ in 0..3 {
                    yield_now().await;
                }
            }
            Close => {
                io.shutdown().await?;
                break;
            }
        }
    }
    loop {
        more(&mut io, &mut unread).await?;
        unread.clear();
    }
}

async fn more<T: AsyncRead + Unpin>(io: &mut T, unread: &mut Vec<u8>) -> io::Result<()> {
    match io.read_buf(unread).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn http2<T: AsyncRead + AsyncWrite + Unpin>(io: T, way: Way) {
    let mut builder = h2::server::Builder::new();
    if matches!(way, Way::Narrow | Way::Stuck) {
        builder.initial_window_size(16);
    }
    if way == Way::OneStream {
        builder.max_concurrent_streams(1);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
    let mut held = Vec::new();
    let mut number = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        number += 1;
        match way {
            Way::Answer | Way::Narrow | Way::OneStream => drop(tokio::spawn(answer(request, respond))),
            Way::Empty => drop(respond.send_response(Response::new(()), true)),
            Way::Refuse if number == 1 => respond.send_reset(Reason::REFUSED_STREAM),
            Way::Refuse => drop(tokio::spawn(answer(request, respond))),
            Way::GoAway => {
                tokio::spawn(answer(request, respond));
                connection.graceful_shutdown();
            }
            Way::Reset => {
                if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
                    let _ = stream.send_data(Bytes::from_static(b"half"), false);
                    tokio::spawn(async move {
                        pause().await;
                        stream.send_reset(Reason::INTERNAL_ERROR);
                    });
                }
            }
            Way::BreakOff => {
                break_off(&mut connection, &mut respond).await;
                held.push((request, respond));
            }
            Way::Stuck | Way::Silent => held.push((request, respond)),
        }
    }
}

async fn break_off<T: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<T, Bytes>,
    respond: &mut SendResponse<Bytes>,
) {
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(Bytes::from_static(b"half"), false);
    }
    // The connection has to be polled to write what was said.
    tokio::select! {
        _ = connection.accept() => {}
        () = pause() => {}
    }
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Option<()> {
    let mut body = request.into_body();
    while let Some(piece) = body.data().await {
        let length = piece.ok()?.len();
        pause().await;
        body.flow_control().release_capacity(length).ok()?;
    }
    let mut stream = respond.send_response(Response::new(()), false).ok()?;
    for piece in ["first ", "second"] {
        pause().await;
        stream.send_data(Bytes::from_static(piece.as_bytes()), false).ok()?;
    }
    pause().await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", http::HeaderValue::from_static("12"));
    stream.send_trailers(trailers).ok()
}

/// Lets the others run.
async fn pause() {
    for _ in 0..3 {
        yield_now().await;
    }
}
