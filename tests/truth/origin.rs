//! The other process: an origin that plays one script per request and tells what it saw.
//!
//! It is this test's own binary, started with another role. It gets one order per request over the control connection
//! (`order.rs`), answers it with `ready` right before it waits for the client, and with its stamps after the last byte.
//! The end of the control connection is its own end, so it can't outlive the test.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use socket2::{Domain, Socket, Type};

use crate::{
    order::{Kind, Order, Protocol, Stamps},
    wire::{Wire, now, stays_awake, until_ready},
};

/// Plays until the control connection ends.
pub(crate) fn run(control: &str) {
    let mut control = TcpStream::connect(control).expect("the test listens");
    let orders = orders(control.try_clone().unwrap());
    let listener = listen(128);
    let (root, h1, h2) = configs();
    let hex: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(control, "{} {hex}", listener.local_addr().unwrap()).unwrap();

    let mut kept = None;
    for order in orders {
        let mut stamps = Stamps::default();
        if order.kind == Kind::SynDropped {
            syn_dropped(&mut control, &mut stamps);
        } else {
            let tls = match order.protocol {
                Protocol::Http1 => None,
                Protocol::Http1Tls => Some(&h1),
                Protocol::Http2Tls => Some(&h2),
            };
            let mut wire = match kept.take() {
                Some(wire) if order.kind == Kind::Again => {
                    writeln!(control, "ready").unwrap();
                    wire
                }
                _ => {
                    writeln!(control, "ready").unwrap();
                    accept(&listener, tls, &order, &mut stamps)
                }
            };
            crate::script::play(&mut wire, &order, &mut stamps);
            stamps.set("late", wire.late.as_nanos().try_into().unwrap());
            kept = Some(wire);
        }
        writeln!(control, "{stamps}").unwrap();
    }
}

/// The orders of the control connection; its end ends this process, whatever it waits for.
fn orders(control: TcpStream) -> mpsc::Receiver<Order> {
    let (tell, orders) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(control).lines().map_while(Result::ok) {
            tell.send(line.parse().unwrap()).unwrap();
        }
        std::process::exit(0);
    });
    orders
}

fn accept(listener: &TcpListener, tls: Option<&Arc<ServerConfig>>, order: &Order, stamps: &mut Stamps) -> Wire {
    listener.set_nonblocking(stays_awake()).unwrap();
    let (tcp, _) = until_ready(|| listener.accept());
    stamps.set("accepted", now());
    let mut wire = Wire::new(tcp, tls);
    if tls.is_some() {
        let seen = wire.handshake(order.kind == Kind::Get);
        stamps.set("hello_read", seen.hello_read);
        stamps.set("flight_written", seen.flight_written);
        stamps.set("finished_read", seen.finished_read);
    }
    if order.protocol == Protocol::Http2Tls {
        crate::script::greet(&mut wire);
    }
    wire
}

/// A listener whose queue is full: the kernel drops the client's SYN until there is room, so no connect can be done
/// before that. (A SYN is sent again after a second.)
fn syn_dropped(control: &mut TcpStream, stamps: &mut Stamps) {
    let listener = listen(0);
    let addr = listener.local_addr().unwrap();
    let _filler = TcpStream::connect(addr).unwrap();
    writeln!(control, "{addr}").unwrap();
    thread::sleep(5 * crate::wire::DELAY);
    stamps.set("room_made", now());
    let _accepted = listener.accept().unwrap();
    let (tcp, _) = listener.accept().unwrap();
    stamps.set("accepted", now());
    let mut wire = Wire::new(tcp, None);
    wire.read();
    wire.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
}

/// Small segments and a small window, so that a client's socket is full after some ten KiB instead of some MiB.
fn listen(backlog: i32) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(backlog).unwrap();
    socket.into()
}

/// The certificate, and the server's side for HTTP/1.1 and for HTTP/2.
fn configs() -> (CertificateDer<'static>, Arc<ServerConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let config = |alpn: &[u8]| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![alpn.to_vec()];
        Arc::new(config)
    };
    (made.cert.der().clone(), config(b"http/1.1"), config(b"h2"))
}
