//! The look at a used connection, before a byte of the next request is sent: what waits there is seen by who looks, also if
//! nobody has read it yet. So the server is a thread of its own here, and the runtime stands still while it acts.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc::channel,
    thread,
};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;

use crate::support::{
    client::{Traced, read},
    within,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Reads a request to its body's end, and answers.
fn answer(socket: &mut TcpStream) {
    let mut received = Vec::new();
    while !received.ends_with(b"body") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a request");
        received.extend(byte);
    }
    socket.write_all(OK).expect("somebody reads");
}

#[tokio::test]
async fn an_end_or_bytes_that_nobody_has_read_yet_are_seen_before_a_post_is_sent() {
    for unasked in [&b""[..], OK] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let uri: Uri = format!("http://{}/", listener.local_addr().expect("bound")).parse().expect("a URL");
        let (turn, its_turn) = channel();
        let (acted, has_acted) = channel();
        let server = thread::spawn(move || {
            let mut first = listener.accept().expect("the first").0;
            answer(&mut first);
            its_turn.recv().expect("the test goes on");
            match unasked {
                [] => first.shutdown(std::net::Shutdown::Write).expect("an end"),
                bytes => first.write_all(bytes).expect("somebody may read"),
            }
            acted.send(()).expect("the test waits");
            answer(&mut listener.accept().expect("the second").0);
        });
        let traced = Traced::new(httptrace::Client::builder());
        let post = || Request::post(uri.clone()).body(Full::new(Bytes::from("body"))).expect("a request");
        let first = within("the first answer", traced.client.request(post())).await.expect("an answer");
        read(first).await.expect("a body");
        traced.log.wait_for("put_idle_conn", 1).await;
        turn.send(()).expect("the server waits");
        // Nothing of the client's runs meanwhile: not even what reads its sockets.
        has_acted.recv().expect("the server acts");
        let second = within("the second answer", traced.client.request(post())).await.expect("an answer");
        assert_eq!(read(second).await.expect("a body"), "ok");
        server.join().expect("two connections, one request each");
        traced.log.settled().await.assert_paired_over(2);
        assert_eq!(traced.log.count("retry"), 0, "nothing was sent in vain: {}", traced.log);
    }
}
