//! The origin's end of a connection, down to the system calls.
//!
//! It stands where a relay would: below it is the socket with its ciphertext, above it the plaintext of the script. Every
//! read is stamped right after its system call, every write right before it, and a plaintext byte inherits the stamp of
//! the ciphertext that completed its record. So a stamp of a read is never too early, and one of a write never too late:
//! what the client claims outside of them can't have happened.

use std::{
    fs,
    io::{self, Read, Write},
    net::TcpStream,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use rustls::{ServerConfig, ServerConnection};
use socket2::SockRef;

/// Nanoseconds since the epoch: what both processes call time.
pub(crate) type Nanos = u64;

/// How long the script holds the client up at each boundary.
pub(crate) const DELAY: Duration = Duration::from_millis(20);

pub(crate) struct Wire {
    tcp: TcpStream,
    tls: Option<ServerConnection>,
    /// Plaintext that the script has not taken yet.
    pub(crate) inbox: Vec<u8>,
    /// Bytes that were read from the socket.
    pub(crate) consumed: u64,
    /// The moment after the last read.
    pub(crate) last_read: Nanos,
    /// The most that a delay was longer than asked for: how busy the machine is.
    pub(crate) late: Duration,
}

/// What the server's side of a handshake saw.
pub(crate) struct Handshake {
    /// The first bytes of the client's hello were read.
    pub(crate) hello_read: Nanos,
    /// The last byte of the server's flight was about to be written.
    pub(crate) flight_written: Nanos,
    /// The client's Finished was read.
    pub(crate) finished_read: Nanos,
}

/// What the kernel had accepted from the client while nothing was read.
pub(crate) struct Stall {
    /// Not a byte more than `accepted` before this moment.
    pub(crate) at: Nanos,
    pub(crate) accepted: u64,
}

impl Wire {
    pub(crate) fn new(tcp: TcpStream, tls: Option<&Arc<ServerConfig>>) -> Self {
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        tcp.set_nonblocking(stays_awake()).unwrap();
        let tls = tls.map(|config| ServerConnection::new(Arc::clone(config)).unwrap());
        Self { tcp, tls, inbox: Vec::new(), consumed: 0, last_read: 0, late: Duration::ZERO }
    }

    /// The handshake. With `hold`, the last byte of the server's flight is held back for a while.
    pub(crate) fn handshake(&mut self, hold: bool) -> Handshake {
        let hello_read = self.read();
        let (mut flight_written, mut finished_read) = (0, hello_read);
        while self.tls.as_ref().unwrap().is_handshaking() {
            let flight = self.sealed();
            if flight.is_empty() {
                finished_read = self.read();
                continue;
            }
            let (most, last) = flight.split_at(if hold { flight.len() - 1 } else { 0 });
            if hold {
                self.tcp.write_all(most).unwrap();
                self.delay();
            }
            flight_written = now();
            self.tcp.write_all(last).unwrap();
        }
        // The session tickets: records that no response begins with.
        let tickets = self.sealed();
        self.tcp.write_all(&tickets).unwrap();
        Handshake { hello_read, flight_written, finished_read }
    }

    /// One system call; returns the moment after it.
    pub(crate) fn read(&mut self) -> Nanos {
        let mut buffer = [0; 16 * 1024];
        SockRef::from(&self.tcp).set_tcp_quickack(true).unwrap();
        let length = until_ready(|| self.tcp.read(&mut buffer));
        let at = now();
        assert!(length > 0, "the client closed the connection");
        self.consumed += length as u64;
        match &mut self.tls {
            None => self.inbox.extend_from_slice(&buffer[..length]),
            Some(tls) => {
                let mut records = &buffer[..length];
                while !records.is_empty() {
                    tls.read_tls(&mut records).unwrap();
                    let state = tls.process_new_packets().unwrap();
                    let start = self.inbox.len();
                    self.inbox.resize(start + state.plaintext_bytes_to_read(), 0);
                    tls.reader().read_exact(&mut self.inbox[start..]).unwrap();
                }
            }
        }
        self.last_read = at;
        at
    }

    /// One record with TLS, one system call in any case; returns the moment before it.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Nanos {
        let sealed = match &mut self.tls {
            None => bytes.to_vec(),
            Some(tls) => {
                tls.writer().write_all(bytes).unwrap();
                self.sealed()
            }
        };
        let at = now();
        self.tcp.write_all(&sealed).unwrap();
        at
    }

    fn sealed(&mut self) -> Vec<u8> {
        let mut sealed = Vec::new();
        let tls = self.tls.as_mut().unwrap();
        while tls.wants_write() {
            tls.write_tls(&mut sealed).unwrap();
        }
        sealed
    }

    /// Holds the client up.
    pub(crate) fn delay(&mut self) {
        let before = now();
        thread::sleep(DELAY);
        self.late = self.late.max(Duration::from_nanos(now() - before).saturating_sub(DELAY));
    }

    /// Reads nothing for a while, and asks the kernel at the end how much it took from the client all the same.
    pub(crate) fn stall(&mut self) -> Stall {
        self.delay();
        let at = now();
        let stall = Stall { at, accepted: self.consumed + self.in_kernel() };
        // What is left flows at once, without waiting for a small window.
        SockRef::from(&self.tcp).set_recv_buffer_size(1024 * 1024).unwrap();
        stall
    }

    /// Bytes that the client's socket has accepted and that were not read here: its send queue and our receive queue.
    /// Bytes on their way may count in both, so this is never too little.
    fn in_kernel(&self) -> u64 {
        let (ours, theirs) = (self.tcp.local_addr().unwrap().port(), self.tcp.peer_addr().unwrap().port());
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let mut sum = 0;
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = |word: &str| u16::from_str_radix(word.rsplit(':').next().unwrap(), 16).unwrap();
            let (send, receive) = words[4].split_once(':').unwrap();
            let queue = match (port(words[1]), port(words[2])) {
                ends if ends == (theirs, ours) => send,
                ends if ends == (ours, theirs) => receive,
                _ => continue,
            };
            sum += u64::from_str_radix(queue, 16).unwrap();
        }
        sum
    }
}

/// Both processes ask again and again instead of sleeping: then the table shows the marks without the time that a sleeping
/// processor takes to wake up. For a machine with two processors and nothing else to do.
pub(crate) fn stays_awake() -> bool {
    std::env::var_os("TRUTH_AWAKE").is_some()
}

/// The result of a call that would block, if it is one of a socket that doesn't.
pub(crate) fn until_ready<T>(mut call: impl FnMut() -> io::Result<T>) -> T {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && stays_awake() => std::hint::spin_loop(),
            result => return result.unwrap(),
        }
    }
}

/// The wall clock, which both processes share.
#[allow(clippy::disallowed_methods, reason = "the test's own stamps must not come from the clock under test")]
pub(crate) fn now() -> Nanos {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_nanos()).unwrap()
}
