//! A server that does, byte by byte, what its script says. For the answers that a real server never gives.
//!
//! In comes an accepted connection and the steps to play; what it reads goes to the record. A script that has ended
//! closes its connection, politely; so does one whose client has gone.

use std::{collections::HashMap, io, net::Shutdown, sync::Mutex, time::Duration};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

use super::{
    frames,
    gate::Gate,
    origin::Wire,
    record::{Record, SeenRequest},
};

/// One thing that the server does.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Reads to the end of a request head. Counts as a request.
    ReadHead,
    /// Reads so many bytes: of a body, of an HTTP/2 preface.
    Read(usize),
    /// Reads HTTP/2 frames, behind the preface, to the end of the first one of this type on this stream.
    ReadFrame(u8, u32),
    /// Writes, and flushes.
    Write(Bytes),
    /// Writes these bytes again and again, one each time that so much time has passed, until the client has gone.
    Drip(&'static [u8], Duration),
    /// Writes these bytes again and again, as fast as they are taken, until the client has gone.
    #[allow(dead_code, reason = "hostile origins alone do it")]
    Flood(Bytes),
    /// Writes beneath TLS, as nobody who has the keys would.
    WriteBeneath(Bytes),
    /// Waits until the test opens `origin.gate(name)`.
    Gate(&'static str),
    /// Ends its side and waits for the client's end.
    Close,
    /// Ends its side beneath TLS, without TLS's own word for it, and waits for the client's end.
    CloseBeneath,
    /// Breaks the connection off: the client gets a RST.
    Reset,
    /// Waits until the client has closed its side.
    AwaitClose,
    /// Neither reads nor writes, ever again; the connection stays open as long as the origin lives.
    Stall,
}

/// The step that writes these bytes.
pub(crate) fn write(bytes: impl Into<Bytes>) -> Step {
    Step::Write(bytes.into())
}

/// The gates of one origin, by name.
#[derive(Default)]
pub(crate) struct Gates(Mutex<HashMap<&'static str, Gate>>);

impl Gates {
    pub(crate) fn get(&self, name: &'static str) -> Gate {
        self.0.lock().expect("nothing panics under the lock").entry(name).or_default().clone()
    }
}

/// Plays the steps on one connection.
pub(crate) async fn play(
    mut wire: Wire,
    number: usize,
    steps: &[Step],
    gates: &Gates,
    record: &watch::Sender<Record>,
) -> io::Result<()> {
    let mut input = Input { unread: BytesMut::new(), number, record };
    for step in steps {
        match step {
            Step::ReadHead => input.head(&mut wire).await?,
            Step::Read(count) => input.exactly(&mut wire, *count).await?,
            Step::ReadFrame(kind, stream) => input.frame(&mut wire, *kind, *stream).await?,
            Step::Write(bytes) => {
                wire.io().write_all(bytes).await?;
                wire.io().flush().await?;
            }
            Step::Drip(bytes, pause) => {
                for byte in bytes.iter().cycle() {
                    wire.io().write_all(&[*byte]).await?;
                    wire.io().flush().await?;
                    tokio::time::sleep(*pause).await;
                }
            }
            Step::Flood(bytes) => loop {
                wire.io().write_all(bytes).await?;
                record.send_modify(|record| record.connection(number).flooded += bytes.len());
            },
            Step::WriteBeneath(bytes) => drop(wire.tcp().try_write(bytes)?),
            Step::Gate(name) => gates.get(name).wait().await,
            Step::Close => break,
            Step::CloseBeneath => {
                SockRef::from(wire.tcp()).shutdown(Shutdown::Write)?;
                return input.until_end(&mut wire).await;
            }
            Step::AwaitClose => input.until_end(&mut wire).await?,
            Step::Stall => std::future::pending().await,
            Step::Reset => {
                // Without time to linger, closing sends RST instead of FIN (RFC 9293 §3.10.4).
                return SockRef::from(wire.tcp()).set_linger(Some(Duration::ZERO));
            }
        }
    }
    wire.io().shutdown().await?;
    // A socket that is closed with unread bytes sends RST after its FIN; the client shall see the FIN alone.
    input.until_end(&mut wire).await
}

/// The bytes of the client, recorded as they come.
struct Input<'a> {
    unread: BytesMut,
    number: usize,
    record: &'a watch::Sender<Record>,
}

impl Input<'_> {
    async fn head(&mut self, wire: &mut Wire) -> io::Result<()> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more(wire).await?;
        };
        let head = String::from_utf8_lossy(&self.unread.split_to(end)).into_owned();
        let request = SeenRequest::of_head(self.number, &head);
        self.record.send_modify(|record| {
            record.connection(self.number).heads.push(head);
            record.requests.push(request);
        });
        Ok(())
    }

    async fn exactly(&mut self, wire: &mut Wire, count: usize) -> io::Result<()> {
        while self.unread.len() < count {
            self.more(wire).await?;
        }
        let _ = self.unread.split_to(count);
        Ok(())
    }

    async fn frame(&mut self, wire: &mut Wire, kind: u8, stream: u32) -> io::Result<()> {
        loop {
            let (found, length) = loop {
                if let Some(found) = frames::next(&self.unread) {
                    break found;
                }
                self.more(wire).await?;
            };
            let _ = self.unread.split_to(length);
            if (found.kind, found.stream) == (kind, stream) {
                return Ok(());
            }
        }
    }

    async fn until_end(&mut self, wire: &mut Wire) -> io::Result<()> {
        loop {
            match self.more(wire).await {
                Ok(()) => self.unread.clear(),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// At least one byte more, or the client's end as an error.
    async fn more(&mut self, wire: &mut Wire) -> io::Result<()> {
        let before = self.unread.len();
        if wire.io().read_buf(&mut self.unread).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let new = &self.unread[before..];
        self.record.send_modify(|record| record.connection(self.number).received.extend_from_slice(new));
        Ok(())
    }
}
