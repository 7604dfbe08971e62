//! Proxies and Unix sockets: what the command asks of them, whom it trusts, and what it ends with. Proxies here are origins:
//! they answer what they are asked with a script.

use super::{
    tls::{serve_tls, tls_config},
    *,
};

const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
const UNKNOWN: &str = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// With these variables, and no other words about proxies.
fn with(variables: &[(&str, &str)], args: &[&str]) -> Ran {
    ran(&command(args).envs(variables.iter().copied()).output().unwrap())
}

#[test]
fn requests_go_through_the_proxy_that_is_named() {
    let proxy = Origin::start(&[Reply::Send(OK), Reply::Send(OK)]);
    let place = format!("127.0.0.1:{}", proxy.port);
    for (args, credentials) in [
        (&["-x", &*place][..], None),
        (&["-x", &format!("http://{place}/ignored?too"), "-U", "joe:pass"], Some("basic am9lonbhc3m=")),
        // The URL's own win.
        (&["-x", &format!("joe:p%61ss@{place}"), "-U", "other:one"], Some("basic am9lonbhc3m=")),
    ] {
        let before = proxy.requests.lock().unwrap().len();
        let args = [args, &["--format", "json", "-n", "2", "http://origin.test/a?b"]].concat();
        let ran = httptrace(&args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        for (index, line) in ran.lines().iter().enumerate() {
            let connection = &line["connection"];
            assert_eq!(connection["proxy"], format!("http://{place}"), "{line}");
            assert_eq!(
                (&connection["peer"], &connection["reused"]),
                (&place.as_str().into(), &(index == 1).into()),
                "{line}"
            );
            assert_eq!((&line["url"], &line["dns"]), (&"http://origin.test/a?b".into(), &Value::Null), "{line}");
        }
        let sent = lower(&proxy.request(before));
        assert!(
            sent.starts_with("get http://origin.test/a?b http/1.1\r\n") && sent.contains("\r\nhost: origin.test\r\n"),
            "{sent}"
        );
        let told = sent.lines().find_map(|line| line.strip_prefix("proxy-authorization: "));
        assert_eq!(told, credentials, "{sent}");
    }
    let ran = httptrace(&["-v", "-x", &place, "http://origin.test/"]);
    let said = format!(
        "* Connected to proxy http://{place} ({place})\n* Using new connection #1 to origin.test through http://{place}\n"
    );
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert!(
        ran.stdout.contains(&format!("new connection #1, through http://{place}"))
            || ran.stdout.contains("through http://"),
        "{}",
        ran.stdout
    );
    let archive: Value =
        serde_json::from_str(&httptrace(&["--format", "har", "-x", &place, "http://origin.test/"]).stdout).unwrap();
    let entry = &archive["log"]["entries"][0];
    assert_eq!((&entry["_proxy"], &entry["serverIPAddress"]), (&format!("http://{place}").into(), &Value::Null));
}

#[test]
fn the_environment_names_proxies_as_it_does_for_curl() {
    let proxy = Origin::start(&[Reply::Send(OK)]);
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let nobody = "http://127.0.0.1:1";
    // Where no proxy is used, this name is looked up in vain.
    let target = "http://no-such-name.invalid/";
    for (variables, args, through) in [
        (&[("http_proxy", &*url)][..], &[][..], true),
        (&[("HTTP_PROXY", &*url)], &[], false),
        (&[("ALL_PROXY", &*url)], &[], true),
        (&[("https_proxy", &*url)], &[], false),
        (&[("http_proxy", &*url), ("all_proxy", nobody)], &[], true),
        (&[("http_proxy", nobody)], &["-x", &url], true),
        (&[("http_proxy", &*url)], &["-x", ""], false),
        (&[("http_proxy", &*url), ("no_proxy", "invalid")], &[], false),
        (&[("http_proxy", &*url), ("NO_PROXY", "other,.invalid")], &[], false),
        (&[("no_proxy", "invalid")], &["-x", &url], false),
        (&[("http_proxy", &*url), ("no_proxy", "invalid")], &["--noproxy", ""], true),
        (&[("http_proxy", &*url)], &["--noproxy", "*"], false),
        (&[], &["--noproxy", "name.invalid", "-x", &url], true),
        (&[], &["--noproxy", "no-such-name.invalid", "-x", &url], false),
    ] {
        let ran = with(variables, &[args, &[target]].concat());
        assert_eq!(ran.code, if through { 0 } else { 6 }, "{variables:?} {args:?}: {}", ran.stderr);
    }
    // Each hop and URL has its own.
    let ran = with(&[("http_proxy", &url), ("no_proxy", "127.0.0.1")], &["--format", "json", target, &proxy.url("/")]);
    let proxies: Vec<bool> = ran.lines().iter().map(|line| line["connection"]["proxy"].is_string()).collect();
    assert_eq!(proxies, [true, false], "{}", ran.stdout);
}

#[test]
fn a_proxy_that_fails_has_its_codes() {
    let script = |replies: &'static [Reply]| Origin::start(replies);
    let forbids = script(&[Reply::Send(FORBIDDEN)]);
    let unknown = script(&[Reply::Send(UNKNOWN)]);
    let garbage = script(&[Reply::Send("what is this\r\n\r\n")]);
    let silent = script(&[Reply::Hang]);
    let dead = format!("127.0.0.1:{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let at = |origin: &Origin| format!("127.0.0.1:{}", origin.port);
    let https = "https://origin.test/";
    let cases = [
        (vec!["-x".to_owned(), at(&forbids)], 7, "tunnel: the proxy refused: it answered 403 Forbidden"),
        (
            vec!["-x".to_owned(), at(&unknown)],
            7,
            "it answered 407 Proxy Authentication Required (-U USER:PASSWORD gives others)",
        ),
        (vec!["-x".to_owned(), at(&garbage)], 97, "tunnel: the proxy's answer is none: "),
        (
            vec!["-x".to_owned(), format!("socks5h://{}", socks(&[5, 0], &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]))],
            97,
            "SOCKS: connection refused",
        ),
        (vec!["-x".to_owned(), format!("socks5h://{}", socks(&[5, 255], &[]))], 97, "SOCKS: it wants credentials"),
        (vec!["-x".to_owned(), format!("socks5h://{}", socks(b"HT", b"TP"))], 97, "what it says is not SOCKS5"),
        (vec!["-x".to_owned(), dead], 7, "connect: proxy: connection refused"),
        (vec!["-x".to_owned(), "no-such-name.invalid:1".to_owned()], 5, "dns: proxy: "),
        (vec!["-x".to_owned(), at(&silent), "--connect-timeout".to_owned(), "0.2".to_owned()], 28, "tunnel: timed out"),
    ];
    for (args, code, said) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--format", "json", https]).collect();
        let ran = httptrace(&args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said) && ran.stderr.lines().count() == 1, "{args:?}: {}", ran.stderr);
        let line = &ran.lines()[0];
        let died = line["error"]["phase"].as_str().unwrap();
        assert!(names(&line["phases"]).contains(&died), "{line}");
        assert_eq!(line["connection"], Value::Null, "{line}");
    }
    // What a proxy answers to a request that it is to pass on is an answer.
    assert_eq!(httptrace(&["-x", &at(&unknown), "http://origin.test/"]).code, 0);
    let ran = httptrace(&["-v", "-x", &at(&forbids), https]);
    let port = forbids.port;
    assert!(ran.stderr.contains(&format!("* Asking 127.0.0.1:{port} for a tunnel to origin.test\n")), "{}", ran.stderr);
    assert!(ran.stderr.contains("* No tunnel: tunnel: the proxy refused, 403\n"), "{}", ran.stderr);
    let hooks = httptrace(&["--format", "hooks", "-x", &at(&forbids), https]).stdout;
    assert!(hooks.contains("TunnelStart(") && hooks.contains("TunnelDone("), "{hooks}");
}

/// A SOCKS proxy that says these words, each once it was asked something. Returns its address.
fn socks(greeting: &'static [u8], reply: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut heard = [0; 512];
            for words in [greeting, reply] {
                if stream.read(&mut heard).is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(words);
                }
            }
        }
    });
    address
}

#[test]
fn what_is_no_proxy_is_refused_and_sends_nothing() {
    let origin = Origin::start(&[Reply::Send(OK)]);
    let url = origin.url("/");
    let (missing, garbage) = (folder("proxy").join("missing"), folder("proxy").join("garbage"));
    fs::write(&garbage, "garbage").unwrap();
    for (args, code, said) in [
        (&["-x", "ftp://joe:geheim@a.test"][..], 7, "option -x: the proxy's scheme"),
        (&["-x", "http://joe:geheim@"], 5, "option -x: the proxy's URL"),
        (&["-x", "http://a.test:99999"], 5, "option -x: the port of the proxy's URL"),
        (&["-x", "http://a.test", "-U", "geheim"], 2, "option -U has no password"),
        (&["-x", "socks5://a.test", "-U", "geheim:"], 2, "option -U: SOCKS takes"),
        (&["-x", "https://a.test", "--proxy-cacert", missing.to_str().unwrap()], 77, "cannot read"),
        (&["-x", "https://a.test", "--proxy-cacert", garbage.to_str().unwrap()], 77, "has no certificate"),
    ] {
        let ran = httptrace(&[args, &[&url]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{args:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said) && ran.stderr.lines().count() == 1, "{args:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("geheim"), "{}", ran.stderr);
    }
    let ran = with(&[("ALL_PROXY", "socks4://joe:geheim@a.test")], &[&url]);
    assert_eq!(ran.code, 7);
    assert!(
        ran.stderr.contains("variable ALL_PROXY: the proxy's scheme") && !ran.stderr.contains("geheim"),
        "{}",
        ran.stderr
    );
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn an_https_proxy_is_trusted_only_when_it_is_told_so() {
    let (config, pem) = tls_config();
    let port = serve_tls(config, |tls| {
        if read_request(&mut BufReader::new(&mut *tls)).is_some() {
            tls.write_all(OK.as_bytes()).unwrap();
            tls.conn.send_close_notify();
            tls.flush().unwrap();
        }
    });
    let file = folder("proxy-tls").join("root.pem");
    fs::write(&file, pem).unwrap();
    let (file, proxy) = (file.to_str().unwrap(), format!("https://localhost:{port}"));
    for (args, code, warned) in [
        (&[][..], 60, false),
        // That is for servers.
        (&["-sk"], 60, false),
        (&["--cacert", file], 60, false),
        (&["--proxy-cacert", file], 0, false),
        (&["--proxy-insecure"], 0, true),
    ] {
        let ran = httptrace(&[&["--format", "json", "-x", &proxy, "http://origin.test/"], args].concat());
        assert_eq!(ran.code, code, "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.starts_with("httptrace: warning: --proxy-insecure: "), warned, "{}", ran.stderr);
        let line = &ran.lines()[0];
        assert_eq!(names(&line["phases"])[..4], ["get-connection", "dns", "connect", "tls"], "{line}");
        // There is none with the server.
        assert_eq!(line["tls"], Value::Null, "{line}");
    }
}

#[test]
fn a_unix_socket_is_connected_to_whatever_the_url_says() {
    use std::os::unix::net::UnixListener;
    let path = folder("unix").join("socket");
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for _ in 0..2 {
            let request = lower(&read_request(&mut reader).unwrap());
            assert!(
                request.starts_with("get /a http/1.1\r\n") && request.contains("\r\nhost: no-such-name.invalid\r\n"),
                "{request}"
            );
            (&stream).write_all(OK.as_bytes()).unwrap();
        }
    });
    let path = path.to_str().unwrap();
    let url = "http://no-such-name.invalid/a";
    let ran = httptrace(&["--format", "json", "-n", "2", "--unix-socket", path, url]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    server.join().unwrap();
    let lines = ran.lines();
    assert_eq!(names(&lines[0]["phases"])[..2], ["get-connection", "connect"]);
    assert_eq!((&lines[0]["connection"]["peer"], &lines[1]["connection"]["reused"]), (&Value::Null, &true.into()));
    let ran = httptrace(&["--unix-socket", "/no/such/socket", url]);
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    assert!(ran.stderr.contains("connect: the connection could not be made: No such file"), "{}", ran.stderr);
}
