//! nginx, caddy and nghttpd as child processes: configuration in, access log out.
//!
//! Each server gets a folder of its own with a fresh certificate, its configuration and its log. The log is read after
//! the server has ended, so nothing is still on its way to the file.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

/// What every server answers with: larger than one HTTP/2 frame.
pub(crate) const BODY: &[u8] = &[b'x'; 20_000];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Software {
    Nginx,
    /// Without TLS.
    NginxPlain,
    Caddy,
    Nghttpd,
}

/// One request as the server logged it. A server that does not log a fact leaves it absent.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) connection: String,
    pub(crate) traceparent: String,
    pub(crate) request_number: Option<u64>,
    pub(crate) peer_port: Option<u16>,
    pub(crate) stream_id: Option<u64>,
}

/// A running server; killed on drop.
pub(crate) struct Server {
    software: Software,
    folder: PathBuf,
    port: u16,
    url: String,
    process: std::sync::Mutex<Child>,
}

impl Server {
    /// Starts the server and returns once it accepts connections.
    pub(crate) async fn start(name: &str, software: Software) -> Self {
        let folder = crate::folder(name);
        write_certificate(&folder);
        fs::create_dir(folder.join("htdocs")).unwrap();
        fs::write(folder.join("htdocs/file"), BODY).unwrap();
        let port = free_port();
        let process = match software {
            Software::Nginx => nginx(&folder, &format!("{port} ssl http2")),
            Software::NginxPlain => nginx(&folder, &port.to_string()),
            Software::Caddy => caddy(&folder, port),
            Software::Nghttpd => nghttpd(&folder, port),
        };
        let scheme = if software == Software::NginxPlain { "http" } else { "https" };
        let url = format!("{scheme}://localhost:{port}/file");
        let server = Self { software, folder, port, url, process: process.into() };
        server.wait_until_it_listens(port).await;
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// nginx only: answers once the whole request is there.
    pub(crate) fn upload_url(&self) -> String {
        self.url.replace("/file", "/upload")
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    /// Ends the server the way its operators do, and reads what it wrote.
    pub(crate) fn stop_and_read_log(&self) -> Vec<Served> {
        let mut process = self.process.lock().unwrap();
        let signal = if matches!(self.software, Software::Nginx | Software::NginxPlain) { "QUIT" } else { "TERM" };
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", process.id())).status().unwrap();
        assert!(sent.success(), "the server is gone already:\n{}", self.messages());
        process.wait().unwrap();
        let log = fs::read_to_string(self.folder.join("access.log")).expect("the server wrote its log");
        match self.software {
            Software::Nginx | Software::NginxPlain => log.lines().map(read_nginx).collect(),
            Software::Caddy => log.lines().map(read_caddy).collect(),
            Software::Nghttpd => log.lines().filter_map(read_nghttpd).collect(),
        }
    }

    /// A process of another make has no gate to wait at: asking until it answers is all that can be done.
    async fn wait_until_it_listens(&self, port: u16) {
        for _ in 0..200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return;
            }
            let ended = self.process.lock().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{:?} ended at once:\n{}", self.software, self.messages());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?} does not listen after ten seconds:\n{}", self.software, self.messages());
    }

    fn messages(&self) -> String {
        fs::read_to_string(self.folder.join("stderr.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

// === nginx ===

fn nginx(folder: &Path, listen: &str) -> Child {
    let config = format!(
        r#"daemon off;
master_process off; # one process, which the test can wait for
pid nginx.pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
  log_format facts '$connection $connection_requests $remote_port "$http_traceparent"';
  access_log access.log facts;
  client_body_temp_path tmp-body; proxy_temp_path tmp-proxy; fastcgi_temp_path tmp-fastcgi;
  uwsgi_temp_path tmp-uwsgi; scgi_temp_path tmp-scgi;
  server {{
    listen 127.0.0.1:{listen};
    server_name localhost;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    ssl_protocols TLSv1.3;
    root htdocs;
    location /upload {{ proxy_pass http://unix:backend:/file; }} # takes the whole request before it answers
  }}
  server {{
    listen unix:backend;
    root htdocs;
    error_page 405 =200 $uri; # a POST of a file gets it as well
    access_log off;
  }}
}}
"#
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let mut command = Command::new(program("nginx"));
    command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf"));
    spawn(command, folder, Stdio::null())
}

/// `serial ordinal port "traceparent"`
fn read_nginx(line: &str) -> Served {
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("a short line: {line}"));
    Served {
        connection: word().to_owned(),
        request_number: Some(word().parse().unwrap()),
        peer_port: Some(word().parse().unwrap()),
        traceparent: word().trim_matches('"').to_owned(),
        stream_id: None,
    }
}

// === caddy ===

fn caddy(folder: &Path, port: u16) -> Child {
    let at = |name: &str| folder.join(name).display().to_string();
    let (cert, key, log, root) = (at("cert.pem"), at("key.pem"), at("access.log"), at("htdocs"));
    let config = format!(
        r#"{{
  admin off
  auto_https off
  grace_period 5s
  servers {{
    protocols h1 h2
  }}
}}
https://localhost:{port} {{
  bind 127.0.0.1
  tls "{cert}" "{key}"
  root * "{root}"
  file_server
  log {{
    output file "{log}"
    format json
  }}
}}
"#
    );
    fs::write(folder.join("Caddyfile"), config).unwrap();
    let mut command = Command::new(program("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(name, folder);
    }
    spawn(command, folder, Stdio::null())
}

/// One JSON object a line. Caddy has no serial for a connection; while it lives, its port is one.
fn read_caddy(line: &str) -> Served {
    let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let request = &entry["request"];
    let port = request["remote_port"].as_str().expect("remote_port");
    Served {
        connection: port.to_owned(),
        traceparent: request["headers"]["Traceparent"][0].as_str().unwrap_or_default().to_owned(),
        request_number: None,
        peer_port: Some(port.parse().unwrap()),
        stream_id: None,
    }
}

// === nghttpd ===

fn nghttpd(folder: &Path, port: u16) -> Child {
    let mut command = Command::new(program("nghttpd"));
    command.args(["--verbose", "--address", "127.0.0.1", "--htdocs"]).arg(folder.join("htdocs"));
    command.arg(port.to_string()).arg(folder.join("key.pem")).arg(folder.join("cert.pem"));
    spawn(command, folder, File::create(folder.join("access.log")).unwrap().into())
}

/// `[id=1] [  0.492] recv (stream_id=1, sensitive) traceparent: 00-…`, as that field is not to be indexed; all other lines of
/// a trace are of no use here.
fn read_nghttpd(line: &str) -> Option<Served> {
    let (head, traceparent) = line.split_once(") traceparent: ")?;
    let (connection, _) = head.strip_prefix("[id=")?.split_once(']')?;
    let (_, stream) = head.split_once("recv (stream_id=")?;
    let stream = stream.split(',').next()?;
    Some(Served {
        connection: connection.to_owned(),
        traceparent: traceparent.trim_end().to_owned(),
        request_number: None,
        peer_port: None,
        stream_id: Some(stream.parse().unwrap()),
    })
}

// === all of them ===

pub(crate) fn spawn(mut command: Command, folder: &Path, stdout: Stdio) -> Child {
    let stderr = File::create(folder.join("stderr.log")).unwrap();
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).current_dir(folder);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", command.get_program().to_string_lossy()))
}

/// Debian puts servers into /usr/sbin, which is not in every user's PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!("{name} is not installed: run `.ci/run full`, or install nginx-light, caddy, nghttp2-server, tshark, tinyproxy, squid, dante-server, microsocks")
        })
}

pub(crate) fn write_certificate(folder: &Path) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
