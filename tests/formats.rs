//! The formats `hooks` and `har` of the command, from outside: arguments in; exit code, stdout and stderr out.
//!
//! The origins are threads over `std::net`. An archive is checked against the fields and types that HAR 1.2 requires
//! (<http://www.softwareishard.com/blog/har-12-spec/>), and its facts against what `--format json` says of a like run.

#![allow(
    clippy::unwrap_used,
    reason = "a test that fails may panic; clippy exempts test functions only, not what they call"
)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread,
};

use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

const OK: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nSet-Cookie: id=hidden\r\n\r\nhello";
const MOVED: &str = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: http://u:hidden@a/?sig=hidden&n=1\r\n\r\n";
/// No answer: the connection ends here.
const CLOSE: &str = "";
/// No answer, and the connection stays.
const HANG: &str = "hang";

/// An origin that plays one script on each connection.
struct Origin {
    port: u16,
    arrived: mpsc::Receiver<()>,
}

impl Origin {
    fn start(script: &'static [&'static str]) -> Self {
        Self::over(script, |stream, serve| serve(&mut BufReader::new(stream)))
    }

    fn tls(script: &'static [&'static str]) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![made.cert.into()], key).unwrap());
        Self::over(script, move |stream, serve| {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            serve(&mut BufReader::new(rustls::StreamOwned::new(session, stream)));
        })
    }

    fn over(
        script: &'static [&'static str],
        wrap: impl Fn(std::net::TcpStream, &mut dyn FnMut(&mut dyn Wire)) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, arrived) = mpsc::channel();
        let wrap = Arc::new(wrap);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tell, wrap) = (tell.clone(), Arc::clone(&wrap));
                thread::spawn(move || wrap(stream, &mut |wire| play(script, wire, &tell)));
            }
        });
        Self { port, arrived }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

trait Wire: BufRead {
    fn answer(&mut self, text: &str);
}

impl<S: Read + Write> Wire for BufReader<S> {
    fn answer(&mut self, text: &str) {
        self.get_mut().write_all(text.as_bytes()).unwrap();
        self.get_mut().flush().unwrap();
    }
}

fn play(script: &[&str], wire: &mut dyn Wire, tell: &mpsc::Sender<()>) {
    for answer in script {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if wire.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            length = line
                .to_ascii_lowercase()
                .strip_prefix("content-length: ")
                .map_or(length, |n| n.trim().parse().unwrap());
        }
        wire.read_exact(&mut vec![0; length]).unwrap();
        let _ = tell.send(());
        match *answer {
            CLOSE => return,
            HANG => drop(wire.read_to_end(&mut Vec::new())),
            answer => wire.answer(answer),
        }
    }
    // Until the client has gone.
    let _ = wire.read_to_end(&mut Vec::new());
}

/// A port that nobody listens on.
fn dead() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("http://127.0.0.1:{port}/")
}

fn command(format: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_httptrace"));
    command.args(["--format", format]).args(args).env("no_proxy", "*").stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if told.starts_with("OTEL_") || ["TRACEPARENT", "TRACESTATE"].contains(&&*told) {
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

fn run(format: &str, args: &[&str]) -> Ran {
    ran(&command(format, args).output().unwrap())
}

fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// The entries of an archive that is valid.
fn entries(ran: &Ran) -> Vec<Value> {
    let archive: Value = serde_json::from_str(&ran.stdout).expect("one JSON document");
    let log = &archive["log"];
    typed(log, &[("version", "string"), ("creator", "object"), ("entries", "array")]);
    assert_eq!(log["version"], "1.2");
    typed(&log["creator"], &[("name", "string"), ("version", "string")]);
    let entries = log["entries"].as_array().unwrap().clone();
    entries.iter().for_each(check_entry);
    let starts: Vec<_> = entries.iter().map(|entry| entry["startedDateTime"].as_str().unwrap()).collect();
    assert!(starts.is_sorted(), "{starts:?}");
    entries
}

fn typed(object: &Value, fields: &[(&str, &str)]) {
    for (name, kind) in fields {
        let value = &object[*name];
        let right = match *kind {
            "string" => value.is_string(),
            "object" => value.is_object(),
            "array" => value.is_array(),
            "integer" => value.is_i64() || value.is_u64(),
            _ => value.is_number(),
        };
        assert!(right, "{name} is to be of type {kind}: {object:#}");
    }
}

fn check_entry(entry: &Value) {
    let own = |name: &str| name.starts_with('_');
    let known = ["startedDateTime", "time", "request", "response", "cache", "timings", "serverIPAddress", "connection"];
    for name in entry.as_object().unwrap().keys() {
        assert!(own(name) || known.contains(&name.as_str()), "{name}");
    }
    typed(entry, &[("startedDateTime", "string"), ("time", "number"), ("request", "object"), ("response", "object")]);
    typed(entry, &[("cache", "object"), ("timings", "object")]);
    let started = entry["startedDateTime"].as_str().unwrap();
    let shape: String = started.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    let sizes = [("headersSize", "integer"), ("bodySize", "integer"), ("cookies", "array"), ("headers", "array")];
    let (request, response) = (&entry["request"], &entry["response"]);
    for message in [request, response] {
        typed(message, &sizes);
        typed(message, &[("httpVersion", "string")]);
        for field in message["headers"].as_array().unwrap() {
            typed(field, &[("name", "string"), ("value", "string")]);
        }
    }
    typed(request, &[("method", "string"), ("url", "string"), ("queryString", "array")]);
    for pair in request["queryString"].as_array().unwrap() {
        typed(pair, &[("name", "string"), ("value", "string")]);
    }
    typed(
        response,
        &[("status", "integer"), ("statusText", "string"), ("redirectURL", "string"), ("content", "object")],
    );
    typed(&response["content"], &[("size", "integer"), ("mimeType", "string")]);
    for optional in ["connection", "serverIPAddress"] {
        assert!(entry.get(optional).is_none_or(Value::is_string), "{optional}");
    }
    check_timings(entry);
}

/// Nothing that a message was read or written in is negative; the rest is -1 or positive; together they are the whole.
fn check_timings(entry: &Value) {
    let part = |name: &str| entry["timings"][name].as_f64().unwrap();
    for name in ["send", "wait", "receive", "blocked"] {
        assert!(part(name) >= 0.0, "{name}: {entry:#}");
    }
    for name in ["dns", "connect", "ssl"] {
        assert!(part(name) == -1.0 || part(name) >= 0.0, "{name}: {entry:#}");
    }
    assert!(part("ssl") <= part("connect"), "{entry:#}");
    let sum: f64 =
        ["blocked", "dns", "connect", "send", "wait", "receive"].map(|name| part(name).max(0.0)).iter().sum();
    let time = entry["time"].as_f64().unwrap();
    assert!((sum - time).abs() < 1e-6, "{sum} is not {time}: {entry:#}");
}

fn lines(ran: &Ran) -> Vec<Value> {
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_archive_says_what_the_json_lines_say() {
    let runs = ["har", "json"].map(|format| {
        let (origin, dead) = (Origin::start(&[OK, OK]), dead());
        let ran = run(format, &[&origin.url("/a?x=1&y"), &origin.url("/b"), &dead, "-d", "body"]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (7, 1), "{}", ran.stderr);
        ran
    });
    let (entries, lines) = (entries(&runs[0]), lines(&runs[1]));
    assert_eq!((entries.len(), lines.len()), (3, 3));
    for (entry, line) in entries.iter().zip(&lines) {
        let (request, response) = (&entry["request"], &entry["response"]);
        assert_eq!(request["method"], line["method"]);
        assert_eq!(request["bodySize"], line["request_body_bytes"]);
        assert_eq!(response["content"]["size"], line["response_body_bytes"]);
        assert_eq!(response["status"], line["status"].as_u64().unwrap_or(0));
        assert_eq!(request["httpVersion"], line["protocol"].as_str().unwrap_or(""));
        assert_eq!(entry["_outcome"], line["connection"]["outcome"]);
        assert_eq!(entry["_error"]["type"], line["error"]["type"]);
        assert_eq!(entry["_error"]["phase"], line["error"]["phase"]);
        let names = |phases: &Value| phases.as_array().unwrap().iter().map(|p| p["name"].clone()).collect::<Vec<_>>();
        assert_eq!(names(&entry["_phases"]), names(&line["phases"]));
    }
    assert_eq!(entries[0]["connection"], entries[1]["connection"]);
    assert_eq!(entries[0]["serverIPAddress"], "127.0.0.1");
    assert_eq!(entries[0]["request"]["queryString"], json!([{"name": "x", "value": "1"}, {"name": "y", "value": ""}]));
    assert_eq!(entries[0]["response"]["content"]["mimeType"], "text/plain");
    let timing = |entry: usize, name: &str| entries[entry]["timings"][name].as_f64().unwrap();
    assert!(timing(0, "connect") > 0.0 && timing(0, "ssl") == -1.0 && timing(0, "dns") == -1.0);
    assert_eq!((timing(1, "dns"), timing(1, "connect"), timing(1, "ssl")), (-1.0, -1.0, -1.0));
    assert!(timing(2, "connect") > 0.0 && timing(2, "send") == 0.0);
    assert!(entries[2].get("connection").is_none() && entries[2]["response"]["statusText"] == "");
}

#[test]
fn a_handshake_is_a_part_of_connect() {
    let origin = Origin::tls(&[OK, OK]);
    let url = format!("https://localhost:{}/", origin.port);
    let ran = run("har", &["-k", "-n", "2", &url]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let entries = entries(&ran);
    let timing = |entry: usize, name: &str| entries[entry]["timings"][name].as_f64().unwrap();
    assert!(timing(0, "dns") > 0.0 && timing(0, "ssl") > 0.0 && timing(0, "connect") > timing(0, "ssl"));
    assert_eq!((timing(1, "dns"), timing(1, "connect"), timing(1, "ssl")), (-1.0, -1.0, -1.0));
}

#[test]
fn a_retry_is_an_entry_of_its_own() {
    // A connection serves one request and breaks off at the second.
    let origin = Origin::start(&[OK, CLOSE]);
    let ran = run("har", &["-n", "2", &origin.url("/")]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let entries = entries(&ran);
    let told: Vec<_> = entries
        .iter()
        .map(|e| (e["response"]["status"].as_u64(), e["_resendCount"].as_u64(), e["_error"]["type"].as_str()))
        .collect();
    assert_eq!(told[..1], [(Some(200), Some(0), None)]);
    assert_eq!(told[2..], [(Some(200), Some(1), None)]);
    assert_eq!((told[1].0, told[1].1), (Some(0), Some(0)));
    assert!(told[1].2.is_some_and(|error| error.starts_with("connection_")), "{told:?}");
    assert_eq!(entries[1]["response"]["headers"], json!([]));
    assert_ne!(entries[2]["response"]["headers"], json!([]));
}

#[test]
fn secrets_are_in_no_format() {
    const BACK: &str =
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: /next?sig=hidden&n=2#access_token=hidden\r\n\r\n";
    const DENIED: &str = "HTTP/1.1 401 No\r\nContent-Length: 6\r\nWWW-Authenticate: Basic realm=hidden\r\n\
         X-Auth-Token: hidden\r\nRefresh: 0; url=http://u:hidden@a/?sig=hidden\r\n\r\nhidden";
    for format in ["hooks", "har", "json", "waterfall"] {
        let origin = Origin::start(&[OK, MOVED, BACK, DENIED, CLOSE]);
        let port = origin.port;
        let fields = [
            ["-H", "Cookie: id=hidden"],
            ["-H", "Proxy-Authorization: hidden"],
            ["-H", "X-Api-Key: hidden"],
            ["-H", "Referer: http://u:hidden@a/?Signature=hidden#hidden"],
        ]
        .concat();
        let keys = "sig=hidden&X-Amz-Signature=hidden&X-Amz-Security-Token=hidden&X-Goog-Signature=hidden";
        let url = |rest: &str| format!("http://user:hidden@127.0.0.1:{port}/{rest}");
        let urls = [url(&format!("?shown=1&{keys}")), url("moved"), url("back")];
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let ran_whole = run(format, &[&fields[..], &["-d", "hidden"], &urls].concat());
        assert_eq!(ran_whole.code, 0, "{}", ran_whole.stderr);
        // A refusal, a connection that breaks off, and one that is never had.
        let origin = Origin::start(&[DENIED, CLOSE]);
        let denied = format!("http://user:hidden@127.0.0.1:{}/?sig=hidden", origin.port);
        let dead = dead().replace("http://", "http://user:hidden@");
        let ran_failing = run(format, &[&fields[..], &["-d", "hidden", &denied, &denied, &dead]].concat());
        assert_eq!(ran_failing.code, 52, "{}", ran_failing.stderr);
        for ran in [&ran_whole, &ran_failing] {
            for out in [&ran.stdout, &ran.stderr] {
                // As it was planted, and as Basic carries it.
                assert!(!out.contains("hidden") && !out.contains("dXNlcjpoaWRkZW4="), "{format}: {out}");
            }
        }
        for shown in ["shown=1", "REDACTED:REDACTED@", "sig=REDACTED"] {
            assert!(ran_whole.stdout.contains(shown), "{format}: {shown}: {}", ran_whole.stdout);
        }
        if format == "har" {
            let redirects: Vec<_> =
                entries(&ran_whole).iter().map(|entry| entry["response"]["redirectURL"].clone()).collect();
            assert_eq!(redirects, ["", "http://REDACTED:REDACTED@a/?sig=REDACTED&n=1", "/next?sig=REDACTED&n=2"]);
            let first = &entries(&ran_whole)[0]["request"]["queryString"][1];
            assert_eq!(*first, json!({"name": "sig", "value": "REDACTED"}));
            assert_eq!(entries(&ran_failing)[0]["response"]["status"], 401);
        }
    }
}

/// Runs of every kind, as archives.
fn archives() -> Vec<(&'static str, Ran)> {
    let plain = Origin::start(&[OK, MOVED, OK, CLOSE]);
    let (tls, cut) = (Origin::tls(&[OK, OK]), Origin::start(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]));
    let (mute, h2) = (Origin::start(&[HANG]), Origin::start(&[HANG]));
    let secure = format!("https://localhost:{}/a%20b?x=1&y&=z", tls.port);
    vec![
        ("reuse, a redirect, a retry", run("har", &["-n", "4", "-d", "body", &plain.url("/?a=b=c&d")])),
        ("a handshake", run("har", &["-k", "-n", "2", &secure])),
        ("no trust", run("har", &[&secure])),
        ("no connection", run("har", &[&dead()])),
        ("no such host", run("har", &["http://missing.invalid/"])),
        ("an IPv6 host", run("har", &["http://[::1]:1/"])),
        ("no answer", run("har", &["-m", "0.2", &mute.url("/")])),
        ("no answer on HTTP/2", run("har", &["-m", "0.2", "--http2-prior-knowledge", &h2.url("/")])),
        ("half a body", run("har", &["-m", "0.2", &cut.url("/")])),
    ]
}

#[test]
fn what_did_not_happen_is_told_as_minus_one_and_the_parts_are_the_whole() {
    for (which, ran) in archives() {
        // Fields, types, signs and sums.
        let entries = entries(&ran);
        assert!(!entries.is_empty(), "{which}");
        for entry in entries {
            let part = |name: &str| entry["timings"][name].as_f64().unwrap();
            if entry.get("serverIPAddress").is_none() {
                let exchange = ["send", "wait", "receive"].map(part);
                assert_eq!((exchange, entry["response"]["status"].as_u64()), ([0.0; 3], Some(0)), "{which}: {entry:#}");
            }
        }
    }
}

#[test]
#[ignore = "needs node and har-validator, which carries the published schema: `.ci/run full` installs them"]
fn archives_are_valid_by_the_published_schema() {
    const CHECK: &str = "const {har} = require('har-validator');
        const text = require('fs').readFileSync(0, 'utf8');
        har(JSON.parse(text)).catch(({errors}) => { console.error(JSON.stringify(errors, null, 1)); process.exit(1) })";
    let check = |archive: &str| {
        let mut node = Command::new("node");
        // Where Debian puts its packages.
        node.args(["-e", CHECK]).env("NODE_PATH", "/usr/share/nodejs").stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut node = node.spawn().expect("node");
        node.stdin.take().unwrap().write_all(archive.as_bytes()).unwrap();
        let output = node.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (which, ran) in archives() {
        let (valid, said) = check(&ran.stdout);
        assert!(valid, "{which}: {said}\n{}", ran.stdout);
        // The validator does look: each of these may not be missing.
        for needed in ["redirectURL", "startedDateTime", "receive", "mimeType"] {
            let (valid, said) = check(&ran.stdout.replace(&format!("\"{needed}\""), "\"_other\""));
            assert!(!valid && said.contains(needed), "{which}: without {needed}: {said}");
        }
    }
}

#[test]
fn a_path_on_http2_shows_no_secret() {
    // The origin does not speak HTTP/2, but it takes the head.
    let origin = Origin::start(&[HANG]);
    for format in ["hooks", "har"] {
        let ran = run(format, &["--http2-prior-knowledge", "-m", "0.3", &origin.url("/?sig=hidden")]);
        assert_eq!(ran.code, 28, "{}", ran.stderr);
        assert!(ran.stdout.contains(":path") && ran.stdout.contains("/?sig=REDACTED"), "{}", ran.stdout);
        assert!(!ran.stdout.contains("hidden"), "{}", ran.stdout);
    }
}

/// Go's name of a hook as its method is called.
fn snake(name: &str) -> String {
    let known = [("DNSStart", "dns_start"), ("DNSDone", "dns_done"), ("Got100Continue", "got_100_continue")];
    let tls = [("TLSHandshakeStart", "tls_handshake_start"), ("TLSHandshakeDone", "tls_handshake_done")];
    if let Some((_, method)) = known.iter().chain(&tls).find(|(go, _)| *go == name) {
        return (*method).to_owned();
    }
    let mut method = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !method.is_empty() {
            method.push('_');
        }
        method.push(c.to_ascii_lowercase());
    }
    method
}

/// The blocks of a `hooks` run: a first line and the hooks' names.
fn blocks(ran: &Ran) -> Vec<(String, Vec<String>)> {
    let block = |text: &str| {
        let mut lines = text.lines();
        let first = lines.next().unwrap().to_owned();
        let name = |line: &str| {
            let (hook, time) = line.rsplit_once(") ").expect("a hook");
            let time = time.strip_suffix(" ms").expect("a time");
            assert!(time.parse::<f64>().unwrap() >= 0.0, "{line}");
            snake(hook.split_once('(').unwrap().0)
        };
        (first, lines.map(name).collect())
    };
    ran.stdout.split("\n\n").map(block).collect()
}

#[test]
fn hooks_are_printed_in_the_order_of_their_calls() {
    let runs = ["hooks", "json"].map(|format| {
        let (origin, dead) = (Origin::start(&[OK, OK]), dead());
        let ran = run(format, &[&origin.url("/a"), &origin.url("/b"), &dead]);
        assert_eq!((ran.code, ran.stderr.lines().count()), (7, 1), "{}", ran.stderr);
        ran
    });
    let told: Vec<Vec<String>> = blocks(&runs[0]).into_iter().map(|(_, hooks)| hooks).collect();
    let called: Vec<Vec<String>> = lines(&runs[1])
        .iter()
        .map(|line| {
            line["hooks"].as_array().unwrap().iter().map(|hook| hook["name"].as_str().unwrap().to_owned()).collect()
        })
        .collect();
    assert_eq!(told, called);
    let text = &runs[0].stdout;
    assert!(text.contains("\nGotConn({reused:false was_idle:false}) "), "{text}");
    assert!(text.contains("\nGotConn({reused:true was_idle:true idle_time:"), "{text}");
    assert!(text.contains("\nWroteHeaderField({name:accept value:*/*}) "), "{text}");
    assert!(text.contains("\nGetConnFailed({error:"), "{text}");
    assert!(text.contains("\nGetConn({host:127.0.0.1 port:"), "{text}");
}

#[test]
fn the_lines_of_attempts_are_not_mixed() {
    let origin = Origin::start(&[OK, OK, OK, CLOSE]);
    let ran = run("hooks", &["-n", "30", "-c", "6", &origin.url("/")]);
    // A second attempt is on a connection of its own, so none fails.
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let blocks = blocks(&ran);
    let mut seen: Vec<_> = blocks.iter().map(|(first, _)| first.clone()).collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), blocks.len(), "each attempt has one block");
    for number in 1..=30 {
        assert!(seen.iter().any(|first| first.contains(&format!("(request {number}, attempt 1)"))), "{number}");
    }
    assert!(blocks.len() > 30, "some were tried again");
    for (first, hooks) in &blocks {
        let count = |name: &str| hooks.iter().filter(|hook| *hook == name).count();
        let once = ["get_conn", "got_conn", "response_done", "put_idle_conn"].map(count);
        assert_eq!((hooks[0].as_str(), once), ("get_conn", [1; 4]), "{first}: {hooks:?}");
        // A dial may go on when its request was served otherwise and is over.
        assert!(count("connect_start") >= count("connect_done"), "{first}: {hooks:?}");
    }
}

#[test]
fn ctrl_c_leaves_a_whole_document() {
    for format in ["hooks", "har"] {
        let origin = Origin::start(&[HANG]);
        let child = command(format, &[&origin.url("/")]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        origin.arrived.recv().unwrap();
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let ended = ran(&child.wait_with_output().unwrap());
        assert_eq!((ended.code, ended.stderr.as_str()), (130, "httptrace: (130) interrupted\n"));
        if format == "har" {
            let entries = entries(&ended);
            assert_eq!((entries.len(), &entries[0]["_error"]["type"]), (1, &"canceled".into()));
        } else {
            assert_eq!(blocks(&ended)[0].1.last().map(String::as_str), Some("put_idle_conn"), "{}", ended.stdout);
        }
    }
}

#[test]
fn the_options_mean_what_they_mean_in_other_formats() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("formats-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for format in ["hooks", "har"] {
        let origin = Origin::start(&[OK]);
        let body = folder.join(format);
        let ran = run(format, &["-o", body.to_str().unwrap(), &origin.url("/")]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert_eq!(fs::read_to_string(&body).unwrap(), "hello");
        assert!(!ran.stdout.contains("hello"));
        let silent = run(format, &["-s", &dead()]);
        assert_eq!((silent.code, silent.stderr.as_str()), (7, ""));
        assert!(silent.stdout.contains("connection refused"), "{}", silent.stdout);
        for (bad, code) in [(&["http://"][..], 3), (&["--cacert", "/missing", "a"], 77), (&["-n", "0", "a"], 2)] {
            let refused = run(format, bad);
            assert_eq!((refused.code, refused.stdout.as_str(), refused.stderr.lines().count()), (code, "", 1));
        }
        let mut deaf =
            command(format, &[&origin.url("/")]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(deaf.stdout.take());
        let deaf = ran_without_stdout(deaf);
        assert_eq!(deaf, (Some(0), String::new()));
    }
    fs::remove_dir_all(&folder).unwrap();
}

/// The exit code and stderr.
fn ran_without_stdout(child: std::process::Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn help_names_the_formats() {
    let ran = run("har", &["--help"]);
    assert!(ran.stdout.contains("hooks:") && ran.stdout.contains("har:"), "{}", ran.stdout);
}
