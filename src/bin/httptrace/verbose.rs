//! `-v`: a request's story on stderr while it happens, in curl's form: `*` what is done, `>` what is sent, `<` what comes.
//!
//! In: the hooks of one request, and the head of its response. Out: lines on stderr, each in one write. What is secret in a
//! header field is not shown.

use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method, StatusCode, Version};
use httptrace::{ClientTrace, connection::Protocol, dial::Proxy, hooks::*};

use crate::{exit::print, mark::Mark, redact::Rules, redirect::Hop};

/// The trace of one hop.
#[derive(Debug)]
pub(crate) struct Verbose {
    /// Which request this is about, where there may be several at once.
    prefix: String,
    method: Method,
    /// The target as it stands in the request line.
    target: String,
    host: String,
    /// Who is connected to: the host, or its proxy.
    reached: String,
    sent: Mutex<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    connection: u64,
    http2: bool,
    fields: Vec<(String, String)>,
}

impl Verbose {
    /// `proxy`: the one that this hop goes through.
    pub(crate) fn new(mark: Mark, several: bool, hop: &Hop, proxy: Option<&Proxy>) -> Self {
        let (method, uri) = (hop.method.clone(), &hop.uri);
        let prefix = if several { format!("[{}] ", mark.request) } else { String::new() };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let target = Rules::default().field(":path", path.as_bytes());
        let host = uri.host().unwrap_or_default().to_owned();
        let reached = proxy.map_or_else(|| host.clone(), |proxy| format!("proxy {}", proxy.url()));
        Self { prefix, method, target, host, reached, sent: Mutex::default() }
    }

    fn note(&self, text: &str) {
        print(&format!("{}* {text}", self.prefix));
    }

    /// The head of the final response.
    pub(crate) fn response(&self, status: StatusCode, version: Version, headers: &HeaderMap) {
        print(&format!(
            "{}< {version:?} {} {}",
            self.prefix,
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        ));
        self.fields(headers);
    }

    fn fields(&self, headers: &HeaderMap) {
        for (name, value) in headers {
            print(&format!("{}< {name}: {}", self.prefix, Rules::default().field(name.as_str(), value.as_bytes())));
        }
        print(&format!("{}<", self.prefix));
    }

    fn sent(&self) -> std::sync::MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientTrace for Verbose {
    fn get_conn(&self, info: &GetConnInfo<'_>) {
        self.note(&format!("Connection to {}:{} wanted", info.host, info.port));
    }

    fn got_conn(&self, info: &GotConnInfo<'_>) {
        let connection = info.connection;
        let mut sent = self.sent();
        *sent = Sent { connection: connection.id, http2: connection.protocol == Protocol::Http2, fields: Vec::new() };
        drop(sent);
        let peer = connection.peer.map_or_else(|| self.host.clone(), |peer| peer.to_string());
        let peer = match &connection.proxy {
            Some(proxy) => format!("{} through {proxy}", self.host),
            None => peer,
        };
        let act = if info.reused() { "Re-using connection" } else { "Using new connection" };
        self.note(&format!("{act} #{} to {peer}", connection.id));
    }

    fn get_conn_failed(&self, info: &GetConnFailedInfo<'_>) {
        self.note(&format!("No connection: {}", info.error));
    }

    fn put_idle_conn(&self, info: &PutIdleConnInfo) {
        let id = self.sent().connection;
        match info.outcome.reason() {
            Some(reason) => self.note(&format!("Closing connection #{id}: {}", reason.as_str())),
            None => self.note(&format!("Connection #{id} left intact")),
        }
    }

    fn dns_start(&self, info: &DnsStartInfo<'_>) {
        self.note(&format!("Looking up {}", info.host));
    }

    fn dns_done(&self, info: &DnsDoneInfo<'_>) {
        match info.error {
            Some(error) => self.note(&format!("Lookup failed: {error}")),
            None => {
                let addrs: Vec<_> = info.addrs.iter().map(ToString::to_string).collect();
                self.note(&format!("Addresses: {}", addrs.join(", ")));
            }
        }
    }

    fn connect_start(&self, info: &ConnectStartInfo) {
        if let Some(addr) = info.addr {
            self.note(&format!("Trying {addr}..."));
        }
    }

    fn connect_done(&self, info: &ConnectDoneInfo<'_>) {
        let peer = info.addr.map_or_else(|| self.reached.clone(), |addr| addr.to_string());
        match info.error {
            Some(error) => self.note(&format!("{peer}: {error}")),
            None => self.note(&format!("Connected to {} ({peer})", self.reached)),
        }
    }

    fn tunnel_start(&self, info: &TunnelStartInfo<'_>) {
        self.note(&format!("Asking {}:{} for a tunnel to {}", info.host, info.port, self.host));
    }

    fn tunnel_done(&self, info: &TunnelDoneInfo<'_>) {
        match (info.error, info.status) {
            (Some(error), None) => self.note(&format!("No tunnel: {error}")),
            (Some(error), Some(status)) => self.note(&format!("No tunnel: {error}, {}", status.as_u16())),
            (None, Some(status)) => self.note(&format!("Tunnel established, {}", status.as_u16())),
            (None, None) => self.note("Tunnel established"),
        }
    }

    fn tls_handshake_done(&self, info: &TlsHandshakeDoneInfo<'_>) {
        if let Some(error) = info.error {
            self.note(&format!("TLS: {error}"));
        }
        if let Some(tls) = info.tls {
            let resumed = if tls.resumed { ", resumed" } else { "" };
            self.note(&format!("TLS {} / {}{resumed}", tls.version, tls.cipher));
            match tls.alpn.as_deref() {
                Some(protocol) => self.note(&format!("ALPN: server accepted {protocol}")),
                None => self.note("ALPN: server did not agree on a protocol"),
            }
        }
    }

    fn wrote_header_field(&self, info: &WroteHeaderFieldInfo<'_>) {
        if !info.name.starts_with(':') {
            self.sent().fields.push((info.name.to_owned(), Rules::default().field(info.name, *info.value)));
        }
    }

    fn wrote_headers(&self, _: &WroteHeadersInfo) {
        let mut sent = self.sent();
        let fields = std::mem::take(&mut sent.fields);
        let version = if sent.http2 { "HTTP/2" } else { "HTTP/1.1" };
        drop(sent);
        print(&format!("{}> {} {} {version}", self.prefix, self.method, self.target));
        for (name, value) in fields {
            print(&format!("{}> {name}: {value}", self.prefix));
        }
        print(&format!("{}>", self.prefix));
    }

    fn got_1xx_response(&self, info: &Got1xxResponseInfo<'_>) {
        print(&format!("{}< {}", self.prefix, info.status));
        self.fields(*info.headers);
    }

    fn wait_100_continue(&self, _: &Wait100ContinueInfo) {
        self.note("Waiting for 100 Continue");
    }

    fn wrote_request(&self, info: &WroteRequestInfo<'_>) {
        match (info.error, info.body_bytes) {
            (Some(error), _) => self.note(&format!("Upload failed: {error}")),
            (None, Some(bytes)) => self.note(&format!("Upload of {bytes} bytes sent off")),
            (None, None) => {}
        }
    }

    fn retry(&self, info: &RetryInfo<'_>) {
        self.note(&format!("Trying once more ({}): {}", info.reason.as_str(), info.error));
    }

    fn response_done(&self, info: &ResponseDoneInfo<'_>) {
        if let Some(error) = info.error {
            self.note(&format!("The response failed: {error}"));
        }
    }
}
