//! The command in a terminal, and where there is none: a pseudo-terminal in, what is left on its screen out.
//!
//! The screen is what a terminal of that size would show in the end (`vt100`), so a bar that was not taken back, a line
//! that was broken at the edge and an escape code that was obeyed are all seen.

use std::{
    fs::File,
    io::Read,
    num::NonZeroU16,
    os::fd::OwnedFd,
    process::{Child, Stdio},
    sync::mpsc,
    thread,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use super::*;

/// Rows enough for everything.
const ROWS: u16 = 2_000;

/// Which of its streams the command has in the terminal; the other one is a pipe.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Both,
    Stdout,
    Stderr,
}

/// A command that runs in a terminal.
struct Session {
    child: Child,
    columns: u16,
    /// What it wrote, as it came.
    chunks: mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

/// What is left of it.
struct Left {
    code: i32,
    /// All that the terminal got.
    raw: String,
    /// What it shows in the end, line by line.
    screen: Vec<String>,
    /// A line of the screen went on in the next one.
    broken: bool,
    /// What went into the pipe.
    piped: String,
}

fn terminal(columns: u16) -> (File, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let inside = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    tcsetwinsize(&inside, Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (File::from(master), inside)
}

impl Session {
    fn start(columns: u16, streams: In, args: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::held_up(columns, streams, args, environment).0
    }

    /// The terminal takes nothing more than its buffer holds until the sender is dropped.
    fn held_up(columns: u16, streams: In, args: &[&str], environment: &[(&str, &str)]) -> (Self, mpsc::Sender<()>) {
        let (mut master, inside) = terminal(columns);
        let mut command = command(args);
        command.env("TERM", "xterm-256color").envs(environment.iter().copied());
        let stream = |shown: bool| if shown { Stdio::from(inside.try_clone().unwrap()) } else { Stdio::piped() };
        command.stdout(stream(streams != In::Stderr)).stderr(stream(streams != In::Stdout));
        let child = command.spawn().unwrap();
        // The terminal's last holder is the child now, so that its end can be read.
        drop((command, inside));
        let (sender, chunks) = mpsc::channel();
        let (release, held) = mpsc::channel::<()>();
        thread::spawn(move || {
            let _ = held.recv();
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = master.read(&mut chunk) {
                let _ = sender.send(chunk[..length].to_vec());
            }
        });
        (Self { child, columns, chunks, seen: Vec::new() }, release)
    }

    /// Waits until the terminal has got this.
    fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(text) {
            self.seen.extend(self.chunks.recv().expect("it is written before the end"));
        }
    }

    fn end(mut self) -> Left {
        let mut piped = String::new();
        let pipes = [self.child.stdout.take().map(OwnedFd::from), self.child.stderr.take().map(OwnedFd::from)];
        for pipe in pipes.into_iter().flatten() {
            File::from(pipe).read_to_string(&mut piped).unwrap();
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.seen.extend(self.chunks.iter().flatten());
        let [rows, columns] = [ROWS, self.columns].map(|size| NonZeroU16::new(size).unwrap());
        let mut parser = vt100::Parser::new(rows, columns, 0);
        parser.process(&self.seen);
        let shown = parser.screen();
        let mut screen: Vec<String> = shown.rows(0, self.columns).collect();
        while screen.last().is_some_and(String::is_empty) {
            screen.pop();
        }
        let broken = (0..ROWS).any(|row| shown.row_wrapped(row));
        Left { code, raw: String::from_utf8_lossy(&self.seen).into_owned(), screen, broken, piped }
    }
}

fn shown(columns: u16, streams: In, args: &[&str], environment: &[(&str, &str)]) -> Left {
    Session::start(columns, streams, args, environment).end()
}

/// Whether a text chooses a colour or a weight.
fn is_coloured(raw: &str) -> bool {
    raw.split("\x1b[")
        .skip(1)
        .any(|code| code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
}

/// A line of a bar that was left behind.
fn is_bar(line: &str) -> bool {
    let numbers = line.split(' ').next().unwrap_or_default();
    line.contains(" left") || numbers.split_once('/').is_some_and(|(done, _)| done.parse::<u32>().is_ok())
}

#[test]
fn the_bar_is_shown_on_stderr_and_leaves_nothing_behind() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    for columns in [20, 40, 80, 140] {
        let args = ["--format", "json", "-n", "40", "-c", "4", &origin.url("/")];
        let left = shown(columns, In::Stderr, &args, &[]);
        assert_eq!((left.code, left.piped.lines().count()), (0, 40));
        assert!(left.raw.contains("0/40"), "{:?}", left.raw);
        assert_eq!(left.screen, Vec::<String>::new(), "{columns}: {:?}", left.raw);
    }
}

#[test]
fn a_bar_and_charts_share_a_terminal_of_any_width() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    for columns in [20, 40, 80, 140, 200] {
        let left = shown(columns, In::Both, &["-n", "40", "-c", "4", &origin.url("/")], &[]);
        let screen = left.screen.join("\n");
        assert_eq!(left.code, 0);
        assert!(left.raw.contains("0/40"), "{:?}", left.raw);
        assert!(!left.broken, "{columns}:\n{screen}");
        assert!(!left.screen.iter().any(|line| is_bar(line)), "{columns}:\n{screen}");
        let titles = left.screen.iter().filter(|line| line.starts_with("GET http")).count();
        assert!((2..=5).contains(&titles), "{columns}: the first of each kind and the slowest\n{screen}");
        let words = screen.replace('\n', " ");
        for said in [&format!("{} more are in the table only", 40 - titles), "40 requests in", "reuse ratio", "p50"] {
            assert!(words.contains(said), "{columns}: {said}\n{screen}");
        }
        assert!(left.screen.first().is_some_and(|line| line.starts_with("GET http")), "{columns}:\n{screen}");
    }
}

#[test]
fn a_terminal_gets_every_chart_of_a_few_and_a_pipe_those_of_all() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let titles = |text: &str| text.lines().filter(|line| line.starts_with("GET http")).count();
    let few = shown(80, In::Both, &["-n", "10", &origin.url("/")], &[]);
    assert_eq!(titles(&few.screen.join("\n")), 10);
    let piped = httptrace(&["-n", "40", &origin.url("/")]);
    assert_eq!((titles(&piped.stdout), piped.stderr.as_str()), (40, ""));
    assert!(!piped.stdout.contains("table only"));
}

#[test]
fn the_slowest_and_each_kind_of_failure_have_a_chart() {
    const SHORT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello";
    const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nhello";
    let origin = Origin::start(&[Reply::Send(OK), Reply::Send(OK), Reply::Send(BAD), Reply::Send(SHORT)]);
    let left = shown(80, In::Both, &["-n", "60", &origin.url("/")], &[]);
    let screen = left.screen.join("\n");
    assert_eq!(left.code, 18, "{screen}");
    for said in
        ["200 OK · HTTP/1.1 · new", "200 OK · HTTP/1.1 · reused", "503 Service", "✗ response-read", "body_incomplete"]
    {
        assert!(screen.contains(said), "{said}\n{screen}");
    }
    assert!(screen.contains("failed        body_incomplete in response-read ×15"), "{screen}");
    assert!(screen.contains("status        200 ×45 · 503 ×15"), "{screen}");
    assert_eq!(screen.matches("httptrace: (18)").count(), 1, "one line for all of them\n{screen}");
    assert!(screen.contains("httptrace: 14 more failures like these"), "{screen}");
}

#[test]
fn failures_above_the_bar_are_told_once_each() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{closed}/");
    for columns in [60, 80, 140] {
        let left = shown(columns, In::Stderr, &["--format", "json", "-n", "20", "-c", "4", &url], &[]);
        let expected = ["httptrace: (7) connect: connection refused", "httptrace: 19 more failures like these"];
        assert_eq!((left.code, left.screen), (7, expected.map(str::to_owned).to_vec()));
    }
    // A pipe has a line for each.
    let piped = httptrace(&["--format", "json", "-n", "20", &url]);
    assert_eq!(piped.stderr.lines().count(), 20, "{}", piped.stderr);
}

#[test]
fn nobody_who_did_not_ask_gets_a_bar() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let url = origin.url("/");
    let many = ["--format", "json", "-n", "40", &url];
    for (streams, args, environment) in [
        (In::Stderr, &["-s", "--format", "json", "-n", "40", &url][..], &[][..]),
        (In::Stderr, &many, &[("TERM", "dumb")]),
        (In::Stderr, &["--format", "json", &url], &[]),
        (In::Both, &["-s", "-n", "40", &url], &[]),
        (In::Both, &many, &[]),
        (In::Both, &["--format", "hooks", "-n", "40", &url], &[]),
        (In::Stdout, &["-n", "40", &url], &[]),
    ] {
        let left = shown(80, streams, args, environment);
        assert_eq!(left.code, 0, "{args:?}");
        assert!(!left.raw.contains("/40") && !left.raw.contains("\x1b[2K"), "{args:?}: {:?}", left.raw);
        match streams {
            In::Stderr => assert_eq!(left.raw, "", "{args:?}"),
            In::Stdout => assert_eq!(left.piped, "", "{args:?}"),
            In::Both => {}
        }
    }
}

#[test]
fn a_stderr_with_lines_of_its_own_has_no_bar() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let url = origin.url("/");
    for (args, environment, line) in [
        (&["-v"][..], &[][..], "< HTTP/1.1 200 OK"),
        (&[], &[("OTEL_TRACES_EXPORTER", "console"), ("OTEL_METRICS_EXPORTER", "none")], "response-wait"),
        (&[], &[("OTEL_METRICS_EXPORTER", "otlp, console"), ("OTEL_TRACES_EXPORTER", "none")], "http.client"),
    ] {
        let args: Vec<&str> = args.iter().chain(&["-n", "40", &url]).copied().collect();
        let left = shown(80, In::Stderr, &args, environment);
        assert!(left.raw.contains(line), "{args:?}: {:?}", left.raw);
        assert!(!left.raw.contains("0/40") && !left.raw.contains("\x1b[2K"), "{args:?}: {:?}", left.raw);
    }
}

/// `watch` and the like: a terminal to read from, one pipe to write both streams to, and the width in the environment.
#[test]
fn what_is_run_again_and_again_gets_plain_lines_of_its_width() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    for term in ["xterm-256color", "dumb"] {
        let (_master, inside) = terminal(120);
        let binary = env!("CARGO_BIN_EXE_httptrace");
        let mut shell = program("sh", &["-c", "\"$@\" 2>&1 | cat", "sh", binary, "-n", "20", &origin.url("/")]);
        let output = shell.env("TERM", term).env("COLUMNS", "60").stdin(inside).output().unwrap();
        let ran = ran(&output);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("reuse ratio 95.0 %") && !ran.stdout.contains('\x1b'), "{}", ran.stdout);
        assert!(!ran.stdout.lines().any(is_bar), "{}", ran.stdout);
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 60), "{}", ran.stdout);
    }
}

#[test]
fn a_pipe_into_jq_has_nothing_but_json() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let script = "\"$@\" | jq -r 'select(.error == null) | .status'";
    let binary = env!("CARGO_BIN_EXE_httptrace");
    let url = origin.url("/");
    let args = ["-c", script, "sh", binary, "--format", "json", "-n", "20", &url];
    // Not every machine has it; what it would read is a line of JSON each, which other tests hold.
    if Command::new("jq").arg("--version").output().is_ok() {
        let piped = ran(&program("sh", &args).output().unwrap());
        assert_eq!((piped.code, piped.stdout, piped.stderr), (0, "200\n".repeat(20), String::new()));
    }
}

#[test]
fn colours_are_for_terminals_and_for_those_who_insist() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let url = origin.url("/");
    for (environment, coloured) in [
        (&[][..], true),
        (&[("NO_COLOR", "1")], false),
        (&[("NO_COLOR", "")], true),
        (&[("CLICOLOR", "0")], false),
        (&[("TERM", "dumb")], false),
        (&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")], false),
    ] {
        for args in [&["-n", "20", &url][..], &[&url]] {
            let left = shown(80, In::Both, args, environment);
            assert_eq!((left.code, is_coloured(&left.raw)), (0, coloured), "{args:?} {environment:?}: {:?}", left.raw);
        }
    }
    let piped = |name: &str| {
        let output = command(&["-n", "2", &url]).env(name, "1").env("TERM", "xterm").output().unwrap();
        is_coloured(&ran(&output).stdout)
    };
    assert_eq!([piped("CLICOLOR_FORCE"), piped("CLICOLOR")], [true, false]);
}

#[test]
fn a_terminal_that_can_do_nothing_gets_plain_text() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let left = shown(80, In::Both, &["-n", "20", &origin.url("/")], &[("TERM", "dumb")]);
    assert!(left.code == 0 && !left.raw.contains('\x1b'), "{:?}", left.raw);
}

#[test]
fn an_interrupted_run_takes_its_bar_away() {
    let origin = Origin::start(&[Reply::Send(OK), Reply::Hang]);
    let args = ["--format", "json", "-n", "20", &origin.url("/")];
    let mut session = Session::start(80, In::Stderr, &args, &[]);
    session.until("/20");
    for _ in 0..2 {
        origin.arrived.recv().unwrap();
    }
    assert!(Command::new("kill").args(["-INT", &session.child.id().to_string()]).status().unwrap().success());
    let left = session.end();
    assert_eq!((left.code, left.screen), (130, vec!["httptrace: (130) interrupted".to_owned()]), "{:?}", left.raw);
    assert_eq!(left.piped.lines().count(), 2, "{}", left.piped);
}

#[test]
fn a_terminal_that_is_held_up_delays_no_request() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    // Ten charts of this width are more than the buffers of the terminal hold.
    let (session, release) = Session::held_up(200, In::Both, &["-n", "10", &origin.url("/")], &[]);
    for _ in 0..10 {
        origin.arrived.recv().unwrap();
    }
    drop(release);
    let left = session.end();
    assert!(left.code == 0 && left.raw.len() > 18_000, "{}: {}", left.code, left.raw.len());
    assert!(left.screen.iter().any(|line| line.contains("reuse ratio 90.0 %")), "{}", left.screen.join("\n"));
}

#[test]
fn nothing_that_a_terminal_obeys_gets_there() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let odd = origin.url("/\u{202e}東京\u{200b}?q=\u{feff}");
    for columns in [20, 40, 80] {
        let left = shown(columns, In::Both, &["-n", "3", &odd], &[("NO_COLOR", "1")]);
        let screen = left.screen.join("\n");
        assert!(!left.broken, "{columns}:\n{screen}");
        assert!(!screen.contains(['\u{202e}', '\u{200b}', '\u{feff}']), "{columns}: {screen:?}");
    }
    for url in
        [origin.url("/\x1b[2J"), origin.url("/\u{9b}2J"), "http://\x1b]0;x\x07/".to_owned(), "\x1b[2J://a/".to_owned()]
    {
        let left = shown(80, In::Both, &["-n", "2", &url], &[("NO_COLOR", "1"), ("TERM", "dumb")]);
        let steers = |c: char| c.is_control() && !matches!(c, '\r' | '\n');
        assert!(!left.raw.contains(steers), "{url:?}: {:?}", left.raw);
    }
}

#[test]
fn a_closed_stream_is_no_trouble() {
    let origin = Origin::start(&[Reply::Send(OK); 200]);
    let url = origin.url("/");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = format!("http://127.0.0.1:{closed}/");
    for (script, url, code) in [
        ("\"$@\" >&-", &url, 0),
        ("\"$@\" 2>&-", &url, 0),
        ("\"$@\" >&- 2>&-", &url, 0),
        ("\"$@\" <&- >&- 2>&-", &refused, 7),
        ("\"$@\" >&-", &refused, 7),
        ("\"$@\" 2>&-", &refused, 7),
        ("(\"$@\"; echo $? >&3) | head -n 1 >/dev/null", &url, 0),
        ("(\"$@\"; exit $?) 2>&1 >/dev/null | head -c 0", &refused, 0),
    ] {
        for format in ["waterfall", "json", "hooks", "har"] {
            let script = format!("exec 3>&1; {script}");
            let binary = env!("CARGO_BIN_EXE_httptrace");
            let mut shell = program("sh", &["-c", &script, "sh", binary, "--format", format, "-n", "30", url]);
            let ended = ran(&shell.output().unwrap());
            assert_eq!(ended.code, code, "{script} {format}: {}{}", ended.stdout, ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{script} {format}: {}", ended.stderr);
            if script.contains("&3") {
                assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("0\n", ""), "{format}");
            }
        }
    }
}

#[test]
fn json_in_a_terminal_is_a_line_each() {
    let origin = Origin::start(&[Reply::Send(OK); 40]);
    let left = shown(80, In::Both, &["--format", "json", "-n", "20", &origin.url("/")], &[]);
    let lines: Vec<Value> = left.raw.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((left.code, lines.len()), (0, 20));
}
