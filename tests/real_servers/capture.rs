//! The marks beside a packet capture: tshark around the command and nginx.
//!
//! The kernel stamps a packet of the loopback device inside the system call that sends it, so no packet is later than the
//! return of its write, and none later than the read that it wakes: a mark of something done is never before its packet,
//! a mark of a start never after it. Both are asked of every request, and p95 of the distance is at most 2 ms,
//! plus p95 of what short sleeps were too long by meanwhile.
//! TLS is decrypted with the command's own key log; what tshark can't read fails the test.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::server::{Server, Software, program};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and tshark: .ci/run full"]
async fn a_capture_of_http1_agrees_with_the_marks() {
    agree("capture-h1", Software::NginxPlain, "--http1.1").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and tshark: .ci/run full"]
async fn a_capture_of_http1_over_tls_agrees_with_the_marks() {
    agree("capture-h1-tls", Software::Nginx, "--http1.1").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx and tshark: .ci/run full"]
async fn a_capture_of_http2_agrees_with_the_marks() {
    agree("capture-h2", Software::Nginx, "--http2").await;
}

/// The order counts in every round, the distance in one of three: a busy machine is no lie.
async fn agree(name: &str, software: Software, protocol: &str) {
    let mut far = None;
    for _ in 0..3 {
        let comparison = compare(name, software, protocol).await;
        let table = comparison.table(name);
        // Past the capture of test output: the table is to be seen also when all is well.
        std::io::stdout().write_all(table.as_bytes()).unwrap();
        assert!(comparison.lies.is_empty(), "{}\n{table}", comparison.lies.join("\n"));
        far = comparison.too_far();
        if far.is_none() {
            return;
        }
    }
    panic!("{name}: {far:?}");
}

async fn compare(name: &str, software: Software, protocol: &str) -> Comparison {
    let server = Server::start(name, software).await;
    let folder = server.certificate().with_file_name("");
    let capture = Capture::start(&folder, server.port());
    let noise = Noise::start();
    let runs = (0..RUNS).flat_map(|_| httptrace(&server, protocol, &folder.join("keys")));
    let attempts: Vec<Value> = runs.collect();
    let noise = noise.p95();
    let packets = capture.stop(server.port());

    let is_tls = software == Software::Nginx;
    let decrypted = packets.iter().any(|packet| packet.from_client && packet.handshake.contains(&20));
    assert!(!is_tls || decrypted, "tshark could not decrypt: no Finished of the client with the keys of the command");
    let mut comparison = Comparison { noise, ..Comparison::default() };
    let mut requests = requests(&packets, protocol == "--http2");
    assert_eq!(attempts.len(), RUNS * REQUESTS);
    for attempt in &attempts {
        let connection = &attempt["connection"];
        let port: u16 = connection["local"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let key = connection["http2_stream_id"].as_u64().or(connection["request_number"].as_u64()).unwrap();
        let request = requests.remove(&(port, key));
        let request =
            request.unwrap_or_else(|| panic!("request {key} of port {port} is not in the capture\n{attempt}"));
        comparison.request(attempt, &request);
        if connection["outcome"] == "new" {
            let connection: Vec<&Packet> = packets.iter().filter(|packet| packet.client == port).collect();
            comparison.set_up(attempt, &connection, is_tls);
        }
    }
    assert!(requests.is_empty(), "requests in the capture that nobody sent: {:?}", requests.keys());
    comparison
}

/// One run of the command.
fn httptrace(server: &Server, protocol: &str, keys: &Path) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_httptrace"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_") || name == "TRACEPARENT") {
        command.env_remove(name);
    }
    command.args(["--format", "json", "-n", &REQUESTS.to_string(), protocol, "-d", &"b".repeat(40_000)]);
    command
        .arg("--cacert")
        .arg(server.certificate())
        .arg(server.upload_url())
        .env("SSLKEYLOGFILE", keys)
        .env("no_proxy", "*");
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{}\n{stderr}", output.status);
    let stdout = String::from_utf8(output.stdout).unwrap();
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each run has a connection of its own, which carries so many requests.
const RUNS: usize = 25;
const REQUESTS: usize = 2;

// === the capture ===

/// A running dumpcap, which tshark brings; killed on drop.
struct Capture {
    process: Child,
    stderr: BufReader<ChildStderr>,
    folder: PathBuf,
}

impl Capture {
    /// Returns once packets are taken.
    fn start(folder: &Path, port: u16) -> Self {
        let mut command = Command::new(program("dumpcap"));
        command.args(["-q", "-i", "lo", "-f", &format!("tcp port {port}"), "-w"]).arg(folder.join("capture.pcapng"));
        let mut process = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("dumpcap starts");
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let (mut said, mut line) = (String::new(), String::new());
        // It names the file when the device is open and the filter set.
        while !line.starts_with("File: ") {
            line.clear();
            let length = stderr.read_line(&mut line).unwrap();
            assert!(length > 0, "dumpcap can't capture (it takes root, or CAP_NET_RAW):\n{said}");
            said.push_str(&line);
        }
        Self { process, stderr, folder: folder.to_owned() }
    }

    /// Ends the capture, and reads it with the keys that the command wrote.
    fn stop(mut self, port: u16) -> Vec<Packet> {
        let marker = self.until_it_has_all(port);
        let sent = Command::new("sh").arg("-c").arg(format!("kill -INT {}", self.process.id())).status().unwrap();
        assert!(sent.success());
        let said: Vec<String> = self.stderr.by_ref().lines().map(Result::unwrap).collect();
        self.process.wait().unwrap();
        assert!(said.iter().any(|line| line.contains("pcap:0/dumpcap:0")), "packets were lost: {said:?}");
        let mut tshark = Command::new(program("tshark"));
        tshark.arg("-r").arg(self.folder.join("capture.pcapng"));
        tshark.args(["-o", &format!("tls.keylog_file:{}", self.folder.join("keys").display())]);
        // By its content: by its number, a client's port may be that of another protocol.
        tshark.args(["-o", "tcp.try_heuristic_first:TRUE"]);
        tshark.args(["-Y", &format!("tcp.port == {port}"), "-T", "fields"]);
        for field in FIELDS {
            tshark.args(["-e", field]);
        }
        let output = tshark.output().expect("tshark starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        fs::write(self.folder.join("packets.txt"), &text).unwrap();
        text.lines().map(|line| Packet::read(line, port)).filter(|packet| packet.client != marker).collect()
    }

    /// dumpcap takes packets in blocks, and forgets the last one when it is ended: so a packet of our own has to be in its
    /// file first. Returns the port that it was sent from.
    fn until_it_has_all(&self, port: u16) -> u16 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(MARKER).unwrap();
        for _ in 0..200 {
            let file = fs::read(self.folder.join("capture.pcapng")).unwrap();
            if file.windows(MARKER.len()).any(|bytes| bytes == MARKER) {
                return stream.local_addr().unwrap().port();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("dumpcap has not written the last packet after ten seconds");
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const MARKER: &[u8] = b"here the capture may end\r\n\r\n";

const FIELDS: [&str; 10] = [
    "frame.time_epoch",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.flags.syn",
    "tcp.len",
    "tls.handshake.type",
    "tls.record.content_type",
    "http2.type",
    "http2.flags",
    "http2.streamid",
];

#[derive(Debug)]
struct Packet {
    at: i128,
    /// The client's port.
    client: u16,
    from_client: bool,
    syn: bool,
    length: usize,
    /// Messages of a handshake: 1 is the client's hello, 20 Finished.
    handshake: Vec<u64>,
    /// Kinds of the records that end here, decrypted: 23 carries HTTP.
    records: Vec<u64>,
    /// Type, flags and stream of the HTTP/2 frames that end here.
    frames: Vec<(u64, u64, u64)>,
}

impl Packet {
    fn read(line: &str, port: u16) -> Self {
        let fields: Vec<&str> = line.split('\t').collect();
        let numbers = |index: usize| -> Vec<u64> {
            let number = |word: &str| match word.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
                None => word.parse().unwrap(),
            };
            fields[index].split(',').filter(|word| !word.is_empty()).map(number).collect()
        };
        let ends = [numbers(1)[0], numbers(2)[0]];
        let from_client = ends[1] == u64::from(port);
        let (seconds, nanos) = fields[0].split_once('.').expect("a time");
        let (types, flags, streams) = (numbers(7), numbers(8), numbers(9));
        assert!(types.len() == flags.len() && types.len() <= streams.len(), "{line}");
        let frames = types.iter().zip(&flags).zip(&streams).map(|((kind, flags), stream)| (*kind, *flags, *stream));
        Self {
            at: seconds.parse::<i128>().unwrap() * 1_000_000_000 + format!("{nanos:0<9}").parse::<i128>().unwrap(),
            client: u16::try_from(ends[usize::from(!from_client)]).unwrap(),
            from_client,
            syn: matches!(fields[3], "1" | "True"),
            length: numbers(4)[0] as usize,
            handshake: numbers(5),
            records: numbers(6),
            frames: frames.collect(),
        }
    }
}

// === the requests in it ===

/// When the packets of one request passed.
#[derive(Debug, Default)]
struct Captured {
    head: i128,
    last_of_request: i128,
    first_of_response: Option<i128>,
    last_of_response: i128,
}

/// By client port and, within it, stream or ordinal.
fn requests(packets: &[Packet], http2: bool) -> BTreeMap<(u16, u64), Captured> {
    let mut requests = BTreeMap::new();
    if http2 {
        for packet in packets {
            for (kind, _, stream) in packet.frames.iter().filter(|(kind, ..)| matches!(kind, 0 | 1)) {
                add(requests.entry((packet.client, *stream)).or_default(), packet, *kind == 1);
            }
        }
        return requests;
    }
    let mut ordinals: BTreeMap<u16, (u64, bool)> = BTreeMap::new();
    let is_tls = packets.iter().any(|packet| !packet.records.is_empty());
    for packet in packets {
        if packet.length == 0 || is_tls && !packet.records.contains(&23) {
            continue;
        }
        // A request begins where the client speaks after the server did.
        let (ordinal, server_spoke) = ordinals.entry(packet.client).or_insert((0, true));
        let begins = packet.from_client && *server_spoke;
        *ordinal += u64::from(begins);
        *server_spoke = !packet.from_client;
        add(requests.entry((packet.client, *ordinal)).or_default(), packet, begins);
    }
    requests
}

fn add(request: &mut Captured, packet: &Packet, is_head: bool) {
    if !packet.from_client {
        request.first_of_response.get_or_insert(packet.at);
        request.last_of_response = packet.at;
        return;
    }
    if is_head {
        request.head = packet.at;
    }
    request.last_of_request = packet.at;
}

// === the comparison ===

/// What short sleeps are too long by while the command runs: how busy the machine is.
struct Noise {
    over: Arc<AtomicBool>,
    late: JoinHandle<Vec<i64>>,
}

impl Noise {
    #[allow(clippy::disallowed_methods, reason = "the machine's own lateness, beside the clock under test")]
    fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let late = std::thread::spawn(move || {
            let (nap, mut late) = (Duration::from_millis(2), Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(nap);
                late.push(i64::try_from((before.elapsed().saturating_sub(nap)).as_nanos()).unwrap());
            }
            late
        });
        Self { over, late }
    }

    fn p95(self) -> i64 {
        self.over.store(true, Ordering::Relaxed);
        quantile(&self.late.join().unwrap(), 95)
    }
}

#[derive(Debug, Default)]
struct Comparison {
    noise: i64,
    /// Mark minus packet, in nanoseconds.
    errors: BTreeMap<&'static str, Vec<i64>>,
    lies: Vec<String>,
}

impl Comparison {
    fn request(&mut self, attempt: &Value, captured: &Captured) {
        self.done("4 wrote-headers", attempt, "wrote_headers", captured.head);
        self.done("5 wrote-request", attempt, "wrote_request", captured.last_of_request);
        self.done("6 first-byte", attempt, "got_first_response_byte", captured.first_of_response.expect("an answer"));
        self.done("7 response end", attempt, "response_done", captured.last_of_response);
    }

    fn set_up(&mut self, attempt: &Value, connection: &[&Packet], is_tls: bool) {
        let first = |what: &str, is: &dyn Fn(&Packet) -> bool| {
            let packet = connection.iter().find(|packet| is(packet));
            packet.unwrap_or_else(|| panic!("no {what} in the capture (undecrypted?)\n{attempt}")).at
        };
        self.start("0 connect start", attempt, "connect_start", first("SYN", &|p| p.syn && p.from_client));
        self.done("1 connect done", attempt, "connect_done", first("SYN-ACK", &|p| p.syn && !p.from_client));
        if is_tls {
            let hello = first("ClientHello", &|p| p.from_client && p.handshake.contains(&1));
            let finished = first("client's Finished", &|p| p.from_client && p.handshake.contains(&20));
            self.start("2 tls start", attempt, "tls_handshake_start", hello);
            self.done("3 tls done", attempt, "tls_handshake_done", finished);
        }
    }

    /// The mark of something that had happened.
    fn done(&mut self, boundary: &'static str, attempt: &Value, hook: &str, packet: i128) {
        let error = self.error(boundary, attempt, hook, packet);
        if error < -ROUNDING {
            self.lies.push(format!("{boundary}: {error} ns before its packet\n  {attempt}"));
        }
    }

    /// The mark of something that was about to happen.
    fn start(&mut self, boundary: &'static str, attempt: &Value, hook: &str, packet: i128) {
        let error = self.error(boundary, attempt, hook, packet);
        if error > ROUNDING {
            self.lies.push(format!("{boundary}: {error} ns after its packet\n  {attempt}"));
        }
    }

    fn error(&mut self, boundary: &'static str, attempt: &Value, hook: &str, packet: i128) -> i64 {
        let start: i128 = attempt["start_unix_nanos"].as_str().unwrap().parse().unwrap();
        // The last one: a name's first address may have refused.
        let hooks = attempt["hooks"].as_array().unwrap();
        let told = hooks.iter().rfind(|told| told["name"] == hook).unwrap_or_else(|| panic!("no {hook}\n{attempt}"));
        let mark = start + (told["at_us"].as_f64().unwrap() * 1000.0) as i128;
        let error = i64::try_from(mark - packet).unwrap();
        self.errors.entry(boundary).or_default().push(error);
        error
    }

    fn table(&self, name: &str) -> String {
        let late = self.noise / 1000;
        let mut table = format!("\n{name}: mark minus packet, in µs; sleeps late by {late} µs (p95)\n");
        writeln!(table, "{:<20}{:>8}{:>10}{:>10}{:>10}", "", "samples", "median", "p95", "max").unwrap();
        for (boundary, errors) in &self.errors {
            let mut sorted = errors.clone();
            sorted.sort_unstable();
            let median = sorted[sorted.len() / 2] as f64 / 1000.0;
            let [p95, max] = [95, 100].map(|percent| quantile(errors, percent) as f64 / 1000.0);
            let samples = errors.len();
            writeln!(table, "{:<20}{samples:>8}{median:>10.1}{p95:>10.1}{max:>10.1}", &boundary[2..]).unwrap();
        }
        table
    }

    /// A boundary whose p95 is above 2 ms and what the machine itself is late by.
    fn too_far(&self) -> Option<String> {
        let mut p95s = self.errors.iter().map(|(boundary, errors)| (boundary, quantile(errors, 95)));
        p95s.find(|(_, p95)| p95.abs() > 2_000_000 + self.noise)
            .map(|(boundary, p95)| format!("{boundary}: p95 is {p95} ns"))
    }
}

/// The largest error, with its sign, once the (100 - percent) % that are largest in size are left out.
fn quantile(errors: &[i64], percent: usize) -> i64 {
    let mut by_size = errors.to_vec();
    by_size.sort_unstable_by_key(|error| error.abs());
    by_size[(by_size.len() * percent).div_ceil(100) - 1]
}

/// The JSON has fractions of a microsecond.
const ROUNDING: i64 = 10;
