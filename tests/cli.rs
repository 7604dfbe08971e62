//! The `httptrace` command, from outside: arguments in; exit code, stdout, stderr and the bytes on the wire out.
//!
//! The origins are threads with a script over `std::net`; no runtime of ours runs in this process.

#![allow(
    clippy::unwrap_used,
    reason = "a test that fails may panic; clippy exempts test functions only, not what they call"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use serde_json::Value;

#[path = "cli/exporting.rs"]
mod exporting;
#[path = "cli/facts.rs"]
mod facts;
#[cfg(unix)]
#[path = "cli/flags.rs"]
mod flags;
#[cfg(unix)]
#[path = "cli/proxies.rs"]
mod proxies;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/tls.rs"]
mod tls;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// What an origin does once a request came.
#[derive(Clone, Copy)]
enum Reply {
    /// Answers.
    Send(&'static str),
    /// Says nothing until the client has gone.
    Hang,
    /// Takes its time, in milliseconds, and answers.
    Late(u64, &'static str),
    /// Answers, and says nothing more until the client has gone.
    SendAndHang(&'static str),
}

/// An origin that plays one script on each connection, and closes it at the script's end.
struct Origin {
    port: u16,
    /// What came, with the number of its connection.
    requests: Arc<Mutex<Vec<(usize, String)>>>,
    /// Connections that were opened.
    accepted: Arc<Mutex<usize>>,
    arrived: mpsc::Receiver<()>,
}

impl Origin {
    fn start(script: &'static [Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let (requests, accepted) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (tell, arrived) = mpsc::channel();
        let (seen, count) = (Arc::clone(&requests), Arc::clone(&accepted));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                *count.lock().unwrap() += 1;
                let (seen, tell) = (Arc::clone(&seen), tell.clone());
                thread::spawn(move || {
                    serve(stream, script, |request| {
                        seen.lock().unwrap().push((number, request));
                        let _ = tell.send(());
                    });
                });
            }
        });
        Self { port, requests, accepted, arrived }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn accepted(&self) -> usize {
        *self.accepted.lock().unwrap()
    }

    /// Connections that carried a request.
    fn served(&self) -> usize {
        self.requests.lock().unwrap().iter().map(|(connection, _)| *connection).collect::<BTreeSet<_>>().len()
    }

    fn request(&self, index: usize) -> String {
        self.requests.lock().unwrap()[index].1.clone()
    }
}

fn serve(stream: TcpStream, script: &[Reply], came: impl Fn(String)) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    for reply in script {
        let Some(request) = read_request(&mut reader) else { return };
        came(request);
        match reply {
            Reply::Send(bytes) => writer.write_all(bytes.as_bytes()).unwrap(),
            Reply::Late(millis, bytes) => {
                thread::sleep(std::time::Duration::from_millis(*millis));
                writer.write_all(bytes.as_bytes()).unwrap();
            }
            Reply::Hang => drop(reader.read_to_end(&mut Vec::new())),
            Reply::SendAndHang(bytes) => {
                writer.write_all(bytes.as_bytes()).unwrap();
                let _ = reader.read_to_end(&mut Vec::new());
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<String> {
    let (head, body) = read_message(reader)?;
    Some(head + &String::from_utf8(body).unwrap())
}

fn read_message(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

/// What of this process's own environment the command would obey.
const PERSONAL: [&str; 7] = ["TRACEPARENT", "TRACESTATE", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI", "COLUMNS"];

fn command(args: &[&str]) -> Command {
    program(env!("CARGO_BIN_EXE_httptrace"), args)
}

fn program(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(name);
    command.args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("OTEL_") || told.to_ascii_lowercase().ends_with("_proxy") || PERSONAL.contains(&&*told) {
            command.env_remove(&name);
        }
    }
    command
}

struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn httptrace(args: &[&str]) -> Ran {
    ran(&command(args).output().expect("the command runs"))
}

fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// The failure of one JSON run: its code, its single line on stderr, and the record's error.
fn failed(url: &str, more: &[&str]) -> (i32, String, Value) {
    let args: Vec<&str> = ["--format", "json", url].into_iter().chain(more.iter().copied()).collect();
    let ran = httptrace(&args);
    let told: Vec<_> = ran.stderr.lines().filter(|line| !line.starts_with("httptrace: warning: -k: ")).collect();
    assert_eq!(told.len(), 1, "{}", ran.stderr);
    let mut lines = ran.lines();
    assert_eq!(lines.len(), 1, "{}", ran.stdout);
    (ran.code, told[0].to_owned(), lines.remove(0))
}

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn bad_input_is_named_in_one_line_and_sends_nothing() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let url = origin.url("/");
    let missing = folder("bad").join("missing/file");
    let (missing, data) = (missing.to_str().unwrap(), format!("@{}", missing.display()));
    let folder = folder("bad");
    let garbage = folder.join("garbage.pem");
    fs::write(&garbage, "garbage").unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&[], 2, "no URL"),
        (&["--compressed", &url], 2, "unknown option --compressed"),
        (&["-L", "--max-redirs", "-2", &url], 2, "--max-redirs"),
        (&["-I", "-d", "a", &url], 2, "-I"),
        (&["-u", "joe", &url], 2, "-u"),
        (&["--key", missing, &url], 2, "--cert"),
        (&["-A", "a\nb", &url], 2, "-A"),
        (&["--resolve", "a:80", &url], 49, "--resolve"),
        (&["--generate", "pdf"], 2, "--generate"),
        (&["--trace-per", "hop", &url], 2, "--trace-per"),
        (&[&url, "--format", "xml"], 2, "--format"),
        (&[&url, "-n", "0"], 2, "-"),
        (&[&url, "-m", "soon"], 2, "--max-time"),
        (&[&url, "-X"], 2, "--request"),
        (&[&url, "-X", "A B"], 2, "-X"),
        (&[&url, "--http1.1", "--http2"], 2, "--http1.1"),
        (&[&url, "--http2", "--http2-prior-knowledge"], 2, "--http2"),
        (&[&url, "-n", "2", "-o", "body"], 2, "-o"),
        (&[&url, "-o", "a", "-o", "b"], 2, "-o"),
        (&[&url, "-o", "-"], 2, "-o"),
        (&[&url, "-H", "X-A: a\r\nX-B: b"], 2, "control character"),
        (&[&url, "-H", "X-\u{1}: a"], 2, "control character"),
        (&[&url, "-H", "no colon"], 2, "colon"),
        (&[&url, "ftp://example.com/"], 1, "'ftp'"),
        (&[&url, "http://"], 3, "malformed URL"),
        (&[&url, "http://a:99999/"], 3, "port"),
        (&[&url, "http://a b/"], 3, "malformed URL"),
        (&[&url, "-d", &data], 26, "missing/file"),
        (&[&url, "--data-binary", &data], 26, "missing/file"),
        (&[&url, "-o", missing], 23, "missing/file"),
        (&[&url, "-o", folder.to_str().unwrap()], 23, "cannot write"),
        (&[&url, "--cacert", missing], 77, "missing/file"),
        (&[&url, "--cacert", garbage.to_str().unwrap()], 77, "garbage.pem"),
    ];
    for format in ["waterfall", "json"] {
        for (args, code, named) in cases {
            let args: Vec<&str> = ["--format", format].iter().chain(args.iter()).copied().collect();
            let ran = httptrace(&args);
            assert_eq!(ran.code, *code, "{args:?}: {}", ran.stderr);
            assert_eq!(ran.stderr.lines().count(), 1, "{args:?}: {}", ran.stderr);
            assert!(ran.stderr.starts_with(&format!("httptrace: ({code}) ")), "{args:?}: {}", ran.stderr);
            assert!(ran.stderr.contains(named), "{args:?}: {}", ran.stderr);
            assert_eq!(ran.stdout, "", "{args:?}");
        }
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn help_and_version_go_to_stdout() {
    let first = concat!("httptrace ", env!("CARGO_PKG_VERSION"), "\n");
    let version = httptrace(&["--version"]);
    assert!(version.code == 0 && version.stdout.starts_with(first) && version.stdout.contains("HTTP/2"));
    assert_eq!(httptrace(&["-V"]).stdout, first);
    let help = httptrace(&["--help"]);
    assert!(help.code == 0 && help.stderr.is_empty());
    for flag in ["--request", "--http2-prior-knowledge", "--otlp", "--repeat", "--concurrency"] {
        assert!(help.stdout.contains(flag), "{flag}");
    }
}

#[test]
fn the_second_of_two_requests_reuses_the_connection() {
    let origin = Origin::start(&[Reply::Send(OK), Reply::Send(OK)]);
    let ran = httptrace(&["--format", "json", "-n", "2", &origin.url("/a?b=c#d")]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines = ran.lines();
    let [cold, reused] = lines.as_slice() else { panic!("two lines: {}", ran.stdout) };
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line["v"], 1);
        assert_eq!(line["request"], i + 1);
        assert_eq!((&line["attempt"], &line["hop"]), (&Value::from(1), &Value::from(0)));
        assert_eq!((line["method"].as_str(), line["url"].as_str()), (Some("GET"), Some(origin.url("/a?b=c").as_str())));
        assert!(line["start_unix_nanos"].as_str().unwrap().parse::<u64>().unwrap() > 1_700_000_000_000_000_000);
        assert_eq!((line["protocol"].as_str(), line["status"].as_u64()), (Some("HTTP/1.1"), Some(200)));
        assert!(line["error"].is_null() && line["trace_id"].is_null() && line["span_id"].is_null());
        assert!(line["dns"].is_null() && line["tls"].is_null(), "an address needs no lookup");
        assert_eq!((&line["request_body_bytes"], &line["response_body_bytes"]), (&Value::from(0), &Value::from(5)));
        assert_eq!(line["response_outcome"], "complete");
        let peer = format!("127.0.0.1:{}", origin.port);
        assert_eq!(
            (&line["connection"]["peer"], &line["connection"]["id"]),
            (&Value::from(peer), &cold["connection"]["id"])
        );
    }
    check_cold(cold);
    let connection = &reused["connection"];
    assert_eq!((&connection["outcome"], &connection["reused"]), (&Value::from("idle"), &Value::from(true)));
    assert_eq!((&connection["was_idle"], &connection["request_number"]), (&Value::from(true), &Value::from(2)));
    assert!(connection["idle_us"].as_f64().unwrap() > 0.0);
    assert!(connection["age_us"].as_f64() >= connection["idle_us"].as_f64());
    assert_eq!(names(&reused["phases"]), ["request-write", "response-wait", "response-read"]);
    assert_eq!(origin.accepted(), 1);
}

fn check_cold(cold: &Value) {
    let connection = &cold["connection"];
    assert_eq!((&connection["outcome"], &connection["reused"]), (&Value::from("new"), &Value::from(false)));
    assert!(connection["idle_us"].is_null() && connection["http2_stream_id"].is_null());
    assert_eq!((&connection["age_us"], &connection["request_number"]), (&Value::from(0.0), &Value::from(1)));
    assert_eq!(
        names(&cold["phases"]),
        ["get-connection", "connect", "request-write", "response-wait", "response-read"]
    );
    let duration = cold["duration_us"].as_f64().unwrap();
    let mut before = 0.0;
    for phase in cold["phases"].as_array().unwrap() {
        let (start, end) = (phase["start_us"].as_f64().unwrap(), phase["end_us"].as_f64().unwrap());
        assert!(before <= start && start <= end && end <= duration, "{cold}");
        assert!(phase["error"].is_null());
        before = start;
    }
    assert_eq!(cold["phases"][1]["local"], connection["local"]);
    assert_eq!(names(&cold["events"]), ["wrote-headers", "first-byte", "idle-return"]);
    assert_eq!(cold["events"][2]["outcome"], "pooled");
    let hooks = names(&cold["hooks"]);
    assert_eq!((hooks.first(), hooks.last()), (Some(&"get_conn"), Some(&"put_idle_conn")), "{hooks:?}");
}

fn names(entries: &Value) -> Vec<&str> {
    entries.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[test]
fn requests_look_like_curls() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let url = origin.url("/");
    let agent = concat!("httptrace/", env!("CARGO_PKG_VERSION"));
    let lower = |index| origin.request(index).to_ascii_lowercase();
    httptrace(&[&url]);
    assert!(lower(0).starts_with("get / http/1.1\r\n"));
    assert!(lower(0).contains(&format!("\r\nuser-agent: {agent}\r\n")) && lower(0).contains("\r\naccept: */*\r\n"));
    assert!(
        lower(0).contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", origin.port)) && !lower(0).contains("traceparent")
    );
    httptrace(&["-H", "Accept:", "-H", "X-A: 1", "-d", "a=1", "--data-binary", "b", &url]);
    assert!(lower(1).starts_with("post / http/1.1\r\n") && lower(1).ends_with("\r\n\r\na=1&b"));
    assert!(lower(1).contains("\r\ncontent-type: application/x-www-form-urlencoded\r\n"));
    assert!(lower(1).contains("\r\nx-a: 1\r\n") && !lower(1).contains("\r\naccept:"));
    httptrace(&["-X", "PUT", "-d", "", "-H", "Content-Type: text/plain", &url]);
    assert!(lower(2).starts_with("put / http/1.1\r\n") && lower(2).contains("\r\ncontent-length: 0\r\n"));
    assert!(lower(2).contains("\r\ncontent-type: text/plain\r\n"));
}

#[test]
fn data_comes_from_stdin_without_its_line_ends() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let mut child =
        command(&["-d", "@-", &origin.url("/")]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a\r\nb\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(origin.request(0).ends_with("\r\n\r\nab"));
}

#[test]
fn credentials_are_sent_and_not_shown() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let url = format!("http://user:secret@127.0.0.1:{}/", origin.port);
    for format in ["json", "waterfall"] {
        let ran = httptrace(&["--format", format, &url]);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("REDACTED:REDACTED@127.0.0.1") && !ran.stdout.contains("secret"), "{}", ran.stdout);
    }
    assert!(origin.request(0).to_ascii_lowercase().contains("\r\nauthorization: basic dxnlcjpzzwnyzxq=\r\n"));
}

#[test]
fn bodies_go_to_their_files() {
    let origin = Origin::start(&[Reply::Send(OK), Reply::Send(OK), Reply::Send(OK)]);
    let folder = folder("bodies");
    let (first, last) = (folder.join("first"), folder.join("last"));
    fs::write(&last, "a longer text from before").unwrap();
    let url = origin.url("/");
    let ran =
        httptrace(&["-o", first.to_str().unwrap(), &url, &url, "-o", "/dev/null", &url, "-o", last.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stdout.contains("hello"));
    assert_eq!(fs::read_to_string(first).unwrap(), "hello");
    assert_eq!(fs::read_to_string(last).unwrap(), "hello");
}

#[test]
fn a_refused_connection_ends_with_7() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/");
    let (code, stderr, line) = failed(&url, &[]);
    assert_eq!((code, stderr.as_str()), (7, "httptrace: (7) connect: connection refused"));
    assert_eq!((&line["error"]["type"], &line["error"]["phase"]), (&"connection_refused".into(), &"connect".into()));
    assert!(line["connection"].is_null() && line["status"].is_null());
    let errors: Vec<_> = line["phases"].as_array().unwrap().iter().map(|phase| &phase["error"]).collect();
    assert_eq!(errors, ["connection_refused", "connection_refused"], "{line}");
    let silent = httptrace(&["-s", &url]);
    assert_eq!((silent.code, silent.stderr.as_str()), (7, ""));
}

#[test]
fn an_unknown_host_ends_with_6() {
    let (code, _, line) = failed("http://no-such-host.invalid/", &[]);
    assert_eq!((code, &line["error"]["phase"]), (6, &"dns".into()), "{line}");
    assert_eq!(line["dns"]["host"], "no-such-host.invalid");
}

#[test]
fn a_connection_closed_before_the_first_byte_ends_with_52() {
    let origin = Origin::start(&[Reply::Send("")]);
    let (code, _, line) = failed(&origin.url("/"), &[]);
    assert_eq!((code, &line["error"]["type"]), (52, &"connection_closed".into()), "{line}");
    assert_eq!(line["error"]["phase"], "response-wait");
    assert_eq!(line["response_outcome"], "failed");
}

#[test]
fn a_body_cut_short_ends_with_18() {
    let origin = Origin::start(&[Reply::Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")]);
    let (code, _, line) = failed(&origin.url("/"), &[]);
    assert_eq!((code, &line["error"]["type"]), (18, &"body_incomplete".into()), "{line}");
    assert_eq!((&line["error"]["phase"], &line["status"]), (&"response-read".into(), &200.into()));
    assert_eq!(line["response_body_bytes"], 4);
}

#[test]
fn a_malformed_head_ends_with_8() {
    let origin = Origin::start(&[Reply::Send("SMTP ready\r\n\r\n")]);
    let (code, _, line) = failed(&origin.url("/"), &[]);
    assert_eq!((code, &line["error"]["type"]), (8, &"malformed_response".into()), "{line}");
}

#[test]
fn a_timeout_ends_with_28_wherever_it_strikes() {
    let silent = Origin::start(&[Reply::Hang]);
    let (code, _, line) = failed(&silent.url("/"), &["-m", "0.2"]);
    assert_eq!((code, &line["error"]["type"]), (28, &"timeout".into()), "{line}");
    assert_eq!(line["error"]["phase"], "response-wait");
    let stuck = Origin::start(&[Reply::SendAndHang("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")]);
    let (code, _, line) = failed(&stuck.url("/"), &["-m", "0.2"]);
    assert_eq!((code, &line["error"]["phase"], &line["status"]), (28, &"response-read".into(), &200.into()), "{line}");
}

#[test]
fn the_first_failing_request_decides_the_code() {
    let closing = Origin::start(&[Reply::Send("")]);
    let fine = Origin::start(&[Reply::Send(OK)]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = format!("http://127.0.0.1:{port}/");
    for concurrency in ["1", "3"] {
        let ran = httptrace(&["-c", concurrency, &fine.url("/"), &closing.url("/"), &refused]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (52, 2), "{}", ran.stderr);
    }
    let missing = Origin::start(&[Reply::Send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")]);
    assert_eq!(httptrace(&[&missing.url("/")]).code, 0, "a whole response of any status is a success");
}

#[test]
fn concurrent_requests_each_have_a_line() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let ran = httptrace(&["--format", "json", "-n", "40", "-c", "8", &origin.url("/")]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines = ran.lines();
    let mut numbers: Vec<u64> = lines.iter().map(|line| line["request"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    let new = lines.iter().filter(|line| line["connection"]["reused"] == false).count();
    assert_eq!(new, origin.served());
}

#[test]
fn a_chart_in_a_pipe_has_no_escape_codes() {
    let origin = Origin::start(&[Reply::Send(OK), Reply::Send(OK)]);
    let url = origin.url("/");
    let ran = httptrace(&["-n", "2", &url]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(!ran.stdout.contains('\x1b'));
    for word in [
        &format!("GET {url}"),
        "200 OK",
        "HTTP/1.1",
        "new connection",
        "reused connection",
        "response-wait",
        "▾ first-byte",
    ] {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
    assert!(ran.stdout.contains("reuse ratio 50.0 % (1 of 2)"), "{}", ran.stdout);
    for (columns, width) in [("140", 140), ("", 80)] {
        let output = command(&[&url]).env("COLUMNS", columns).output().unwrap();
        assert_eq!(ran_width(&output), width);
    }
}

fn ran_width(output: &Output) -> usize {
    ran(output).stdout.lines().map(|line| line.chars().count()).max().unwrap()
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let origin = Origin::start(&[Reply::Send(OK); 200]);
    let mut child = command(&["--format", "json", "-n", "200", &origin.url("/")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"v\":1,\"request\":1,"));
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ran(&ended).stderr.as_str()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(&[&origin.url("/")]).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(23));
    assert!(ran(&output).stderr.starts_with("httptrace: (23) cannot write to stdout"));
    let ran = httptrace(&["-o", "/dev/full", &origin.url("/")]);
    assert_eq!(ran.code, 23, "{}", ran.stderr);
}

#[cfg(unix)]
#[test]
fn ctrl_c_reports_what_was_under_way_as_canceled() {
    let origin = Origin::start(&[Reply::Hang]);
    let child =
        command(&["--format", "json", &origin.url("/")]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    origin.arrived.recv().unwrap();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = ran(&child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (130, "httptrace: (130) interrupted\n"));
    let lines = ended.lines();
    assert_eq!(lines.len(), 1, "{}", ended.stdout);
    assert_eq!(
        (&lines[0]["error"]["type"], &lines[0]["error"]["phase"]),
        (&"canceled".into(), &"response-wait".into())
    );
}
