//! Exit codes beside real curl's: on the ten failures, on the other failures that a server can make, and on bad input. It
//! prints the table. Where the two differ, the row says which rule of the project decides it; a difference without a rule
//! fails, and so does a rule without a difference.

use std::{path::PathBuf, process::Stdio};

use super::{
    cases::{self, Case},
    httptrace,
};
use crate::support::{
    frames::{DATA, HEADERS, PREFACE, data, frame, goaway, greeting, head, reset},
    origin::{Origin, Refusing},
    script::{
        Step::{self, AwaitClose, Close, Read, ReadFrame, ReadHead, Stall},
        write,
    },
    within,
};

/// What decides where the two differ. The numbers are those of the README's table: exit codes are curl's; where curl's
/// versions differ, or have none of their own, that table decides.
mod rule {
    pub(super) const HEAD: &str = "8: malformed head, too many 1xx (curl takes it for HTTP/0.9, or for no answer)";
    pub(super) const LARGE: &str = "100: response head too large (newer curls have 100 too)";
    pub(super) const HTTP2: &str = "16: HTTP/2 connection error (curl: nothing came)";
    pub(super) const FILE: &str =
        "26: cannot read `@file` (curl warns and sends nothing in its place; newer ones end with 26)";
    pub(super) const INPUT: &str =
        "2: bad input is one line, and nothing is sent (curl sends it, or drops it and warns)";
    pub(super) const SCHEME: &str = "1: scheme not supported (curl speaks this one)";
    pub(super) const CERTIFICATE: &str =
        "58: client certificate unusable, told before anything is sent (curl: when it is needed)";
    pub(super) const TRUST: &str = "77: CA file unusable, told before anything is sent (curl: when it is needed)";
    pub(super) const REFUSED: &str = "7: proxy refused CONNECT (curl: receiving failed)";
    pub(super) const PROXY: &str = "97: SOCKS or proxy protocol (curl: what befell HTTP)";
    pub(super) const NAME: &str = "6: host's name not resolved (curl goes to the proxy first, which nobody is at here)";
    pub(super) const OPTION: &str = "2: command line (the command does not have this option)";
}

struct Row {
    name: String,
    args: Vec<String>,
    rule: Option<&'static str>,
}

fn row(args: &[&str], rule: Option<&'static str>) -> Row {
    let name = args
        .iter()
        .filter(|arg| !arg.contains("://127."))
        .map(|arg| if arg.is_empty() { "''".to_owned() } else { arg.escape_debug().to_string() });
    let name = name.collect::<Vec<_>>().join(" ");
    let name = name.replace(&*folder().to_string_lossy(), "…");
    Row { name: if name.is_empty() { "no URL".to_owned() } else { name }, args: owned(args), rule }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("curl-{}", std::process::id()))
}

async fn curl(args: &[String]) -> Option<i32> {
    // Without a terminal to ask for a password at. `-q`: not what a file of the machine's user says.
    let mut command = tokio::process::Command::new("setsid");
    command.args(["--wait", "curl", "-q", "-s"]).args(args).kill_on_drop(true);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().to_lowercase().ends_with("_proxy")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    within("curl", command.status()).await.expect("curl is installed").code()
}

/// Failures beside the ten.
fn others() -> Vec<(Case, Option<&'static str>)> {
    let http2 = |name, steps: Vec<Step>, told| {
        let begin = [Read(PREFACE), greeting(), ReadFrame(HEADERS, 1)];
        let origin = Origin::plain().script(begin.into_iter().chain(steps));
        Case::of_origin(name, origin, &["--http2-prior-knowledge"], told)
    };
    let http1 = |name, sent: String, told| {
        let origin = Origin::plain().script([ReadHead, write(sent), Close]);
        Case::of_origin(name, origin, &[], told)
    };
    let many = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(60);
    let large = format!("HTTP/1.1 200 OK\r\nx-large: {}\r\n\r\n", "x".repeat(400_000));
    let stray = frame(DATA, 0, 0, b"stray");
    let incomplete = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel".to_owned();
    // The stream is below the last one, so that the server would finish it.
    let half = || [head(1, 200, &[], false), data(1, b"half", false)].concat();
    let ended = |code| vec![write([half(), goaway(1, code)].concat()), Close];
    let unsaid = vec![write(half()), Close];
    let redirect = |name, location: &str, args: &[&str], told| {
        let moved = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let again = [ReadHead, write(moved.clone()), ReadHead, write(moved.clone()), ReadHead, write(moved)];
        Case::of_origin(name, Origin::plain().script(again), &[&["-L"], args].concat(), told)
    };
    let missing = Origin::plain().script([ReadHead, write("HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n"), Close]);
    let refused = &["redirect_refused"][..];
    let hello = Origin::plain().script([Read(1), Close]);
    let url = format!("https://{}/", hello.addr());
    let mut all = vec![
        (http1("malformed head", "what is this\r\n\r\n".into(), (8, "response-read", &[])), Some(rule::HEAD)),
        (http1("60 interim responses", many, (8, "response-wait", &[])), Some(rule::HEAD)),
        (http1("head of 400 kB", large, (100, "response-read", &[])), Some(rule::LARGE)),
        (http1("chunk cut short", incomplete, (18, "response-read", &[])), None),
        (http2("HTTP/2 stream reset", vec![reset(1, 2), AwaitClose], (92, "response-wait", &[])), None),
        (
            http2("HTTP/2 DATA on stream 0", vec![write(stray), AwaitClose], (16, "response-wait", &[])),
            Some(rule::HTTP2),
        ),
        (http2("HTTP/2 GOAWAY, the end", ended(2), (18, "response-read", &[])), None),
        (http2("HTTP/2 GOAWAY in peace, the end", ended(0), (18, "response-read", &[])), None),
        (http2("HTTP/2 end within the body", unsaid, (18, "response-read", &[])), None),
        (
            redirect("redirects without end", "/", &["--max-redirs", "2"], (47, "request", &["too_many_redirects"])),
            None,
        ),
        (
            redirect("no redirect may follow", "/", &["--max-redirs", "0"], (47, "request", &["too_many_redirects"])),
            None,
        ),
        (redirect("redirect to a file", "file:///etc/passwd", &[], (1, "request", refused)), None),
        (redirect("redirect to nobody knows what", "foo://a/", &[], (1, "request", refused)), None),
        (redirect("redirect to a malformed URL", "http://a:b/", &[], (3, "request", refused)), None),
        (Case::of_origin("-f and 404", missing, &["-f"], (22, "", &[])), None),
        (Case::new("closed in the TLS handshake", hello, &["-k", &url], (35, "tls", &[])), None),
    ];
    all.extend(of_proxies());
    all
}

/// Failures at a proxy that plays a script.
fn of_proxies() -> Vec<(Case, Option<&'static str>)> {
    let proxy = |name, scheme: &str, options: &[&str], target, steps: Vec<Step>, told| {
        let origin = Origin::plain().script(steps);
        let url = format!("{scheme}://{}", origin.addr());
        Case::new(name, origin, &[&["-x", &url], options, &[target]].concat(), told)
    };
    let (http, https) = ("http://origin.test/", "https://origin.test/");
    let answer = |status: &str| write(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
    let tunnel = (7, "tunnel", &[][..]);
    let (greeted, asked) = (|| [Read(3), write(vec![5, 0])], || Read(18));
    let socks = |reply: u8| {
        let [first, second] = greeted();
        vec![first, second, asked(), write(vec![5, reply, 0, 1, 0, 0, 0, 0, 0, 0]), Close]
    };
    let refusing = Refusing::new();
    let dead = format!("http://{}", refusing.addr());
    let encrypted = Origin::tls().script([ReadHead, Close]);
    let untrusted = format!("https://127.0.0.1:{}", encrypted.addr().port());
    vec![
        (
            proxy("proxy: 403 to CONNECT", "http", &[], https, vec![ReadHead, answer("403 No"), Close], tunnel),
            Some(rule::REFUSED),
        ),
        (
            proxy("proxy: 407 to CONNECT", "http", &[], https, vec![ReadHead, answer("407 No"), Close], tunnel),
            Some(rule::REFUSED),
        ),
        (proxy("proxy: 407 to GET", "http", &[], http, vec![ReadHead, answer("407 No"), Close], (0, "", &[])), None),
        (
            proxy(
                "proxy: garbage",
                "http",
                &[],
                https,
                vec![ReadHead, write("what is this\r\n\r\n"), Close],
                (97, "tunnel", &[]),
            ),
            Some(rule::PROXY),
        ),
        (proxy("proxy: closed", "http", &[], https, vec![ReadHead, Close], (97, "tunnel", &[])), Some(rule::PROXY)),
        (
            proxy(
                "proxy: no TLS behind it",
                "http",
                &["-k"],
                https,
                vec![ReadHead, answer("200 OK"), Read(9), write("no TLS at all"), Close],
                (35, "tls", &[]),
            ),
            None,
        ),
        (
            proxy(
                "proxy: silent",
                "http",
                &["--connect-timeout", "1"],
                https,
                vec![ReadHead, Stall],
                (28, "tunnel", &[]),
            ),
            None,
        ),
        (proxy("SOCKS: refused", "socks5h", &[], http, socks(5), (97, "tunnel", &[])), None),
        (proxy("SOCKS: not allowed", "socks5h", &[], http, socks(2), (97, "tunnel", &[])), None),
        (
            proxy(
                "SOCKS: wants credentials",
                "socks5h",
                &[],
                http,
                vec![Read(3), write(vec![5, 255]), Close],
                (97, "tunnel", &[]),
            ),
            None,
        ),
        (
            proxy(
                "SOCKS: garbage",
                "socks5h",
                &[],
                http,
                vec![Read(3), write("what is this"), Close],
                (97, "tunnel", &[]),
            ),
            None,
        ),
        (proxy("SOCKS: closed", "socks5h", &[], http, vec![Read(3), Close], (97, "tunnel", &[])), None),
        (Case::new("proxy: refused", refusing, &["-x", &dead, http], (7, "connect", &[])), None),
        (Case::new("proxy: name not found", (), &["-x", "http://no-such-name.invalid:1", http], (5, "dns", &[])), None),
        (
            Case::new(
                "server: name not found by socks5",
                (),
                &["-x", &dead.replace("http", "socks5"), "http://no-such-name.invalid/"],
                (6, "dns", &[]),
            ),
            Some(rule::NAME),
        ),
        (Case::new("proxy: its certificate", encrypted, &["-k", "-x", &untrusted, http], (60, "tls", &[])), None),
    ]
}

fn bad_input(url: &str) -> Vec<Row> {
    let folder = folder();
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str| folder.join(name).to_str().expect("text").to_owned();
    let (missing, garbage) = (file("missing/file"), file("garbage.pem"));
    std::fs::write(&garbage, "garbage").expect("a file");
    let (data, https) = (format!("@{missing}"), url.replace("http:", "https:"));
    let folder = folder.to_str().expect("text");
    vec![
        row(&[], None),
        row(&["--no-such-option", url], None),
        row(&["--compressed", url], Some(rule::OPTION)),
        row(&[url, "-m", "soon"], None),
        row(&[url, "-X"], None),
        row(&[url, "-X", "A B"], Some(rule::INPUT)),
        row(&[url, "--http1.1", "--http2"], Some(rule::INPUT)),
        row(&[url, "-o", "/dev/null", "-o", "/dev/null"], Some(rule::INPUT)),
        row(&[url, "-H", "X-A: a\r\nX-B: b"], Some(rule::INPUT)),
        row(&[url, "-H", "no colon"], Some(rule::INPUT)),
        row(&["foo://example.com/"], None),
        row(&["file:///dev/null"], Some(rule::SCHEME)),
        row(&["http://"], None),
        row(&["http://a:99999/"], None),
        row(&["http://a b/"], None),
        row(&["http://[::1/"], None),
        row(&[""], None),
        row(&["http://joe:secret@/"], None),
        row(&["http://joe:se cret@a.invalid/"], None),
        row(&["-u", "joe", url], Some(rule::INPUT)),
        row(&["-A", "a\r\nX-B: b", url], Some(rule::INPUT)),
        row(&["-H", "Content-Length: 9", url], Some(rule::INPUT)),
        row(&["-I", "-d", "a", url], None),
        row(&["--max-redirs", "-2", url], None),
        row(&["--max-redirs", "many", url], None),
        row(&["--expect100-timeout", "soon", url], None),
        row(&["--connect-timeout", "-1", url], None),
        row(&["--http1.1", "--http2-prior-knowledge", url], Some(rule::INPUT)),
        row(&["--resolve", "a:80", url], None),
        row(&["--resolve", "a:port:127.0.0.1", url], None),
        row(&["--resolve", "a:80:b", url], None),
        row(&["-6", url], None),
        row(&["-E", url], None),
        row(&["--key", &missing, url], Some(rule::INPUT)),
        row(&["--cert", &missing, url], Some(rule::CERTIFICATE)),
        row(&["--cert", &missing, &https], None),
        row(&["--cert", &garbage, &https], None),
        row(&["--noproxy", "*", url], None),
        row(&["-x", "http://127.0.0.1:1", "--noproxy", "*", url], None),
        row(&["-x", "http://127.0.0.1:1", "--noproxy", "127.0.0.0/8", url], None),
        row(&["-x", "http://127.0.0.1:1", "--noproxy", "a,*", url], None),
        row(&["-x", "", url], None),
        row(&["-x", "foo://a.invalid", url], None),
        row(&["-x", "http://a.invalid:99999", url], None),
        row(&["-x", "http://", url], None),
        row(&["-x", "http://joe:secret@", url], None),
        row(&["-x", "http://127.0.0.1:1", "-U", "joe", "--noproxy", "*", url], Some(rule::INPUT)),
        row(&["-x", "https://127.0.0.1:1", "--proxy-cacert", &missing, url], Some(rule::TRUST)),
        row(&["--unix-socket", &missing, url], None),
        row(&[url, "-d", &data], Some(rule::FILE)),
        row(&[url, "--data-binary", &data], Some(rule::FILE)),
        row(&[url, "-o", &missing], None),
        row(&[url, "-o", folder], None),
        row(&[&https, "--cacert", &missing], None),
        row(&[&https, "--cacert", &garbage], None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl: .ci/run full"]
async fn exit_codes_are_curls_or_a_rule_of_ours_decides() {
    let answering =
        Origin::plain().script([ReadHead, write("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"), Close]);
    let failures = cases::all().into_iter().map(|case| (case, None)).chain(others());
    let mut servers = Vec::new();
    let mut rows = Vec::new();
    for (case, rule) in failures {
        rows.push((Row { name: case.name.to_owned(), args: case.args.clone(), rule }, Some(case.code)));
        servers.push(case);
    }
    rows.extend(bad_input(&answering.url("/").to_string()).into_iter().map(|row| (row, None)));

    let mut faults = Vec::new();
    println!("| case | curl | ours | why they differ |\n|---|---|---|---|");
    for (Row { name, args, rule }, expected) in rows {
        let theirs = curl(&args).await;
        let arguments: Vec<&str> = args.iter().map(String::as_str).collect();
        let ours = httptrace(&arguments, &[]).await.code;
        let same = theirs == Some(ours);
        let theirs = theirs.map_or("killed".to_owned(), |code| code.to_string());
        println!("| {name} | {theirs} | {ours} | {} |", rule.unwrap_or_default());
        if same == rule.is_some() || expected.is_some_and(|expected| expected != ours) {
            faults.push(name);
        }
    }
    let _ = std::fs::remove_dir_all(folder());
    assert!(faults.is_empty(), "the rows and what came of them do not agree: {faults:?}");
}
