//! `cargo run --example stacked`: only the DNS and got_conn hooks; two stacked traces, of which the newer is called first;
//! and the trace read back from the request.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use httptrace::{
    Client, ClientTrace, client_trace,
    hooks::{DnsDoneInfo, GotConnInfo},
    with_client_trace,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Named(&'static str);

impl ClientTrace for Named {
    fn dns_done(&self, info: &DnsDoneInfo<'_>) {
        println!("{}: DNS info: {:?}", self.0, info.addrs);
    }

    fn got_conn(&self, info: &GotConnInfo<'_>) {
        println!("{}: got conn: new to us: {}, to {:?}", self.0, !info.reused(), info.connection.peer);
    }
}

#[tokio::main]
async fn main() -> Result<(), httptrace::BoxError> {
    let listener = tokio::net::TcpListener::bind(("localhost", 0)).await?;
    let uri = format!("http://localhost:{}/", listener.local_addr()?.port());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        while stream.read(&mut [0; 4096]).await? > 0 {
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        }
        std::io::Result::Ok(())
    });

    let mut request = Request::get(uri).body(Empty::<Bytes>::new())?;
    println!("a trace on the request? {}", client_trace(&request).is_some());
    with_client_trace(&mut request, Arc::new(Named("older")));
    with_client_trace(&mut request, Arc::new(Named("newer")));
    println!("a trace on the request? {}", client_trace(&request).is_some());

    Client::new().request(request).await?.into_body().collect().await?;
    Ok(())
}
