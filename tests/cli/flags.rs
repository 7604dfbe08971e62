//! The flags that curl has too: what they send, what they say, and what they end with.

use super::{exporting::collector, *};

const MOVED: &str = "HTTP/1.1 302 Found\r\nLocation: /next?a\r\nContent-Length: 2\r\n\r\nno";
const KEPT: &str = "HTTP/1.1 307 Temporary Redirect\r\nLocation: next#part\r\nContent-Length: 0\r\n\r\n";
const MISSING: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";

fn redirect_to(url: &str) -> &'static [Reply] {
    let text = format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n");
    Box::leak(Box::new([Reply::Send(Box::leak(text.into_boxed_str()))]))
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

#[test]
fn redirects_are_hops_of_one_request_on_one_connection() {
    let origin = Origin::start(&[Reply::Send(MOVED), Reply::Send(KEPT), Reply::Send(OK)]);
    let file = folder("hops").join("body");
    let ran = httptrace(&["-L", "--format", "json", "-d", "x=1", "-o", file.to_str().unwrap(), &origin.url("/a/b")]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines = ran.lines();
    let told: Vec<_> =
        lines.iter().map(|line| (line["hop"].as_u64(), line["attempt"].as_u64(), line["status"].as_u64())).collect();
    assert_eq!(told, [(Some(0), Some(1), Some(302)), (Some(1), Some(1), Some(307)), (Some(2), Some(1), Some(200))]);
    assert!(lines.iter().all(|line| line["request"] == 1 && line["error"].is_null()), "{}", ran.stdout);
    assert_eq!(origin.accepted(), 1, "the bodies of redirects are read, so the connection is used again");
    assert!(origin.request(0).starts_with("POST /a/b HTTP/1.1\r\n") && origin.request(0).ends_with("x=1"));
    for (i, line) in [(1, "GET /next?a HTTP/1.1\r\n"), (2, "GET /next HTTP/1.1\r\n")] {
        assert!(origin.request(i).starts_with(line), "{}", origin.request(i));
        assert!(!lower(&origin.request(i)).contains("content-"), "{}", origin.request(i));
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "hello", "the last body only");
}

#[test]
fn without_the_flag_a_redirect_is_an_answer() {
    let origin = Origin::start(&[Reply::Send(MOVED)]);
    let ran = httptrace(&["--format", "json", &origin.url("/")]);
    assert_eq!((ran.code, ran.lines().len()), (0, 1));
}

#[test]
fn method_and_body_are_kept_where_the_status_says_so() {
    let origin = Origin::start(&[Reply::Send(KEPT), Reply::Send(OK)]);
    assert_eq!(httptrace(&["-L", "-X", "PUT", "-d", "x=1", &origin.url("/a/b")]).code, 0);
    assert!(origin.request(1).starts_with("PUT /a/next HTTP/1.1\r\n") && origin.request(1).ends_with("x=1"));
}

#[test]
fn credentials_do_not_follow_to_another_server() {
    let other = Origin::start(&[Reply::Send(OK)]);
    let url = other.url("/");
    let origin = Origin::start(redirect_to(&url));
    let ran = httptrace(&[
        "-L",
        "-u",
        "joe:secret",
        "-H",
        "Cookie: a=b",
        "-H",
        "X-A: 1",
        "-H",
        "Host: a.test",
        &origin.url("/"),
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (first, second) = (lower(&origin.request(0)), lower(&other.request(0)));
    assert!(first.contains("authorization: basic am9lonnly3jlda==") && first.contains("cookie: a=b"), "{first}");
    assert!(first.contains("host: a.test"), "{first}");
    assert!(!second.contains("authorization") && !second.contains("cookie") && second.contains("x-a: 1"), "{second}");
    assert!(!second.contains("a.test"), "{second}");
}

#[test]
fn what_cannot_be_followed_is_told_on_the_redirects_line() {
    const LOOP: &str = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 2\r\n\r\nno";
    for (script, args, code, error) in [
        (&[Reply::Send(LOOP); 3][..], &["--max-redirs", "2"][..], 47, "too_many_redirects"),
        (&[Reply::Send(LOOP); 1], &["--max-redirs", "0"], 47, "too_many_redirects"),
        (&[Reply::Send(LOOP); 51], &[], 47, "too_many_redirects"),
        (redirect_to("ftp://a/"), &[], 1, "redirect_refused"),
        (redirect_to("file:///etc/passwd"), &[], 1, "redirect_refused"),
        (redirect_to("http://a:b/"), &[], 3, "redirect_refused"),
    ] {
        let origin = Origin::start(Box::leak(script.to_vec().into_boxed_slice()));
        let file = folder("refused").join("body");
        let args: Vec<&str> = ["-L", "--format", "json"].iter().chain(args).copied().collect();
        let ran = ran(&command(&args).arg("-o").arg(&file).arg(origin.url("/")).output().unwrap());
        assert!(!file.exists(), "a redirect's own body is not kept");
        assert_eq!((ran.code, ran.stderr.lines().count()), (code, 1), "{args:?}: {}", ran.stderr);
        let lines = ran.lines();
        let (last, before) = lines.split_last().unwrap();
        assert_eq!(lines.len(), script.len(), "{}", ran.stdout);
        assert!(before.iter().all(|line| line["error"].is_null()));
        assert_eq!((&last["error"]["type"], &last["error"]["phase"]), (&error.into(), &"request".into()));
        assert_eq!((&last["status"], &last["response_outcome"]), (&302.into(), &"complete".into()));
    }
}

#[test]
fn a_limit_of_minus_one_is_none() {
    const LOOP: &str = "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    let mut script = vec![Reply::Send(LOOP); 60];
    script.push(Reply::Send(OK));
    let origin = Origin::start(script.leak());
    let ran = httptrace(&["-L", "--max-redirs", "-1", "--format", "json", &origin.url("/")]);
    assert_eq!((ran.code, ran.lines().len(), origin.accepted()), (0, 61, 1));
}

#[test]
fn one_time_limit_holds_for_all_hops() {
    let origin = Origin::start(&[Reply::Late(500, MOVED), Reply::Hang]);
    let ran = httptrace(&["-L", "-m", "0.8", "--format", "json", &origin.url("/")]);
    let lines = ran.lines();
    assert_eq!((ran.code, lines.len()), (28, 2), "{}", ran.stderr);
    assert_eq!((&lines[1]["error"]["type"], &lines[1]["error"]["phase"]), (&"timeout".into(), &"response-wait".into()));
    let last = lines[1]["duration_us"].as_f64().unwrap();
    assert!(last < 700_000.0, "the second hop has only what the first one left: {last}");
}

#[test]
fn hooks_and_archives_tell_each_hop() {
    for format in ["hooks", "har"] {
        let origin = Origin::start(&[Reply::Send(MOVED), Reply::Send(OK)]);
        let ran = httptrace(&["-L", "--format", format, &origin.url("/")]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        if format == "hooks" {
            assert_eq!(ran.stdout.matches("PutIdleConn(").count(), 2, "{}", ran.stdout);
            assert!(ran.stdout.contains("(request 1, hop 1, attempt 1)"), "{}", ran.stdout);
        } else {
            let archive: Value = serde_json::from_str(&ran.stdout).unwrap();
            let entries = archive["log"]["entries"].as_array().unwrap();
            assert_eq!(
                entries.iter().map(|entry| entry["response"]["status"].as_u64()).collect::<Vec<_>>(),
                [Some(302), Some(200)]
            );
        }
    }
}

#[test]
fn a_head_request_writes_the_header_of_each_hop() {
    let origin = Origin::start(&[
        Reply::Send("HTTP/1.1 301 Moved Permanently\r\nLocation: /x\r\nContent-Length: 9\r\n\r\n"),
        Reply::Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ]);
    let file = folder("head").join("header");
    let ran = httptrace(&["-I", "-L", "-o", file.to_str().unwrap(), &origin.url("/")]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert!(origin.request(0).starts_with("HEAD / ") && origin.request(1).starts_with("HEAD /x "));
    assert_eq!(
        fs::read_to_string(file).unwrap(),
        "HTTP/1.1 301 Moved Permanently\r\nlocation: /x\r\ncontent-length: 9\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    );
}

#[test]
fn a_status_of_400_fails_only_when_it_is_asked_to() {
    let file = folder("fail").join("body");
    let origin = Origin::start(&[Reply::Send(MISSING), Reply::Send(OK)]);
    let url = origin.url("/");
    let ran = httptrace(&["-f", "-o", file.to_str().unwrap(), &url, &url]);
    assert_eq!((ran.code, ran.stderr.as_str()), (22, "httptrace: (22) the server answered 404\n"));
    assert!(!file.exists(), "an error page is not kept");
    assert_eq!(origin.accepted(), 1, "its body was read");
    let fine = Origin::start(&[Reply::Send(OK)]);
    assert_eq!(httptrace(&["-f", &fine.url("/")]).code, 0);
}

#[test]
fn the_agent_and_the_user_are_sent() {
    for (args, has, has_not) in [
        (&["-A", "me/1"][..], "user-agent: me/1\r\n", "httptrace/"),
        (&["-A", ""], "accept: */*", "user-agent"),
        (&["-A", "me/1", "-H", "User-Agent: you/2"], "user-agent: you/2\r\n", "me/1"),
        (&["-u", "joe:a:b"], "authorization: basic am9lomE6Yg==\r\n", "bearer"),
        (&["-u", "joe:"], "authorization: basic am9lOg==\r\n", "bearer"),
        (&["-u", "joe:x", "-H", "Authorization: Bearer t"], "authorization: bearer t\r\n", "basic"),
    ] {
        let origin = Origin::start(&[Reply::Send(OK)]);
        assert_eq!(ran(&command(args).arg(origin.url("/")).output().unwrap()).code, 0);
        let request = lower(&origin.request(0));
        assert!(request.contains(&lower(has)) && !request.contains(has_not), "{args:?}: {request}");
    }
}

#[test]
fn addresses_that_are_given_are_not_looked_up() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let (port, url) = (origin.port, format!("http://pinned.invalid:{}/", origin.port));
    for entry in [
        format!("pinned.invalid:{port}:127.0.0.1"),
        format!("+PINNED.invalid:{port}:[127.0.0.1]"),
        format!("*:{port}:127.0.0.1"),
        format!("pinned.invalid:{port}:192.0.2.1,127.0.0.1"),
    ] {
        let ran = httptrace(&["--format", "json", "--resolve", &entry, &url]);
        let line = &ran.lines()[0];
        assert_eq!((ran.code, &line["dns"]), (0, &Value::Null), "{entry}: {}", ran.stderr);
        assert!(!names(&line["phases"]).contains(&"dns") && !names(&line["hooks"]).contains(&"dns_start"));
    }
    assert!(origin.request(0).contains(&format!("host: pinned.invalid:{port}\r\n")));
    let (given, taken) = (format!("pinned.invalid:{port}:127.0.0.1"), format!("-pinned.invalid:{port}"));
    assert_eq!(httptrace(&["--resolve", &given, "--resolve", &taken, &url]).code, 6);
    assert_eq!(httptrace(&["--resolve", "pinned.invalid:1:127.0.0.1", &url]).code, 6, "another port");
}

#[test]
fn one_version_of_ip_is_used_when_it_is_asked_for() {
    let origin = Origin::start(&[Reply::Send(OK), Reply::Send(OK)]);
    let entry = format!("both.invalid:{}:[::1],127.0.0.1", origin.port);
    let url = format!("http://both.invalid:{}/", origin.port);
    let ran = |flags: &[&str]| {
        let args: Vec<&str> = ["--format", "json", "--resolve", &entry, &url].iter().chain(flags).copied().collect();
        httptrace(&args)
    };
    let ipv4 = ran(&["-4"]);
    assert_eq!((ipv4.code, names(&ipv4.lines()[0]["phases"])[1..3].to_vec()), (0, vec!["connect", "request-write"]));
    let ipv6 = ran(&["-6"]);
    assert_eq!(ipv6.code, 7, "{}", ipv6.stderr);
    assert!(ipv6.lines()[0]["phases"][1]["peer"].as_str().is_none_or(|peer| peer.starts_with("[::1]")));
    assert_eq!(ran(&["-6", "-4"]).code, 0, "the last one stands");
}

#[test]
fn the_wait_for_100_continue_has_a_limit() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let ran = httptrace(&[
        "--format",
        "json",
        "--expect100-timeout",
        "0.05",
        "-H",
        "Expect: 100-continue",
        "-d",
        "x=1",
        &origin.url("/"),
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let line = &ran.lines()[0];
    assert!(names(&line["hooks"]).contains(&"wait_100_continue"));
    assert!(origin.request(0).ends_with("x=1"));
    let took = line["duration_us"].as_f64().unwrap();
    assert!((50_000.0..900_000.0).contains(&took), "{took}");
}

#[test]
fn verbose_tells_the_story_on_stderr_without_secrets() {
    let origin = Origin::start(&[Reply::Send(MOVED), Reply::Send(OK)]);
    let ran = httptrace(&["-v", "-L", "--format", "json", "-u", "joe:secret", &origin.url("/?sig=hidden")]);
    assert_eq!((ran.code, ran.lines().len()), (0, 2), "stdout has the report only");
    for line in [
        &format!("* Trying 127.0.0.1:{}...", origin.port),
        "> GET /?sig=REDACTED HTTP/1.1",
        "> authorization: REDACTED",
        "< HTTP/1.1 302 Found",
        "* Connection #1 left intact",
        "* Re-using connection #1 to 127.0.0.1",
        "> GET /next?a HTTP/1.1",
        "< HTTP/1.1 200 OK",
        "< content-length: 5",
    ] {
        assert!(ran.stderr.lines().any(|told| told.starts_with(line)), "{line}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("hidden") && !ran.stderr.contains("am9l"), "{}", ran.stderr);
    assert!(ran.stderr.lines().all(|line| line.starts_with(['*', '<', '>'])), "{}", ran.stderr);
}

#[test]
fn ctrl_c_within_a_body_reports_the_attempt_as_canceled() {
    let origin = Origin::start(&[Reply::SendAndHang("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")]);
    let mut child = command(&["-v", "--format", "json", &origin.url("/")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("< content-length") {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "the head never came");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let ended = ran(&child.wait_with_output().unwrap());
    assert_eq!(ended.code, 130);
    let lines = ended.lines();
    let [line] = lines.as_slice() else { panic!("one line: {}", ended.stdout) };
    assert_eq!((&line["error"]["type"], &line["response_outcome"]), (&"canceled".into(), &"failed".into()));
    assert_eq!((&line["status"], &line["error"]["phase"]), (&200.into(), &"response-read".into()));
}

#[allow(clippy::disallowed_methods, reason = "the wall's time is what is tested")]
#[test]
fn a_second_ctrl_c_leaves_at_once() {
    // A collector that takes everything and never answers would be waited for.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let origin = Origin::start(&[Reply::Hang]);
    let mut child = command(&["--format", "json", &origin.url("/")])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    origin.arrived.recv().unwrap();
    let interrupt =
        || assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    interrupt();
    // The export has begun: the first one was heard, and its report is out.
    let _export = silent.accept().unwrap();
    let began = std::time::Instant::now();
    interrupt();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

#[test]
fn what_is_generated_can_be_read() {
    for kind in ["man", "complete-bash", "complete-zsh", "complete-fish", "complete-powershell"] {
        let ran = httptrace(&["--generate", kind]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(ran.stdout.contains("max-redirs") || ran.stdout.contains("max\\-redirs"), "{kind}");
        let file = folder("generated").join(kind);
        fs::write(&file, &ran.stdout).unwrap();
        let reader = match kind {
            "man" => Command::new("man").arg("-l").arg(&file).stdin(Stdio::null()).output(),
            "complete-bash" => Command::new("bash").arg("-n").arg(&file).output(),
            "complete-zsh" => Command::new("zsh").arg("-n").arg(&file).output(),
            "complete-fish" => Command::new("fish").arg("-n").arg(&file).output(),
            _ => continue,
        };
        // Not every machine has every reader.
        if let Ok(read) = reader {
            assert!(
                read.status.success() && read.stderr.is_empty(),
                "{kind}: {}",
                String::from_utf8_lossy(&read.stderr)
            );
        }
    }
}

#[test]
fn no_secret_follows_a_redirect_or_is_told_of_it() {
    for format in ["hooks", "har", "json", "waterfall"] {
        let other = Origin::start(&[Reply::Send(OK)]);
        let onward = format!("http://127.0.0.1:{}/?sig=hidden", other.port);
        let origin = Origin::start(redirect_to(&onward));
        let (endpoint, exports) = collector();
        let url = format!("http://joe:hidden@127.0.0.1:{}/", origin.port);
        for by_option in [true, false] {
            let of_user = if by_option { &["-u", "joe:hidden"][..] } else { &[] };
            let url = if by_option { origin.url("/") } else { url.clone() };
            let mut command = command(&["-L", "-v", "--format", format, "-H", "Cookie: a=hidden", &url]);
            let ran = ran(&command.args(of_user).env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint).output().unwrap());
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            // As it was planted, and as Basic carries it.
            let told = |text: &str| text.contains("hidden") || text.contains("am9lOmhpZGRlbg==");
            assert!(!told(&ran.stdout) && !told(&ran.stderr), "{format}: {}{}", ran.stdout, ran.stderr);
            for (path, message) in exports.lock().unwrap().drain(..) {
                assert!(!told(&String::from_utf8_lossy(&message)), "{path}");
            }
        }
        for number in 0..2 {
            let (first, second) = (origin.request(number), other.request(number));
            assert!(first.contains("am9lOmhpZGRlbg==") && first.contains("a=hidden"), "{first}");
            assert!(!second.contains("am9lOmhpZGRlbg==") && !second.contains("a=hidden"), "{second}");
        }
    }
}

#[test]
fn a_connect_timeout_bounds_the_handshake_too() {
    // The system accepts for it, and nobody answers.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", mute.local_addr().unwrap());
    let (code, _, line) = failed(&url, &["-k", "--connect-timeout", "0.2"]);
    assert_eq!((code, &line["error"]["type"], &line["error"]["phase"]), (28, &"timeout".into(), &"tls".into()));
    // What comes after the dial may take longer.
    let slow = Origin::start(&[Reply::Hang]);
    let (code, _, line) = failed(&slow.url("/"), &["--connect-timeout", "0.1", "-m", "0.4"]);
    assert_eq!((code, &line["error"]["phase"]), (28, &"response-wait".into()));
    assert!(line["duration_us"].as_f64().unwrap() > 350_000.0, "{line}");
}

#[test]
fn the_list_of_urls_is_run_again_in_its_order() {
    let origin = Origin::start(&[Reply::Send(OK); 4]);
    let ran = httptrace(&["--format", "json", "--repeat", "2", &origin.url("/a"), &origin.url("/b")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let told: Vec<_> = ran.lines().iter().map(|line| (line["request"].as_u64(), line["url"].clone())).collect();
    let url = |path: &str| Value::from(origin.url(path));
    assert_eq!(told, [(Some(1), url("/a")), (Some(2), url("/b")), (Some(3), url("/a")), (Some(4), url("/b"))]);
    assert_eq!(origin.accepted(), 1, "one pool for all of them");
}
