//! What the kernel knows of a TCP connection (`TCP_INFO`, Linux).
//!
//! In: a socket. Out: [`TcpInfo`], read out of the first 224 bytes of the kernel's answer. That much every kernel since 4.19
//! gives; it never moves what is there.

use std::time::Duration;

/// One look at a connection's state in the kernel (`struct tcp_info`, linux/tcp.h). It belongs to the connection: on HTTP/2,
/// other requests have their part in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpInfo {
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Its mean deviation.
    pub rtt_variation: Duration,
    /// The shortest round trip seen; absent if none was measured.
    pub min_rtt: Option<Duration>,
    /// Segments that were sent again, since the connection was made.
    pub retransmits: u32,
    /// The congestion window, in segments.
    pub congestion_window: u32,
    /// Bytes of a segment that is sent.
    pub segment_size: u32,
    /// Segments that were sent and are not acknowledged.
    pub unacked: u32,
    /// Bytes that are written and not sent.
    pub unsent_bytes: u32,
    /// Bytes that were sent, those sent again included.
    pub bytes_sent: u64,
    /// Bytes that were sent again.
    pub bytes_retransmitted: u64,
    /// Bytes that came, in their order.
    pub bytes_received: u64,
    /// The latest rate at which the peer took bytes, in bytes per second; absent as long as none was measured.
    pub delivery_rate: Option<u64>,
    /// How long there was something to send.
    pub busy: Duration,
    /// How long of that the peer's receive window was shut.
    pub limited_by_peer: Duration,
    /// How long of that this end's send buffer was too small.
    pub limited_by_buffer: Duration,
    /// Since when nothing has come, in steps of the kernel's clock (1 to 10 ms).
    pub since_received: Duration,
}

/// The connection's state before a request and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpUse {
    /// As the request got it.
    pub checkout: TcpInfo,
    /// As the response was over; absent if the socket was gone by then.
    pub done: Option<TcpInfo>,
    /// How long the last bytes of the response lay in the kernel before they were read: the runtime's threads were busy
    /// elsewhere, mostly blocked. Absent below 10 ms, which is as exact as the kernel's clock is on some machines; on HTTP/2,
    /// where the last bytes may be another's; and where the body was not read to its end.
    pub unread: Option<Duration>,
}

impl TcpUse {
    /// The later of the two looks.
    #[must_use]
    pub fn last(&self) -> &TcpInfo {
        self.done.as_ref().unwrap_or(&self.checkout)
    }

    /// Segments that were sent again meanwhile; absent if there was no second look.
    #[must_use]
    pub fn retransmits(&self) -> Option<u32> {
        self.done.map(|done| done.retransmits.saturating_sub(self.checkout.retransmits))
    }
}

/// Below this, what lay in the kernel can't be told from a step of its clock (HZ=100).
pub(crate) const STEP: Duration = Duration::from_millis(10);

/// So much of the kernel's answer is read.
#[cfg(all(feature = "tcp-info", any(target_os = "linux", target_os = "android")))]
const LENGTH: usize = 224;

#[cfg(all(feature = "tcp-info", any(target_os = "linux", target_os = "android")))]
mod option {
    /// The socket option, as bytes: with the C struct of the `libc` crate, an older kernel's answer would be too short, and
    /// nix panics then.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Raw;

    nix::getsockopt_impl!(
        Raw,
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
        [u8; super::LENGTH],
        nix::sys::socket::sockopt::GetStruct<[u8; super::LENGTH]>
    );
}

impl TcpInfo {
    /// Asks the kernel. `None`: it does not know, or gives less.
    #[cfg(all(feature = "tcp-info", any(target_os = "linux", target_os = "android")))]
    pub(crate) fn of(socket: &impl std::os::fd::AsFd) -> Option<Self> {
        if !is_new_enough() {
            return None;
        }
        nix::sys::socket::getsockopt(socket, option::Raw).ok().map(|raw| Self::read(&raw))
    }

    /// Other systems have other structs, and without the feature nobody asks.
    #[cfg(not(all(feature = "tcp-info", any(target_os = "linux", target_os = "android"))))]
    pub(crate) fn of<T>(_: &T) -> Option<Self> {
        None
    }

    /// Offsets of linux/tcp.h: 8 bytes of small fields, 24 words of 32 bits, and what was added behind them.
    #[cfg(all(feature = "tcp-info", any(target_os = "linux", target_os = "android")))]
    fn read(raw: &[u8; LENGTH]) -> Self {
        let bytes = |at: usize| raw.iter().skip(at).copied();
        let word = |at: usize| {
            let mut word = [0; 4];
            word.iter_mut().zip(bytes(at)).for_each(|(to, from)| *to = from);
            u32::from_ne_bytes(word)
        };
        let long = |at: usize| {
            let mut long = [0; 8];
            long.iter_mut().zip(bytes(at)).for_each(|(to, from)| *to = from);
            u64::from_ne_bytes(long)
        };
        let micros = |value: u32| Duration::from_micros(value.into());
        Self {
            segment_size: word(16),
            unacked: word(24),
            since_received: Duration::from_millis(word(52).into()),
            rtt: micros(word(68)),
            rtt_variation: micros(word(72)),
            congestion_window: word(80),
            retransmits: word(100),
            bytes_received: long(128),
            unsent_bytes: word(144),
            // The kernel says all ones before the first sample.
            min_rtt: Some(word(148)).filter(|rtt| *rtt != u32::MAX).map(micros),
            delivery_rate: Some(long(160)).filter(|rate| *rate > 0),
            busy: Duration::from_micros(long(168)),
            limited_by_peer: Duration::from_micros(long(176)),
            limited_by_buffer: Duration::from_micros(long(184)),
            bytes_sent: long(200),
            bytes_retransmitted: long(208),
        }
    }
}

/// Whether the kernel is at least 4.19, and so gives as much as is read.
#[cfg(all(feature = "tcp-info", any(target_os = "linux", target_os = "android")))]
fn is_new_enough() -> bool {
    static IS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *IS.get_or_init(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        gives_enough(&release)
    })
}

#[cfg(all(feature = "tcp-info", any(target_os = "linux", target_os = "android")))]
fn gives_enough(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (4, 19)
}

#[cfg(all(test, feature = "tcp-info", target_os = "linux"))]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_kernel_that_gives_less_is_not_asked() {
        for (release, enough) in [("6.18.44-fc", true), ("4.19.0-27-amd64", true), ("5.4", true), ("10", true)] {
            assert_eq!(gives_enough(release), enough, "{release}");
        }
        for release in ["4.18.0-553.el8", "4.4.0", "3.10.0-1160", "", "unknown"] {
            assert!(!gives_enough(release), "{release}");
        }
    }

    // mutant: any offset moved by four
    #[test]
    fn each_field_is_where_the_kernel_writes_it() {
        let mut raw = [0; LENGTH];
        for (nth, word) in raw.chunks_exact_mut(4).enumerate() {
            word.copy_from_slice(&u32::try_from(nth).expect("few").to_ne_bytes());
        }
        let info = TcpInfo::read(&raw);
        let micros = |nth| Duration::from_micros(nth);
        assert_eq!((info.segment_size, info.unacked, info.retransmits, info.unsent_bytes), (4, 6, 25, 36));
        assert_eq!((info.rtt, info.rtt_variation, info.min_rtt), (micros(17), micros(18), Some(micros(37))));
        assert_eq!((info.congestion_window, info.since_received), (20, Duration::from_millis(13)));
        let long =
            |nth: u64| if cfg!(target_endian = "little") { nth | (nth + 1) << 32 } else { nth << 32 | (nth + 1) };
        assert_eq!((info.bytes_received, info.delivery_rate), (long(32), Some(long(40))));
        assert_eq!([info.bytes_sent, info.bytes_retransmitted], [long(50), long(52)]);
        assert_eq!(
            [info.busy, info.limited_by_peer, info.limited_by_buffer],
            [long(42), long(44), long(46)].map(Duration::from_micros)
        );
    }

    /// So that the test above is not only true to itself.
    #[test]
    fn a_real_socket_tells_what_it_sent_and_received() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (mut server, _) = listener.accept().expect("a connection");
        client.write_all(&[b'a'; 1000]).expect("room");
        server.read_exact(&mut [0; 1000]).expect("what was sent");
        server.write_all(&[b'b'; 700]).expect("room");
        client.read_exact(&mut [0; 700]).expect("what was sent");
        let info = TcpInfo::of(&client).expect("a kernel since 4.19");
        assert_eq!((info.bytes_sent, info.bytes_received, info.retransmits), (1000, 700, 0));
        assert!(info.rtt > Duration::ZERO && info.rtt < Duration::from_secs(1), "{info:?}");
        assert!(info.congestion_window > 0 && info.segment_size > 500, "{info:?}");
        assert_eq!((info.unacked, info.unsent_bytes, info.bytes_retransmitted), (0, 0, 0));
    }
}
