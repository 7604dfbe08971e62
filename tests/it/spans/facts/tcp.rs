//! `TCP_INFO`: what the kernel knows of the connection, before and after.

use std::{
    io::{Read, Write},
    sync::mpsc,
    thread,
    time::Duration,
};

use httptrace::{Client, views::waterfall::Waterfall};
use socket2::{Domain, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::scene::Scene;
use crate::support::{
    origin::Origin,
    script::{
        Step::{AwaitClose, ReadHead},
        write,
    },
    spans::ExpectedSpan,
    within,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

// mutant: the look at the end left out; the two looks taken at once
#[tokio::test]
async fn a_request_has_a_look_at_its_socket_before_and_after() {
    for wanted in [true, false] {
        let origin = Origin::plain().script([ReadHead, write(OK), ReadHead, write(OK), AwaitClose]);
        let scene = Scene::new(origin.client_builder().tcp_info(wanted));
        for _ in 0..2 {
            scene.traced.read(origin.url("/")).await.expect("a response");
        }
        let timelines = scene.traced.timelines(2).await;
        let spans = scene.spans(2, 10).await;
        let expected = || ExpectedSpan::new();
        for client in spans.named("GET") {
            match wanted {
                true => expected().with("httptrace.tcp.retransmits", 0).with("httptrace.tcp.unsent", 0).check(client),
                false => expected().without("httptrace.tcp.rtt").without("httptrace.tcp.retransmits").check(client),
            }
        }
        let looks: Vec<_> = timelines.iter().filter_map(|timeline| timeline.facts.as_ref()?.tcp).collect();
        if !wanted {
            assert!(looks.is_empty() && timelines.iter().all(|timeline| timeline.facts.is_none()));
            continue;
        }
        let [first, second] = looks[..] else { panic!("{looks:?}") };
        let received = |look: &httptrace::facts::TcpInfo| look.bytes_received;
        let (one, two) = (OK.len() as u64, 2 * OK.len() as u64);
        assert_eq!((received(&first.checkout), first.done.as_ref().map(received)), (0, Some(one)));
        assert_eq!((received(&second.checkout), second.done.as_ref().map(received)), (one, Some(two)));
        assert_eq!((first.checkout.bytes_sent, first.retransmits(), first.unread), (0, Some(0), None));
        assert!(second.checkout.bytes_sent > 0 && second.last().bytes_sent > second.checkout.bytes_sent);
        let rtt = first.checkout.rtt;
        assert!(rtt > Duration::ZERO && rtt < Duration::from_secs(1), "{rtt:?}");
    }
}

/// A listener whose queue is full drops the client's SYN, which the kernel sends again after a second.
#[tokio::test]
async fn a_segment_that_was_lost_is_counted() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let loopback: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&loopback.into()).expect("a port");
    // Linux: one connection may wait.
    socket.listen(0).expect("a listener");
    socket.set_nonblocking(true).expect("tokio's way");
    let listener = TcpListener::from_std(socket.into()).expect("a listener");
    let addr = listener.local_addr().expect("an address");
    let waiting = std::net::TcpStream::connect(addr).expect("room for one");
    let scene = Scene::new(Client::builder().tcp_info(true).resolver(std::sync::Arc::new(
        crate::support::dns::FakeResolver::new(),
    )));
    let body = scene.traced.read_later(format!("http://{addr}/").parse().expect("a URL"));
    let request = tokio::spawn(body);
    scene.traced.log.wait_for("connect_start", 1).await;
    // The SYN is out: the attempt's task has run up to its wait for the handshake.
    tokio::task::yield_now().await;
    let first = within("who waits", listener.accept()).await.expect("a connection");
    let (mut second, _) = within("the second SYN", listener.accept()).await.expect("a connection");
    let mut head = [0; 1024];
    within("a request", second.read(&mut head)).await.expect("bytes");
    second.write_all(OK.as_bytes()).await.expect("room");
    within("a response", request).await.expect("no panic").expect("a response");
    let timeline = scene.traced.timeline().await;
    let tcp = timeline.facts.as_ref().and_then(|facts| facts.tcp).expect("two looks");
    // It was lost before the request got its connection.
    assert_eq!((tcp.checkout.retransmits, tcp.retransmits()), (1, Some(0)));
    let spans = scene.spans(1, 6).await;
    let expected = ExpectedSpan::new().with("httptrace.tcp.retransmits", 0);
    expected.with("httptrace.tcp.connection_retransmits", 1).check(spans.only("GET"));
    drop((waiting, first));
}

/// The one thread of the runtime is blocked while the answer comes.
// mutant: `unread` from the wrong end of the wait
#[tokio::test]
async fn an_answer_that_a_blocked_runtime_leaves_in_the_kernel_is_told() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let (tell, answered) = mpsc::channel();
    let (asked, mut request) = tokio::sync::mpsc::unbounded_channel();
    let (go, may) = mpsc::channel();
    let origin = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        assert!(stream.read(&mut [0; 1024]).expect("a request") > 0);
        asked.send(()).expect("somebody waits");
        may.recv().expect("the test lives");
        stream.write_all(OK.as_bytes()).expect("room");
        tell.send(()).expect("somebody waits");
        stream
    });
    let scene = Scene::new(Client::builder().tcp_info(true));
    let body = tokio::spawn(scene.traced.read_later(format!("http://{addr}/").parse().expect("a URL")));
    within("the request", request.recv()).await.expect("a request");
    // What no task should do: block the thread that others run on, while their bytes come.
    go.send(()).expect("the origin lives");
    answered.recv().expect("an answer");
    thread::sleep(Duration::from_millis(60));
    within("a response", body).await.expect("no panic").expect("a response");
    let timeline = scene.traced.timeline().await;
    let unread = timeline.facts.as_ref().and_then(|facts| facts.tcp).and_then(|tcp| tcp.unread);
    let unread = unread.expect("60 ms are more than a step of the kernel's clock");
    // By a step of that clock on either side, and what a busy machine adds.
    assert!(unread >= Duration::from_millis(45) && unread < Duration::from_secs(5), "{unread:?}");
    let facts = Waterfall::from_timeline(&timeline).facts;
    assert!(facts.iter().any(|fact| fact.starts_with("unread in the kernel for ")), "{facts:?}");
    drop(origin.join());
}
