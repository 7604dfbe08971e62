//! TCP: one address after the other, until one answers.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use crate::{
    clock,
    config::DialConfig,
    error::{Error, Kind},
    hooks::emit::Hooks,
    phase::Phase,
    transport::Socket,
};

/// The first address that can be connected to. Each gets its share of the time that is left, so that a silent one does
/// not use up the others' time.
///
/// # Errors
///
/// The last address's error, once all have failed.
pub(super) async fn first_of(
    addrs: &[SocketAddr],
    config: &DialConfig,
    deadline: Instant,
    hooks: &Hooks,
) -> Result<Socket, Error> {
    let mut last = Error::new(Kind::NoAddresses, Phase::Dns);
    for (index, addr) in addrs.iter().enumerate() {
        let guard = hooks.connect(*addr, u32::try_from(index + 1).unwrap_or(u32::MAX));
        let share = share(deadline, addrs.len() - index);
        let result = match tokio::time::timeout_at(share.into(), connect(*addr, config)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Error::with(Kind::of_connect(&error), Phase::Connect, error)),
            Err(_) => Err(Error::timeout(Phase::Connect)),
        };
        guard.done(result.as_ref().map(|stream| stream.local_addr().ok()));
        match result {
            Ok(stream) => return Ok(Socket::tcp(stream)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An equal part of the time left, but at least 2 s (as Go does), and never past the deadline.
fn share(deadline: Instant, addrs_left: usize) -> Instant {
    let now = clock::now();
    let left = deadline.saturating_duration_since(now);
    let part = left / u32::try_from(addrs_left).unwrap_or(u32::MAX).max(1);
    now + part.max(Duration::from_secs(2)).min(left)
}

async fn connect(addr: SocketAddr, config: &DialConfig) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    match config.local_address {
        Some(local @ IpAddr::V4(_)) if addr.is_ipv4() => socket.bind(SocketAddr::new(local, 0))?,
        Some(local @ IpAddr::V6(_)) if addr.is_ipv6() => socket.bind(SocketAddr::new(local, 0))?,
        _ => {}
    }
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(config.nodelay)?;
    if let Some(interval) = config.keep_alive {
        // A platform without this knob still has a working connection.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(interval));
    }
    Ok(stream)
}
