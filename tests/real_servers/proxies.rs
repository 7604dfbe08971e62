//! The command through proxies that people run: tinyproxy, squid (over TLS too), dante and microsocks, to nginx with and
//! without TLS; with the right credentials, the wrong ones and none, and to where nobody listens.
//!
//! Each test starts the proxy on a loopback port and compares the command's JSON with nginx's own log: as many connections
//! as are told to be new, and as many requests.

use std::{
    collections::BTreeSet,
    fs,
    fs::File,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::server::{Server, Software, free_port, program, spawn, write_certificate};

const USER: &str = "joe";
const PASSWORD: &str = "s3cret-pass";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tinyproxy,
    Squid,
    /// With TLS between the client and it.
    SquidOverTls,
    Dante,
    Microsocks,
}

/// A running proxy; killed on drop.
struct Proxy {
    kind: Kind,
    port: u16,
    folder: PathBuf,
    process: Child,
}

impl Proxy {
    /// `guarded`: wants [`USER`] and [`PASSWORD`].
    async fn start(name: &str, kind: Kind, guarded: bool) -> Self {
        let folder = crate::folder(name);
        // Some of them leave root behind and still read and write here.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let port = free_port();
        let process = match kind {
            Kind::Tinyproxy => tinyproxy(&folder, port, guarded),
            Kind::Squid | Kind::SquidOverTls => squid(&folder, port, guarded, kind == Kind::SquidOverTls),
            Kind::Dante => dante(&folder, port),
            Kind::Microsocks => microsocks(&folder, port, guarded),
        };
        let mut this = Self { kind, port, folder, process };
        for _ in 0..400 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return this;
            }
            let ended = this.process.try_wait().unwrap();
            assert!(ended.is_none(), "{kind:?} ended at once:\n{}", this.messages());
            // A process of another make has no gate to wait at.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{kind:?} does not listen:\n{}", this.messages());
    }

    /// What `-x` is given.
    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.port)
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.folder.join("stderr.log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn tinyproxy(folder: &Path, port: u16, guarded: bool) -> Child {
    let auth = if guarded { format!("BasicAuth {USER} {PASSWORD}\n") } else { String::new() };
    let config = format!("Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 100\nAllow 127.0.0.1\n{auth}");
    let file = folder.join("tinyproxy.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program("tinyproxy"));
    command.arg("-d").arg("-c").arg(file);
    spawn(command, folder, Stdio::null())
}

fn squid(folder: &Path, port: u16, guarded: bool, tls: bool) -> Child {
    write_certificate(folder);
    for name in ["cert.pem", "key.pem"] {
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let at = |name: &str| folder.join(name).display().to_string();
    let listen = if tls {
        format!("https_port 127.0.0.1:{port} tls-cert={} tls-key={}", at("cert.pem"), at("key.pem"))
    } else {
        format!("http_port 127.0.0.1:{port}")
    };
    let access = if guarded {
        let script = format!(
            "while read -r user password; do\n  [ \"$user $password\" = '{USER} {PASSWORD}' ] && echo OK || echo ERR\ndone\n"
        );
        fs::write(folder.join("auth"), script).unwrap();
        let auth = at("auth");
        format!(
            "auth_param basic program /bin/sh {auth}\nacl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all"
        )
    } else {
        "http_access allow all".to_owned()
    };
    let config = format!(
        "{listen}\n{access}\ncache deny all\ncache_mem 8 MB\naccess_log none\ncache_log {}\npid_filename none\nnetdb_filename none\n\
         visible_hostname squid.test\nshutdown_lifetime 0 seconds\nmax_filedescriptors 1024\npinger_enable off\n\
         cache_store_log none\ncoredump_dir {}\n",
        at("cache.log"),
        folder.display()
    );
    let file = folder.join("squid.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program("squid"));
    command.arg("-N").arg("-f").arg(file);
    spawn(command, folder, Stdio::null())
}

/// It lets nobody go to port 9, which so is told from one where nobody listens.
fn dante(folder: &Path, port: u16) -> Child {
    let config = format!(
        "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\nclientmethod: none\nsocksmethod: none\n\
         user.privileged: root\nuser.unprivileged: nobody\n\
         client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
         socks block {{ from: 0.0.0.0/0 to: 0.0.0.0/0 port = 9 }}\n\
         socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n"
    );
    let file = folder.join("danted.conf");
    fs::write(&file, config).unwrap();
    let mut command = Command::new(program("danted"));
    command.arg("-f").arg(file);
    let log = File::create(folder.join("stdout.log")).unwrap();
    spawn(command, folder, log.into())
}

fn microsocks(folder: &Path, port: u16, guarded: bool) -> Child {
    let mut command = Command::new(program("microsocks"));
    command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
    if guarded {
        command.args(["-u", USER, "-P", PASSWORD]);
    }
    spawn(command, folder, Stdio::null())
}

/// Runs the command and reads its lines.
async fn httptrace(proxy: &Proxy, scheme: &str, args: &[&str]) -> (i32, Vec<Value>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_httptrace"));
    for (name, _) in std::env::vars() {
        if name.starts_with("OTEL_") || name == "TRACEPARENT" || name.to_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.args(["--format", "json", "-x", &proxy.url(scheme)]);
    if proxy.kind == Kind::SquidOverTls {
        command.arg("--proxy-cacert").arg(proxy.folder.join("cert.pem"));
    }
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("an end").expect("a start");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines =
        stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    (output.status.code().unwrap_or(-1), lines, stderr.into_owned())
}

/// Requests to this server through this proxy: what is told is what nginx logged.
async fn agree(proxy: &Proxy, scheme: &str, server: Server, credentials: &[&str]) {
    const REQUESTS: usize = 40;
    let certificate = server.certificate();
    let certificate = ["--cacert", certificate.to_str().unwrap()];
    let https = server.url().starts_with("https");
    let mut args = vec!["-n", "40", "-c", "4", server.url()];
    args.extend(certificate.iter().filter(|_| https));
    args.extend(credentials);
    let (code, lines, stderr) = httptrace(proxy, scheme, &args).await;
    let what = format!("{:?} {scheme} {args:?}: {stderr}", proxy.kind);
    assert_eq!((code, lines.len(), stderr.as_str()), (0, REQUESTS, ""), "{what}");
    let forwarded = !https && scheme.starts_with("http");
    let mut ids = BTreeSet::new();
    for line in &lines {
        assert_eq!((&line["status"], &line["error"]), (&200.into(), &Value::Null), "{what}: {line}");
        assert_eq!(line["response_body_bytes"], crate::server::BODY.len(), "{what}: {line}");
        let connection = &line["connection"];
        assert_eq!(connection["proxy"], proxy.url(scheme), "{line}");
        assert_eq!(connection["peer"], format!("127.0.0.1:{}", proxy.port), "{line}");
        ids.insert(connection["id"].as_u64().unwrap());
        let phases: Vec<&str> =
            line["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
        let new = connection["outcome"] == "new";
        assert_eq!(phases.contains(&"tunnel"), new && !forwarded, "{line}");
        let handshakes = usize::from(https) + usize::from(scheme == "https");
        assert_eq!(phases.iter().filter(|name| **name == "tls").count(), if new { handshakes } else { 0 }, "{line}");
    }
    let fresh = lines.iter().filter(|line| line["connection"]["reused"] == false).count();
    assert_eq!(ids.len(), fresh, "{what}");
    let served = server.stop_and_read_log();
    assert_eq!(served.len(), REQUESTS, "{what}");
    if !forwarded {
        let theirs: BTreeSet<_> = served.iter().map(|served| served.connection.as_str()).collect();
        assert_eq!(theirs.len(), fresh, "connections that nginx served: {what}");
        assert!(fresh <= 8, "tunnels are used again: {what}");
    }
}

/// One request that fails: the code, and what its line says.
async fn fails(proxy: &Proxy, scheme: &str, args: &[&str], code: i32, error: Option<(&str, &str)>) {
    let (ended, lines, stderr) = httptrace(proxy, scheme, args).await;
    let what = format!("{:?} {scheme} {args:?}: {stderr}", proxy.kind);
    assert_eq!((ended, lines.len()), (code, 1), "{what}");
    let told = lines[0]["error"]["type"].as_str().map(|it| (it, lines[0]["error"]["phase"].as_str().unwrap()));
    assert_eq!(told, error, "{what}: {}", lines[0]);
    if error.is_none() {
        let status = lines[0]["status"].as_u64().unwrap();
        assert!(status >= 400, "the proxy's own answer: {what}: {}", lines[0]);
    }
    assert!(!stderr.contains("wrong-pass"), "{stderr}");
}

const REFUSED: Option<(&str, &str)> = Some(("proxy_refused", "tunnel"));
const UNKNOWN: Option<(&str, &str)> = Some(("proxy_auth_required", "tunnel"));

async fn nginx(name: &str, https: bool) -> Server {
    Server::start(&format!("{name}-origin"), if https { Software::Nginx } else { Software::NginxPlain }).await
}

/// Everything that a proxy of HTTP is asked.
async fn of_http(name: &str, kind: Kind, scheme: &str) {
    let credentials = format!("{USER}:{PASSWORD}");
    let dead = free_port();
    let (dead_http, dead_https) = (format!("http://localhost:{dead}/"), format!("https://localhost:{dead}/"));
    for guarded in [false, true] {
        let name = format!("{name}-{guarded}");
        let proxy = Proxy::start(&name, kind, guarded).await;
        let right: &[&str] = if guarded { &["-U", &credentials] } else { &[] };
        for https in [false, true] {
            agree(&proxy, scheme, nginx(&name, https).await, right).await;
        }
        fails(&proxy, scheme, &[&[dead_http.as_str()], right].concat(), 0, None).await;
        fails(&proxy, scheme, &[&[dead_https.as_str()], right].concat(), 7, REFUSED).await;
        for wrong in [&[][..], &["-U", "joe:wrong-pass"]].into_iter().filter(|_| guarded) {
            fails(&proxy, scheme, &[&[dead_http.as_str()], wrong].concat(), 0, None).await;
            // tinyproxy says 407 to who has none, and 401 to who has others.
            let told = if kind == Kind::Tinyproxy && !wrong.is_empty() { REFUSED } else { UNKNOWN };
            fails(&proxy, scheme, &[&[dead_https.as_str()], wrong].concat(), 7, told).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs tinyproxy and nginx: .ci/run full"]
async fn tinyproxy_passes_on_and_makes_tunnels() {
    of_http("tinyproxy", Kind::Tinyproxy, "http").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs squid and nginx: .ci/run full"]
async fn squid_passes_on_and_makes_tunnels() {
    of_http("squid", Kind::Squid, "http").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs squid and nginx: .ci/run full"]
async fn squid_over_tls_passes_on_and_makes_tunnels() {
    of_http("squid-tls", Kind::SquidOverTls, "https").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs microsocks and nginx: .ci/run full"]
async fn microsocks_makes_tunnels() {
    let credentials = format!("{USER}:{PASSWORD}");
    let dead = format!("http://localhost:{}/", free_port());
    for guarded in [false, true] {
        let name = format!("microsocks-{guarded}");
        let proxy = Proxy::start(&name, Kind::Microsocks, guarded).await;
        let right: &[&str] = if guarded { &["-U", &credentials] } else { &[] };
        for scheme in ["socks5", "socks5h"] {
            for https in [false, true] {
                agree(&proxy, scheme, nginx(&name, https).await, &[&["-4"], right].concat()).await;
            }
            fails(&proxy, scheme, &[&["-4", dead.as_str()], right].concat(), 97, REFUSED).await;
            for wrong in [&[][..], &["-U", "joe:wrong-pass"]].into_iter().filter(|_| guarded) {
                fails(&proxy, scheme, &[&["-4", dead.as_str()], wrong].concat(), 97, UNKNOWN).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs dante and nginx: .ci/run full"]
async fn dante_makes_tunnels_where_its_rules_allow_it() {
    let proxy = Proxy::start("dante", Kind::Dante, false).await;
    for scheme in ["socks5", "socks5h"] {
        for https in [false, true] {
            agree(&proxy, scheme, nginx("dante", https).await, &["-4"]).await;
        }
        fails(&proxy, scheme, &["-4", &format!("http://localhost:{}/", free_port())], 97, REFUSED).await;
        fails(&proxy, scheme, &["-4", "http://localhost:9/"], 97, REFUSED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs squid and tinyproxy: .ci/run full"]
async fn a_proxy_of_another_kind_is_told() {
    let socks = Proxy::start("mismatch-socks", Kind::Microsocks, false).await;
    let http = Proxy::start("mismatch-http", Kind::Squid, false).await;
    let garbage = Some(("proxy_protocol_error", "tunnel"));
    fails(&socks, "http", &["https://localhost:9/", "-m", "10"], 97, garbage).await;
    // It takes the greeting for the beginning of a request line, and waits for the rest.
    fails(&http, "socks5h", &["https://localhost:9/", "-m", "2"], 28, Some(("timeout", "tunnel"))).await;
    let (code, lines, _) = httptrace(&http, "https", &["--proxy-insecure", "https://localhost:9/", "-m", "10"]).await;
    assert_eq!((code, &lines[0]["error"]["phase"]), (35, &"tls".into()), "{}", lines[0]);
}
