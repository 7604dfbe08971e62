//! `cargo run --example hooks`: every hook of two requests with its time; the second reuses the first's connection.

use std::{sync::Arc, time::Instant};

use http_body_util::BodyExt;
use httptrace::{Client, hooks::*};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Printer(Instant);

impl Printer {
    fn line(&self, at: Instant, text: std::fmt::Arguments<'_>) {
        println!("{text} {} ms", at.saturating_duration_since(self.0).as_millis());
    }
}

impl ClientTrace for Printer {
    fn get_conn(&self, info: &GetConnInfo<'_>) {
        self.line(info.at, format_args!("GetConn({}:{})", info.host, info.port));
    }
    fn dns_start(&self, info: &DnsStartInfo<'_>) {
        self.line(info.at, format_args!("DNSStart({})", info.host));
    }
    fn dns_done(&self, info: &DnsDoneInfo<'_>) {
        self.line(info.at, format_args!("DNSDone({:?})", info.addrs));
    }
    fn connect_start(&self, info: &ConnectStartInfo) {
        self.line(info.at, format_args!("ConnectStart({})", info.addr));
    }
    fn connect_done(&self, info: &ConnectDoneInfo<'_>) {
        self.line(
            info.at,
            format_args!("ConnectDone({}, {:?})", info.addr, info.error.map(|error| error.error_type())),
        );
    }
    fn got_conn(&self, info: &GotConnInfo<'_>) {
        let (reused, was_idle) = (info.reused(), info.was_idle());
        let idle = info.idle_time.unwrap_or_default();
        self.line(info.at, format_args!("GotConn({{reused:{reused} was_idle:{was_idle} idle_time:{idle:?}}})"));
    }
    fn wrote_header_field(&self, info: &WroteHeaderFieldInfo<'_>) {
        self.line(info.at, format_args!("WroteHeaderField({})", info.name));
    }
    fn wrote_headers(&self, info: &WroteHeadersInfo) {
        self.line(info.at, format_args!("WroteHeaders()"));
    }
    fn wrote_request(&self, info: &WroteRequestInfo<'_>) {
        self.line(info.at, format_args!("WroteRequest({:?})", info.error));
    }
    fn got_first_response_byte(&self, info: &GotFirstResponseByteInfo) {
        self.line(info.at, format_args!("GotFirstResponseByte()"));
    }
    fn response_done(&self, info: &ResponseDoneInfo<'_>) {
        self.line(info.at, format_args!("ResponseDone({})", info.outcome.as_str()));
    }
    fn put_idle_conn(&self, info: &PutIdleConnInfo) {
        self.line(info.at, format_args!("PutIdleConn({})", info.outcome.as_str()));
    }
}

#[tokio::main]
async fn main() -> Result<(), httptrace::BoxError> {
    let listener = tokio::net::TcpListener::bind(("localhost", 0)).await?;
    let uri: http::Uri = format!("http://localhost:{}/", listener.local_addr()?.port()).parse()?;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        while stream.read(&mut [0; 4096]).await? > 0 {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
        }
        std::io::Result::Ok(())
    });

    #[allow(clippy::disallowed_methods, reason = "the crate's own rule, not yours")]
    let trace = Arc::new(Printer(Instant::now()));
    let client = Client::builder().client_trace(trace).build()?;
    for _ in 0..2 {
        client.get(uri.clone()).await?.into_body().collect().await?;
    }
    Ok(())
}
