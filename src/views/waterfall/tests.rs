//! Charts as golden text: drawn from records that the real recorder folded from hooks at fixed moments.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Method, StatusCode, Version};

use super::*;
use crate::{
    Timeline,
    clock::TimeAnchor,
    connection::{ConnectionInfo, Protocol, TlsInfo},
    error::{Error, Kind},
    hooks::*,
    phase::Phase,
    redact::{Hidden, Rules},
    timeline::{Recorder, RequestInfo, TimelineHandle},
};

/// A script of hooks at microseconds after the start.
struct Script {
    anchor: TimeAnchor,
    recorder: Arc<Recorder>,
}

impl Script {
    fn new(url: &str) -> Self {
        // One moment for all, so that a summary of several is the same each time.
        static ANCHOR: OnceLock<TimeAnchor> = OnceLock::new();
        let anchor = *ANCHOR.get_or_init(TimeAnchor::new);
        let request = Arc::new(RequestInfo {
            method: Method::GET,
            url: Rules::default().url(&url.parse().expect("a URI")),
            host: Arc::from("localhost"),
            port: 8443,
            scheme: "https",
            attempt: 1,
            resend_count: 0,
            retry_reason: None,
            tag: None,
        });
        Self { anchor, recorder: Arc::new(Recorder::new(anchor, request, Vec::new(), false)) }
    }

    fn at(&self, micros: u64) -> std::time::Instant {
        self.anchor.instant() + Duration::from_micros(micros)
    }

    fn connection(&self) -> Arc<ConnectionInfo> {
        let tls = TlsInfo {
            version: "1.3",
            cipher: "TLS_AES_128_GCM_SHA256".to_owned(),
            alpn: Some("http/1.1".to_owned()),
            resumed: false,
            server_name: Some(Arc::from("localhost")),
            peer_chain: Arc::from([]),
            leaf: None,
        };
        let peer = "127.0.0.1:8443".parse().expect("an address");
        Arc::new(ConnectionInfo {
            id: 1,
            local: None,
            peer: Some(peer),
            socket_cookie: None,
            protocol: Protocol::Http1,
            tls: Some(Box::new(tls)),
            proxy: None,
            ready: self.at(0),
            setup: None,
            keep_alive: std::sync::OnceLock::new(),
            peer_text: std::sync::OnceLock::new(),
            forwards: false,
            left_dns: Default::default(),
        })
    }

    fn dns_and_connect(&self, error: Option<&Error>) {
        let addr = "127.0.0.1:8443".parse().ok();
        let addrs = [IpAddr::from([127, 0, 0, 1])];
        self.recorder.get_conn(&GetConnInfo { at: self.at(3), host: "localhost", port: 8443 });
        self.recorder.dns_start(&DnsStartInfo { at: self.at(4), host: "localhost" });
        self.recorder.dns_done(&DnsDoneInfo {
            at: self.at(310),
            addrs: &addrs,
            error: None,
            coalesced: false,
            facts: None,
        });
        self.recorder.connect_start(&ConnectStartInfo { at: self.at(312), addr, attempt: 1 });
        self.recorder.connect_done(&ConnectDoneInfo {
            at: self.at(390),
            addr,
            attempt: 1,
            local: None,
            socket_cookie: None,
            error,
        });
    }

    fn cold(&self) {
        let connection = self.connection();
        let tls = connection.tls.as_deref();
        self.dns_and_connect(None);
        self.recorder.tls_handshake_start(&TlsHandshakeStartInfo { at: self.at(392), server_name: Some("localhost") });
        self.recorder.tls_handshake_done(&TlsHandshakeDoneInfo { at: self.at(1490), tls, error: None });
        self.got(1498, &connection, ConnOutcome::New, None, 1);
    }

    fn got(&self, at: u64, connection: &Arc<ConnectionInfo>, outcome: ConnOutcome, idle: Option<u64>, number: u64) {
        self.recorder.got_conn(&GotConnInfo {
            at: self.at(at),
            connection,
            outcome,
            idle_time: idle.map(Duration::from_micros),
            age: Duration::ZERO,
            request_number: number,
            wait: (outcome == ConnOutcome::New).then_some(WaitCause::Dial),
        });
    }

    fn answered(&self, from: u64) {
        self.recorder.wrote_request(&WroteRequestInfo {
            at: self.at(from + 45),
            started: self.at(from),
            body_bytes: None,
            blocked: None,
            error: None,
        });
        self.recorder.got_first_response_byte(&GotFirstResponseByteInfo { at: self.at(from + 600) });
        self.recorder.response_done(&ResponseDoneInfo {
            at: self.at(from + 800),
            outcome: ResponseOutcome::Complete,
            status: Some(StatusCode::OK),
            version: Some(Version::HTTP_11),
            headers: None,
            first_byte: Some(self.at(from + 600)),
            body_bytes: 5,
            stream_id: None,
            detail_lost: false,
            facts: None,
            error: None,
        });
        self.recorder.put_idle_conn(&PutIdleConnInfo { at: self.at(from + 812), outcome: IdleReturn::Pooled });
    }

    fn timeline(self) -> Arc<Timeline> {
        TimelineHandle(self.recorder).get().expect("the attempt is over")
    }
}

fn cold() -> Arc<Timeline> {
    let script = Script::new("https://localhost:8443/a");
    script.cold();
    script.answered(1500);
    script.timeline()
}

fn reused() -> Arc<Timeline> {
    let script = Script::new("https://localhost:8443/a");
    let connection = script.connection();
    script.recorder.get_conn(&GetConnInfo { at: script.at(3), host: "localhost", port: 8443 });
    script.got(5, &connection, ConnOutcome::Idle, Some(152), 2);
    script.answered(10);
    script.timeline()
}

fn refused() -> Arc<Timeline> {
    let script = Script::new("https://localhost:8443/a");
    let error = Error::new(Kind::ConnectionRefused, Phase::Connect);
    script.dns_and_connect(Some(&error));
    let failed = GetConnFailedInfo { at: script.at(400), error: &error, wait: Some(WaitCause::Dial) };
    script.recorder.get_conn_failed(&failed);
    script.timeline()
}

/// The first address is silent, the second one wins.
fn raced() -> Arc<Timeline> {
    let script = Script::new("http://localhost:8443/a");
    let addrs = ["[::1]:8443", "127.0.0.1:8443"].map(|addr| addr.parse().ok());
    script.recorder.get_conn(&GetConnInfo { at: script.at(3), host: "localhost", port: 8443 });
    for (attempt, at) in [(1, 10), (2, 260)] {
        let addr = addrs[attempt as usize - 1];
        script.recorder.connect_start(&ConnectStartInfo { at: script.at(at), addr, attempt });
    }
    let lost = Error::canceled(Phase::Connect);
    for (attempt, at, error) in [(2, 900, None), (1, 902, Some(&lost))] {
        let addr = addrs[attempt as usize - 1];
        let done = ConnectDoneInfo { at: script.at(at), addr, attempt, local: None, socket_cookie: None, error };
        script.recorder.connect_done(&done);
    }
    script.got(910, &script.connection(), ConnOutcome::New, None, 1);
    script.answered(910);
    script.timeline()
}

fn check(drawn: &str, golden: &str) {
    assert_eq!(drawn, golden.strip_prefix('\n').expect("a golden text begins on a new line"), "\n{drawn}");
}

#[test]
fn addresses_that_race_are_bars_beside_each_other() {
    check(
        &Waterfall::from_timeline(&raced()).render(&Style::plain(100)),
        "
GET http://localhost:8443/a                                                                  1.72 ms
200 OK · HTTP/1.1 · new connection #1

  get-connection  █████████████████████████▉                         907 µs  own dial
    connect       ▐████████████████████████▋                         892 µs  ✗ canceled · [::1]:8443
    connect              ▐█████████████████▋                         640 µs  127.0.0.1:8443
  request-write                            ▕█▏                      45.0 µs
  response-wait                              ████████████████        555 µs
  response-read                                              █████▋  200 µs  5 B of body
                  ───────────────────────────────────────────▾────◂
                  ▾ first-byte 1.51 ms  ◂ idle-return 1.72 ms (pooled)
",
    );
}

#[test]
fn a_cold_request_shows_every_phase_where_it_happened() {
    check(
        &Waterfall::from_timeline(&cold()).render(&Style::plain(80)),
        "
GET https://localhost:8443/a                                             2.31 ms
200 OK · HTTP/1.1 · new connection #1

  get-connection  ████████████████████▏           1.50 ms  own dial
    dns           ████▏                            306 µs  localhost = 127.0.0.1
    connect           █▎                          78.0 µs  127.0.0.1:8443
    tls                ▐██████████████            1.10 ms  TLS 1.3, http/1.1
  request-write                       ▋           45.0 µs
  response-wait                       ▕███████▏    555 µs
  response-read                               ██▉  200 µs  5 B of body
                  ────────────────────────────▾─◂
                  ▾ first-byte 2.10 ms  ◂ idle-return 2.31 ms (pooled)
",
    );
}

#[test]
fn a_wide_terminal_gives_its_room_to_the_bars() {
    check(&Waterfall::from_timeline(&cold()).render(&Style::plain(140)), "
GET https://localhost:8443/a                                                                                                         2.31 ms
200 OK · HTTP/1.1 · new connection #1

  get-connection  ███████████████████████████████████████████████████████████                                 1.50 ms  own dial
    dns           ████████████▎                                                                                306 µs  localhost = 127.0.0.1
    connect                   ▐██▍                                                                            78.0 µs  127.0.0.1:8443
    tls                          ▐██████████████████████████████████████████▋                                 1.10 ms  TLS 1.3, http/1.1
  request-write                                                              █▊                               45.0 µs
  response-wait                                                               ▕█████████████████████▋          555 µs
  response-read                                                                                     ▐███████▌  200 µs  5 B of body
                  ──────────────────────────────────────────────────────────────────────────────────▾───────◂
                  ▾ first-byte 2.10 ms  ◂ idle-return 2.31 ms (pooled)
");
}

#[test]
fn a_reused_connection_has_no_dns_connect_or_tls() {
    check(
        &Waterfall::from_timeline(&reused()).render(&Style::plain(80)),
        "
GET https://localhost:8443/a                                              822 µs
200 OK · HTTP/1.1 · TLS 1.3 · reused connection #1, request 2 on it, idle 152 µs

  request-write   ▐█▊                                       45.0 µs
  response-wait     ▕███████████████████████████▍            555 µs
  response-read                                 ▐█████████▍  200 µs  5 B of body
                  ──────────────────────────────▾─────────◂
                  ▾ first-byte 610 µs  ◂ idle-return 822 µs (pooled)
",
    );
}

#[test]
fn a_failed_request_says_where_it_died() {
    check(
        &Waterfall::from_timeline(&refused()).render(&Style::plain(80)),
        "
GET https://localhost:8443/a                                              400 µs
✗ connect: connection refused
  The host is up, but nothing listens on this port. Is the server running? Is it
  this port?
  tried: 127.0.0.1:8443 (connection_refused after 78.0 µs)
  it ended after 400 µs, the last 78.0 µs of them in connect

  get-connection  ▐█████████████████████████████  397 µs  ✗ own dial
    dns           ▐██████████████████████▎        306 µs  localhost = 127.0.0.1
    connect                              ▐█████▎ 78.0 µs  ✗ connection_refused
",
    );
}

#[test]
fn a_record_is_bounded_and_counts_what_it_does_not_keep() {
    let script = Script::new("https://localhost:8443/a");
    let at = script.at(3);
    script.recorder.get_conn(&GetConnInfo { at, host: "localhost", port: 8443 });
    for attempt in 1..=70 {
        script.recorder.connect_start(&ConnectStartInfo { at, addr: None, attempt });
        script.recorder.connect_done(&ConnectDoneInfo {
            at,
            addr: None,
            attempt,
            local: None,
            socket_cookie: None,
            error: None,
        });
    }
    let (headers, status) = (http::HeaderMap::new(), StatusCode::EARLY_HINTS);
    for _ in 0..200 {
        script.recorder.got_1xx_response(&Got1xxResponseInfo { at, status, headers: Hidden::new(&headers) });
    }
    let failed = GetConnFailedInfo { at, error: &Error::canceled(Phase::Connect), wait: Some(WaitCause::Dial) };
    script.recorder.get_conn_failed(&failed);
    let timeline = script.timeline();
    let kept = (timeline.setup.len(), timeline.events.len(), timeline.dropped_events);
    assert_eq!(kept, (64, 128, 6 + 72));
}

#[test]
fn all_addresses_that_were_tried_are_told_and_the_cause_where_it_says_more() {
    let script = Script::new("https://localhost:8443/a");
    script.recorder.get_conn(&GetConnInfo { at: script.at(3), host: "localhost", port: 8443 });
    let cause = rustls::Error::General("a cause with \x1b[2J in it".to_owned());
    let error = Error::with(Kind::Timeout, Phase::Connect, cause);
    let unreachable = Error::new(Kind::NetworkUnreachable, Phase::Connect);
    for (attempt, addr, done, error) in [(1, "[::1]:8443", 20, &unreachable), (2, "127.0.0.1:8443", 5_000, &error)] {
        let addr = addr.parse().ok();
        script.recorder.connect_start(&ConnectStartInfo { at: script.at(10), addr, attempt });
        let done = ConnectDoneInfo {
            at: script.at(done),
            addr,
            attempt,
            local: None,
            socket_cookie: None,
            error: Some(error),
        };
        script.recorder.connect_done(&done);
    }
    let failed = GetConnFailedInfo { at: script.at(5_003), error: &error, wait: Some(WaitCause::Dial) };
    script.recorder.get_conn_failed(&failed);
    check(
        &Waterfall::from_timeline(&script.timeline()).render(&Style::plain(100)),
        "
GET https://localhost:8443/a                                                                 5.00 ms
✗ connect: timed out
  No answer at all. The host may be down, or a firewall drops what is sent to it.
  cause: unexpected error: a cause with \\x1b[2J in it
  tried: [::1]:8443 (network_unreachable after 10.0 µs), 127.0.0.1:8443 (timeout after 4.99 ms)
  it ended after 5.00 ms, the last 4.99 ms of them in connect

  get-connection  ██████████████████████████████████████████ 5.00 ms  ✗ own dial
    connect       ▏                                          10.0 µs  ✗ network_unreachable
    connect       ██████████████████████████████████████████ 4.99 ms  ✗ timeout · 127.0.0.1:8443
",
    );
}

#[test]
fn ascii_is_nothing_but_ascii() {
    let drawn = Waterfall::from_timeline(&cold()).render(&Style::plain(80).ascii(true));
    assert!(drawn.is_ascii());
    check(
        &drawn,
        "
GET https://localhost:8443/a                                             2.31 ms
200 OK, HTTP/1.1, new connection #1

  get-connection  #####################           1.50 ms  own dial
    dns           #####                            306 us  localhost = 127.0.0.1
    connect           ##                          78.0 us  127.0.0.1:8443
    tls                ###############            1.10 ms  TLS 1.3, http/1.1
  request-write                       |           45.0 us
  response-wait                       #########    555 us
  response-read                               ###  200 us  5 B of body
                  ----------------------------v-<
                  v first-byte 2.10 ms  < idle-return 2.31 ms (pooled)
",
    );
}

#[test]
fn colour_changes_no_character() {
    let style = Style::plain(80);
    for timeline in [cold(), reused(), refused()] {
        let chart = Waterfall::from_timeline(&timeline);
        let colored = chart.render(&style.color(true));
        assert!(colored.contains("\x1b["));
        let mut plain = String::new();
        for (i, part) in colored.split("\x1b[").enumerate() {
            plain.push_str(if i == 0 { part } else { part.split_once('m').expect("a whole code").1 });
        }
        let trimmed: Vec<&str> = plain.lines().map(str::trim_end).collect();
        assert_eq!(trimmed, chart.render(&style).lines().collect::<Vec<_>>());
    }
}

#[test]
fn no_line_is_wider_than_asked_for_whatever_is_in_it() {
    let mut chart = Waterfall::from_timeline(&refused());
    chart.title.push_str(&"東京\u{1b}[2J".repeat(40));
    chart.facts.extend(["y".repeat(200), "ü\u{9b}東".repeat(30)]);
    chart.rows[2].note = "z東".repeat(200);
    chart.rows[1].name = "東".repeat(50);
    chart.marks = Waterfall::from_timeline(&cold()).marks;
    let hosts: Vec<_> = ["https://localhost:8443/a", "https://localhost:8443/b"].map(Script::new).into();
    let odd = hosts.into_iter().map(|script| {
        script.cold();
        script.answered(1_500);
        let mut timeline = Timeline::clone(&script.timeline());
        let mut request = RequestInfo::clone(&timeline.request);
        request.host = Arc::from("a-long-name.東京\u{1b}[31m.example.com");
        request.port += u16::from(request.url.ends_with('b'));
        timeline.request = Arc::new(request);
        timeline
    });
    let odd: Vec<_> = odd.collect();
    let summary: Summary = odd.iter().chain([&*refused(), &*reused()]).collect();
    for width in (0..=90).chain([140, 200, 300]) {
        for style in [Style::plain(width), Style::plain(width).ascii(true)] {
            let drawn = render(&[chart.clone(), chart.clone()], &style) + &summary.render(&style);
            for line in drawn.lines() {
                assert!(columns(line) <= width.max(20), "{width}: {line}");
                assert!(!line.contains(char::is_control), "{line:?}");
            }
        }
    }
}

#[test]
fn a_narrow_terminal_gets_the_durations() {
    check(
        &Waterfall::from_timeline(&refused()).render(&Style::plain(30)),
        "
GET https://localhost…  400 µs
✗ connect: connection refused
  The host is up, but nothing
  listens on this port. Is the
  server running? Is it this
  port?
  tried: 127.0.0.1:8443
  (connection_refused after
  78.0 µs)
  it ended after 400 µs, the
  last 78.0 µs of them in
  connect

get-connection  397 µs ✗
  dns           306 µs
  connect      78.0 µs ✗
",
    );
}

#[test]
fn a_summary_leaves_out_what_has_no_room() {
    let summary: Summary = [&*cold(), &*refused()].into_iter().collect();
    check(
        &summary.render(&Style::plain(40)),
        "
2 requests in 2.31 ms · 865/s
1 answered · 1 failed
5 B of bodies read
failed
  connection_refused in connect ×1
status
  200 ×1
protocol
  HTTP/1.1 ×1
connections
  1 new · 0 reused
  reuse ratio 0.0 % (0 of 1)
waited for
  own dial ×2

               count     p50     p99
get-connection     2  397 µs 1.50 ms
dns                2  306 µs  306 µs
connect            2 78.0 µs 78.0 µs
tls                1 1.10 ms 1.10 ms
request-write      1 45.0 µs 45.0 µs
response-wait      1  555 µs  555 µs
response-read      1  200 µs  200 µs
to first byte      1 2.10 ms 2.10 ms
total              2  400 µs 2.31 ms
",
    );
}

#[test]
fn several_servers_have_a_line_each() {
    let mut other = Timeline::clone(&refused());
    let mut request = RequestInfo::clone(&other.request);
    request.host = Arc::from("::1");
    other.request = Arc::new(request);
    let summary: Summary = [&*cold(), &*reused(), &other].into_iter().collect();
    check(
        summary
            .render(&Style::plain(100))
            .split_once("\n\n")
            .and_then(|(_, tables)| tables.split_once("\n\n"))
            .map_or("", |(_, hosts)| hosts),
        "
                  count  failed  new  reused   reuse     p50      p99      max
  [::1]:8443          1       1    0       0          400 µs   400 µs   400 µs
  localhost:8443      2       0    1       1  50.0 %  822 µs  2.31 ms  2.31 ms
",
    );
}

#[test]
fn further_hosts_share_one_line() {
    let mut summary = Summary::default();
    for port in 1..100 {
        let mut timeline = Timeline::clone(&reused());
        let mut request = RequestInfo::clone(&timeline.request);
        request.port = port;
        timeline.request = Arc::new(request);
        summary.add(&timeline);
    }
    let drawn = summary.render(&Style::plain(80));
    assert_eq!(drawn.lines().filter(|line| line.contains("localhost:")).count(), 32);
    assert!(drawn.contains("\n  other hosts      67 "), "{drawn}");
}

#[test]
fn rows_of_any_clock_are_drawn_from_their_distances() {
    let unix = 1_795_367_549_000_000_000;
    let mut chart = Waterfall::new("GET", unix, unix + 1_000_000);
    let row = |name: &str, depth, start, end| Row {
        name: name.to_owned(),
        depth,
        start: unix + start,
        end: unix + end,
        ..Row::default()
    };
    chart.rows = vec![row("GET", 0, 0, 1_000_000), row("background-dial", 1, 500_000, 2_000_000)];
    check(
        &chart.render(&Style::plain(60)),
        "
GET                                                  2.00 ms

  GET                ███████████████▌                1.00 ms
    background-dial         ▕███████████████████████ 1.50 ms
",
    );
}

#[test]
fn many_attempts_become_one_table() {
    let (cold, reused, refused) = (cold(), reused(), refused());
    let summary: Summary = [&*cold, &*reused, &*reused, &*refused].into_iter().collect();
    check(
        &summary.render(&Style::plain(80)),
        "
4 requests in 2.31 ms · 1730/s · 3 answered · 1 failed · 15 B of bodies read
failed        connection_refused in connect ×1
status        200 ×3
protocol      HTTP/1.1 ×3
connections   1 new · 2 reused · reuse ratio 66.7 % (2 of 3)
waited for    own dial ×2

                  count      min      p50      p90      p95      p99      max
  get-connection      2   397 µs   397 µs  1.50 ms  1.50 ms  1.50 ms  1.50 ms
  dns                 2   306 µs   306 µs   306 µs   306 µs   306 µs   306 µs
  connect             2  78.0 µs  78.0 µs  78.0 µs  78.0 µs  78.0 µs  78.0 µs
  tls                 1  1.10 ms  1.10 ms  1.10 ms  1.10 ms  1.10 ms  1.10 ms
  request-write       3  45.0 µs  45.0 µs  45.0 µs  45.0 µs  45.0 µs  45.0 µs
  response-wait       3   555 µs   555 µs   555 µs   555 µs   555 µs   555 µs
  response-read       3   200 µs   200 µs   200 µs   200 µs   200 µs   200 µs
  to first byte       3   610 µs   610 µs  2.10 ms  2.10 ms  2.10 ms  2.10 ms
  total               4   400 µs   822 µs  2.31 ms  2.31 ms  2.31 ms  2.31 ms
",
    );
}

#[test]
fn marks_at_one_moment_stand_beside_each_other() {
    let mut chart = Waterfall::new("GET", 0, 100);
    chart.rows = vec![Row { name: "dns".to_owned(), end: 100, ..Row::default() }];
    chart.marks =
        ["first-byte", "idle-return"].map(|name| Mark { name: name.to_owned(), at: 100, ..Mark::default() }).into();
    assert!(chart.render(&Style::plain(60)).contains("─▾◂\n"));
}
