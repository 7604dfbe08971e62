//! TCP: the addresses of a host in a race, each with its own pair of hooks.
//!
//! In: addresses in the order in which to try them. Out: one connected socket, or the error that says most. The race
//! itself is in `race.rs`; here are its attempts.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use super::race::race;
use crate::{
    clock,
    config::DialConfig,
    error::{Error, Kind},
    hooks::emit::Hooks,
    phase::Phase,
    transport::{LocalEnd, Socket, cookie},
};

/// The first connection that comes about. The sockets of the others close, and are told as `canceled`.
///
/// # Errors
///
/// That of one address, once all have failed: see [`most_telling`].
pub(super) async fn first_of(
    addrs: &[SocketAddr],
    config: &DialConfig,
    deadline: Instant,
    hooks: &Hooks,
) -> Result<Socket, Error> {
    let connect = |addr| connect(addr, config);
    // Asked only where it is told: it is a system call.
    let watched = hooks.installed();
    let local = |stream: &TcpStream| LocalEnd {
        addr: stream.local_addr().ok(),
        cookie: if watched { cookie(stream) } else { None },
    };
    first_connected(addrs, config.racing_delay, deadline, hooks, connect, local).await.map(Socket::tcp)
}

async fn first_connected<T, F: Future<Output = io::Result<T>>>(
    addrs: &[SocketAddr],
    delay: Option<Duration>,
    deadline: Instant,
    hooks: &Hooks,
    connect: impl Fn(SocketAddr) -> F,
    local: impl Fn(&T) -> LocalEnd,
) -> Result<T, Error> {
    let attempts = addrs.iter().copied().enumerate().map(|(index, addr)| {
        // In a race, a silent address holds nobody up. One after the other, it must not use up the others' time.
        let until = if delay.is_some() { deadline } else { share(deadline, addrs.len() - index) };
        // The socket is made before the clock is read: it is no part of the handshake.
        let connecting = connect(addr);
        let guard = hooks.connect(addr, u32::try_from(index + 1).unwrap_or(u32::MAX));
        let local = &local;
        async move {
            let result = tokio::time::timeout_at(until.into(), connecting).await;
            let at = hooks.now();
            let result = match result {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(Error::with(Kind::of_connect(&error), Phase::Connect, error)),
                Err(_) => Err(Error::timeout(Phase::Connect)),
            };
            guard.done(at, result.as_ref().map(local));
            result
        }
    });
    race(attempts, delay).await.map_err(most_telling)
}

/// The error of the address that was tried first, as the one most wanted. But that this machine has no way to an address
/// (often: no IPv6) says little as long as another one has been tried on the network.
fn most_telling(errors: Vec<Error>) -> Error {
    let no_way = |error: &Error| {
        matches!(error.kind(), Kind::NetworkUnreachable | Kind::AddressNotAvailable | Kind::ConnectFailed)
    };
    let tried = errors.iter().position(|error| !no_way(error)).unwrap_or(0);
    errors.into_iter().nth(tried).unwrap_or_else(|| Error::new(Kind::NoAddresses, Phase::Dns))
}

/// An equal part of the time left, but at least 2 s (as Go does), and never past the deadline.
fn share(deadline: Instant, addrs_left: usize) -> Instant {
    let now = clock::now();
    let left = deadline.saturating_duration_since(now);
    let part = left / u32::try_from(addrs_left).unwrap_or(u32::MAX).max(1);
    now + part.max(Duration::from_secs(2)).min(left)
}

fn connect(addr: SocketAddr, config: &DialConfig) -> impl Future<Output = io::Result<TcpStream>> + use<> {
    let socket = socket(addr, config);
    async move { socket?.connect(addr).await }
}

/// A socket with all its options, so that nothing is left to do once the handshake has ended.
fn socket(addr: SocketAddr, config: &DialConfig) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    match config.local_address {
        Some(local @ IpAddr::V4(_)) if addr.is_ipv4() => socket.bind(SocketAddr::new(local, 0))?,
        Some(local @ IpAddr::V6(_)) if addr.is_ipv6() => socket.bind(SocketAddr::new(local, 0))?,
        _ => {}
    }
    socket.set_nodelay(config.nodelay)?;
    if let Some(interval) = config.keep_alive {
        // A platform without this knob still has a working connection.
        let _ = SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(interval));
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        net::Ipv4Addr,
        sync::{Arc, Mutex},
    };

    use proptest::prelude::*;

    use super::*;
    use crate::hooks::{ClientTrace, ConnectDoneInfo, ConnectStartInfo};

    /// What becomes of an attempt, so many milliseconds after its start.
    #[derive(Debug, Clone, Copy)]
    enum Fate {
        Connects(u64),
        Fails(u64, io::ErrorKind),
        Silent,
    }

    use Fate::{Connects, Fails, Silent};
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NetworkUnreachable};

    /// An attempt as its hooks told it, in milliseconds since the beginning.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Told {
        number: u32,
        addr: SocketAddr,
        start: u64,
        dones: Vec<(u64, &'static str)>,
    }

    struct Log {
        begin: Instant,
        told: Mutex<Vec<Told>>,
    }

    impl Log {
        fn ms(&self, at: Instant) -> u64 {
            u64::try_from(at.duration_since(self.begin).as_millis()).expect("a short test")
        }
    }

    impl ClientTrace for Log {
        fn connect_start(&self, info: &ConnectStartInfo) {
            let addr = info.addr.expect("an address");
            let told = Told { number: info.attempt, addr, start: self.ms(info.at), dones: Vec::new() };
            self.told.lock().expect("no panic").push(told);
        }

        fn connect_done(&self, info: &ConnectDoneInfo<'_>) {
            let mut told = self.told.lock().expect("no panic");
            let of = told.iter_mut().find(|told| told.number == info.attempt).expect("a done has its start");
            assert_eq!(Some(of.addr), info.addr);
            assert_eq!(info.local.is_some(), info.error.is_none());
            of.dones.push((self.ms(info.at), info.error.map_or("connected", Error::error_type)));
        }
    }

    /// What came of a race over a network that is not there.
    #[derive(Debug)]
    struct Raced {
        /// The address that won, by its place, or the error.
        result: Result<usize, &'static str>,
        told: Vec<Told>,
        end: u64,
        /// Sockets that are still open, the winner's excepted.
        leaked: usize,
    }

    const LIMIT: u64 = 30_000;

    fn addr(index: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(index + 1).expect("few")))
    }

    /// Dropped after `cut` ms.
    fn raced(fates: &[Fate], delay: Option<u64>, cut: Option<u64>) -> Raced {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let begin = clock::now();
            let log = Arc::new(Log { begin, told: Mutex::default() });
            let hooks = Hooks::new(None, Some(Arc::clone(&log) as Arc<dyn ClientTrace>));
            let open = Arc::new(());
            let connect = |addr: SocketAddr| {
                let (socket, index) = (Arc::clone(&open), usize::from(addr.port()) - 1);
                let fate = fates[index];
                async move {
                    let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
                    match fate {
                        Connects(after) => pause(after).await,
                        Fails(after, error) => {
                            pause(after).await;
                            return Err(error.into());
                        }
                        Silent => pending().await,
                    }
                    Ok((index, socket))
                }
            };
            let addrs: Vec<_> = (0..fates.len()).map(addr).collect();
            let (delay, deadline) = (delay.map(Duration::from_millis), begin + Duration::from_millis(LIMIT));
            let race = first_connected(&addrs, delay, deadline, &hooks, connect, |_| LocalEnd {
                addr: Some(addr(0)),
                cookie: None,
            });
            let result = match cut {
                None => race.await,
                Some(cut) => {
                    let cut = tokio::time::timeout(Duration::from_millis(cut), race).await;
                    cut.unwrap_or_else(|_| Err(Error::canceled(Phase::Connect)))
                }
            };
            let won = usize::from(result.is_ok());
            let leaked = Arc::strong_count(&open) - 1 - won;
            let told = std::mem::take(&mut *log.told.lock().expect("no panic"));
            let result = result.map(|(index, _)| index).map_err(|error| error.error_type());
            Raced { result, told, end: log.ms(clock::now()), leaked }
        })
    }

    /// Start, end and outcome of each attempt.
    fn bars(raced: &Raced) -> Vec<(u64, u64, &'static str)> {
        let bar = |told: &Told| {
            let [(end, outcome)] = told.dones[..] else { panic!("not one done: {told:?}") };
            (told.start, end, outcome)
        };
        raced.told.iter().map(bar).collect()
    }

    #[test]
    fn a_silent_first_address_costs_its_head_start_and_not_the_timeout() {
        let raced = raced(&[Silent, Connects(20)], Some(250), None);
        assert_eq!((raced.result, raced.end, raced.leaked), (Ok(1), 270, 0));
        assert_eq!(bars(&raced), [(0, 270, "canceled"), (250, 270, "connected")]);
    }

    #[test]
    fn an_address_that_fails_is_told_at_once_and_followed_at_once() {
        let raced = raced(&[Fails(5, ConnectionRefused), Connects(20)], Some(250), None);
        assert_eq!(bars(&raced), [(0, 5, "connection_refused"), (5, 25, "connected")]);
    }

    #[test]
    fn the_first_address_may_win_after_its_head_start() {
        let raced = raced(&[Connects(300), Connects(100)], Some(250), None);
        assert_eq!(raced.result, Ok(0));
        assert_eq!(bars(&raced), [(0, 300, "connected"), (250, 300, "canceled")]);
    }

    #[test]
    fn two_that_connect_in_the_same_moment_leave_one_socket_open() {
        let raced = raced(&[Connects(300), Connects(50)], Some(250), None);
        assert_eq!((raced.result, raced.leaked), (Ok(0), 0));
        assert_eq!(bars(&raced), [(0, 300, "connected"), (250, 300, "canceled")]);
    }

    #[test]
    fn a_failure_of_an_older_attempt_does_not_shorten_the_newest_ones_head_start() {
        let raced = raced(&[Fails(260, ConnectionReset), Silent, Connects(10)], Some(250), None);
        assert_eq!(bars(&raced), [(0, 260, "connection_reset"), (250, 510, "canceled"), (500, 510, "connected")]);
    }

    #[test]
    fn without_a_race_each_address_has_its_share_of_the_time() {
        let raced = raced(&[Silent, Fails(10, ConnectionRefused), Connects(10)], None, None);
        let expected = [(0, 10_000, "timeout"), (10_000, 10_010, "connection_refused"), (10_010, 10_020, "connected")];
        assert_eq!(bars(&raced), expected);
    }

    #[test]
    fn the_deadline_ends_all_that_are_silent() {
        let raced = raced(&[Silent, Fails(10, ConnectionRefused), Silent], Some(250), None);
        assert_eq!((raced.result, raced.end, raced.leaked), (Err("timeout"), LIMIT, 0));
        assert_eq!(bars(&raced), [(0, LIMIT, "timeout"), (250, 260, "connection_refused"), (260, LIMIT, "timeout")]);
    }

    #[test]
    fn the_error_is_that_of_the_first_address_that_was_reached_for() {
        let (refused, reset) = (Fails(0, ConnectionRefused), Fails(0, ConnectionReset));
        let no_way = Fails(0, NetworkUnreachable);
        assert_eq!(raced(&[refused, reset], Some(250), None).result, Err("connection_refused"));
        assert_eq!(raced(&[Fails(300, ConnectionReset), refused], Some(250), None).result, Err("connection_reset"));
        assert_eq!(raced(&[no_way, refused, reset], Some(250), None).result, Err("connection_refused"));
        assert_eq!(raced(&[no_way, no_way], Some(250), None).result, Err("network_unreachable"));
    }

    #[test]
    fn no_delay_at_all_starts_all_at_once() {
        let raced = raced(&[Silent, Silent, Connects(7)], Some(0), None);
        assert_eq!(bars(&raced), [(0, 7, "canceled"), (0, 7, "canceled"), (0, 7, "connected")]);
    }

    /// A moment and a number.
    type Winner = Option<(u64, usize)>;

    /// The rules, said a second time: each attempt's start, its end if it were left alone, and who wins.
    fn expected(fates: &[Fate], delay: Option<u64>) -> (Vec<(u64, u64)>, Winner) {
        let (mut attempts, mut winner, mut start) = (Vec::new(), None, 0);
        for (index, fate) in fates.iter().enumerate() {
            if winner.is_some_and(|(end, _)| end <= start) {
                break;
            }
            let end = match fate {
                Connects(after) | Fails(after, _) => start + after,
                Silent => u64::MAX,
            };
            attempts.push((start, end));
            if matches!(fate, Connects(_)) {
                winner = [winner, Some((end, index))].into_iter().flatten().min();
            }
            let failed = if matches!(fate, Fails(..)) { end } else { u64::MAX };
            start = failed.min(delay.map_or(u64::MAX, |delay| start + delay));
        }
        (attempts, winner)
    }

    fn fate() -> impl Strategy<Value = Fate> {
        prop_oneof![
            1 => (0_u64..600).prop_map(Connects),
            3 => (0_u64..600).prop_map(|after| Fails(after, ConnectionRefused)),
            2 => Just(Silent),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn each_attempt_starts_when_it_may_and_the_earliest_success_wins(
            fates in prop::collection::vec(fate(), 1..=8),
            delay in prop_oneof![Just(0_u64), Just(250), 1_u64..600],
        ) {
            let raced = raced(&fates, Some(delay), None);
            let (attempts, winner) = expected(&fates, Some(delay));
            let over = winner.map_or(LIMIT, |(end, _)| end);
            prop_assert_eq!(raced.result.ok(), winner.map(|(_, index)| index));
            let ends = attempts.iter().enumerate().map(|(index, &(start, end))| match fates[index] {
                _ if winner == Some((end, index)) => (start, end, "connected"),
                Fails(..) if end < over => (start, end, "connection_refused"),
                // What ends in the same moment as the race may be told either way, but not later.
                _ if winner.is_some() => (start, over, "canceled"),
                _ => (start, LIMIT, "timeout"),
            });
            let told = bars(&raced);
            prop_assert_eq!(told.len(), attempts.len());
            for (told, expected) in told.into_iter().zip(ends) {
                let tie = told.1 == over && told.2 == "connection_refused";
                prop_assert!(told == expected || (tie && (told.0, told.1) == (expected.0, expected.1)), "{told:?} {expected:?}");
            }
            prop_assert_eq!(raced.leaked, 0);
        }

        #[test]
        fn dropped_at_any_moment_every_open_attempt_ends_as_canceled_then(
            fates in prop::collection::vec(fate(), 1..=6),
            delay in prop::option::of(Just(250_u64)),
            cut in 0_u64..2_000,
        ) {
            let raced = raced(&fates, delay, Some(cut));
            prop_assert_eq!(raced.leaked, 0);
            for (start, end, outcome) in bars(&raced) {
                prop_assert!(start <= end && end <= raced.end);
                if raced.result == Err("canceled") && end == raced.end {
                    prop_assert!(outcome != "connected");
                }
                prop_assert!(outcome != "canceled" || end == raced.end);
            }
        }
    }
}
