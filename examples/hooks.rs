//! `cargo run --example hooks`: every hook of two requests with its time; the second reuses the first's connection.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use http_body_util::BodyExt;
use httptrace::{Client, Error, hooks::*};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Prints each hook with the time since the program began.
struct Printer(Instant);

macro_rules! printed {
    ($($hook:ident($info:ident: $ty:ty) $text:literal $(, $value:expr)*;)+) => {
        impl ClientTrace for Printer {
            $(fn $hook(&self, $info: &$ty) {
                println!(concat!($text, " {} ms"), $($value,)* $info.at.saturating_duration_since(self.0).as_millis());
            })+
        }
    };
}

printed! {
    get_conn(i: GetConnInfo<'_>) "GetConn({:?})", format!("{}:{}", i.host, i.port);
    dns_start(i: DnsStartInfo<'_>) "DNSStart({:?})", i.host;
    dns_done(i: DnsDoneInfo<'_>) "DNSDone({:?} {})", i.addrs, why(i.error);
    connect_start(i: ConnectStartInfo) "ConnectStart({})", to(i.addr);
    connect_done(i: ConnectDoneInfo<'_>) "ConnectDone({} {})", to(i.addr), why(i.error);
    tunnel_start(i: TunnelStartInfo<'_>) "TunnelStart({}:{})", i.host, i.port;
    tunnel_done(i: TunnelDoneInfo<'_>) "TunnelDone({:?} {})", i.status, why(i.error);
    tls_handshake_start(i: TlsHandshakeStartInfo<'_>) "TLSHandshakeStart({:?})", i.server_name;
    tls_handshake_done(i: TlsHandshakeDoneInfo<'_>) "TLSHandshakeDone({:?} {})", i.tls.map(|t| t.version), why(i.error);
    got_conn(i: GotConnInfo<'_>) "GotConn({{reused:{} was_idle:{} idle_time:{:?}}})",
        i.reused(), i.was_idle(), i.idle_time.unwrap_or_default();
    get_conn_failed(i: GetConnFailedInfo<'_>) "GetConnFailed({})", i.error.error_type();
    wrote_header_field(i: WroteHeaderFieldInfo<'_>) "WroteHeaderField({})", i.name;
    wrote_headers(i: WroteHeadersInfo) "WroteHeaders()";
    wait_100_continue(i: Wait100ContinueInfo) "Wait100Continue()";
    wrote_request(i: WroteRequestInfo<'_>) "WroteRequest({})", why(i.error);
    got_first_response_byte(i: GotFirstResponseByteInfo) "GotFirstResponseByte()";
    got_100_continue(i: Got100ContinueInfo) "Got100Continue()";
    got_1xx_response(i: Got1xxResponseInfo<'_>) "Got1xxResponse({})", i.status;
    response_done(i: ResponseDoneInfo<'_>) "ResponseDone({})", i.outcome.as_str();
    put_idle_conn(i: PutIdleConnInfo) "PutIdleConn({})", i.outcome.as_str();
    retry(i: RetryInfo<'_>) "Retry({})", i.reason.as_str();
    conn_closed(i: ConnClosedInfo<'_>) "ConnClosed({})", i.reason.as_str();
}

/// A client with a connector of its own knows no address.
fn to(addr: Option<SocketAddr>) -> String {
    addr.map_or_else(|| "?".to_owned(), |addr| addr.to_string())
}

fn why(error: Option<&Error>) -> &str {
    error.map_or("ok", Error::error_type)
}

// On one thread the connection is idle again before the second request asks for it. On several it may be handed over first:
// `reused:true was_idle:false`.
#[tokio::main(flavor = "current_thread")]
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
