//! The command over TLS: whom it trusts, what it shows, which protocol it agrees on, and where its secrets go.

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivateKeyDer};

use super::*;

#[test]
fn a_certificate_is_trusted_only_when_it_is_told_so() {
    let (port, pem) = tls_origin();
    let file = folder("tls").join("root.pem");
    fs::write(&file, pem).unwrap();
    let url = format!("https://localhost:{port}/");
    let (code, _, line) = failed(&url, &[]);
    assert_eq!((code, &line["error"]["type"]), (60, &"certificate_untrusted".into()), "{line}");
    assert_eq!((&line["error"]["phase"], &line["tls"]), (&"tls".into(), &Value::Null));
    let (code, _, line) = failed(&format!("https://127.0.0.1:{port}/"), &["--cacert", file.to_str().unwrap()]);
    assert_eq!((code, &line["error"]["type"]), (60, &"certificate_name_mismatch".into()), "{line}");
    for trust in [&["--cacert", file.to_str().unwrap()][..], &["-k"]] {
        let args: Vec<&str> = ["--format", "json", &url].iter().chain(trust).copied().collect();
        let ran = httptrace(&args);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let line = &ran.lines()[0];
        assert_eq!((&line["tls"]["version"], &line["tls"]["server_name"]), (&"1.3".into(), &"localhost".into()));
        assert!(line["tls"]["cipher"].as_str().unwrap().starts_with("TLS_"));
        assert_eq!(names(&line["phases"])[..4], ["get-connection", "dns", "connect", "tls"]);
        // Who trusts anybody is told so.
        let warned = ran.stderr.starts_with("httptrace: warning: -k: any certificate is accepted, ");
        assert_eq!((warned, ran.stderr.lines().count()), (trust == ["-k"], trust.len() % 2), "{}", ran.stderr);
    }
    let ran = httptrace(&["-ks", &url]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

/// An https origin that answers every request and closes properly; its port and its certificate.
fn tls_origin() -> (u16, String) {
    let (config, pem) = tls_config();
    (serve_tls(config, answer), pem)
}

/// For `localhost`, with a certificate that nobody has signed.
pub(super) fn tls_config() -> (ServerConfig, String) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    (config, certified.cert.pem())
}

pub(super) type TlsStream = StreamOwned<ServerConnection, TcpStream>;

/// Serves each connection in a thread of its own. Returns the port.
pub(super) fn serve_tls(config: ServerConfig, serve: impl Fn(&mut TlsStream) + Clone + Send + 'static) -> u16 {
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream);
            let serve = serve.clone();
            thread::spawn(move || serve(&mut tls));
        }
    });
    port
}

/// Answers one request, if it comes.
fn answer(tls: &mut TlsStream) {
    if read_request(&mut BufReader::new(&mut *tls)).is_some() {
        tls.write_all(OK.as_bytes()).unwrap();
        tls.conn.send_close_notify();
        tls.flush().unwrap();
    }
}

#[test]
fn a_client_certificate_that_cannot_be_used_ends_with_58() {
    let folder = folder("identity");
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).unwrap();
        folder.join(name).to_str().unwrap().to_owned()
    };
    let one = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let two = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap();
    let (cert, key) = (write("cert", &one.cert.pem()), write("key", &one.signing_key.serialize_pem()));
    let other = write("other", &two.signing_key.serialize_pem());
    let locked = write("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let origin = Origin::start(&[Reply::Send(OK)]);
    let url = origin.url("/");
    for (args, named) in [
        (&["--cert", "/no/such/file"][..], "/no/such/file"),
        (&["--cert", &cert], "no private key"),
        (&["--cert", &key, "--key", &key], "no certificate"),
        (&["--cert", &cert, "--key", &other], "can't be used"),
        (&["--cert", &cert, "--key", &locked], "is encrypted: decrypt it first"),
    ] {
        let ran = ran(&command(args).arg(&url).output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (58, "", 1), "{}", ran.stderr);
        assert!(ran.stderr.contains(named), "{}", ran.stderr);
    }
    assert_eq!(origin.accepted(), 0);
    let both = write("both", &format!("{}{}", one.cert.pem(), one.signing_key.serialize_pem()));
    for args in [&["--cert", &cert, "--key", &key][..], &["-E", &both]] {
        assert_eq!(ran(&command(args).arg(&url).output().unwrap()).code, 0);
    }
}

#[test]
fn a_client_certificate_is_shown_to_who_asks_for_one() {
    use rustls::{RootCertStore, server::WebPkiClientVerifier};
    let folder = folder("mutual");
    let server = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let client = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let key = PrivateKeyDer::try_from(server.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.cert.der().clone()], key)
        .unwrap();
    let url = format!("https://localhost:{}/", serve_tls(config, answer));
    let both = folder.join("both");
    fs::write(&both, format!("{}{}", client.cert.pem(), client.signing_key.serialize_pem())).unwrap();
    let shown = httptrace(&["-k", "--cert", both.to_str().unwrap(), &url]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert_ne!(httptrace(&["-k", &url]).code, 0, "without one there is no answer");
}

#[test]
fn the_protocol_is_the_one_that_is_asked_for() {
    // Over TLS the handshake decides; the server here would take either.
    for (flags, chosen) in [(&[][..], "h2"), (&["--http2"], "h2"), (&["--http1.1"], "http/1.1")] {
        let (port, protocols) = negotiating_origin();
        let url = format!("https://localhost:{port}/");
        let ran = ran(&command(&["-k", "-m", "5", &url]).args(flags).output().unwrap());
        assert_eq!(protocols.recv().unwrap(), chosen, "{flags:?}");
        assert_eq!(ran.code == 0, chosen == "http/1.1", "{flags:?}: {}", ran.stderr);
    }
    // Without TLS nobody is asked.
    let origin = Origin::start(&[Reply::Send("")]);
    for (flags, first) in [(&[][..], "GET / HTTP/1.1"), (&["--http2"], "GET / HTTP/1.1")] {
        let _ = command(flags).arg(origin.url("/")).output().unwrap();
        let requests = origin.requests.lock().unwrap();
        assert!(requests.last().unwrap().1.starts_with(first), "{flags:?}");
    }
    let _ = httptrace(&["--http2-prior-knowledge", &origin.url("/")]);
    let requests = origin.requests.lock().unwrap();
    assert!(requests.last().unwrap().1.starts_with("PRI * HTTP/2.0"));
}

/// An https origin that would speak HTTP/2 or HTTP/1.1, and tells what was agreed on. It answers in HTTP/1.1.
fn negotiating_origin() -> (u16, mpsc::Receiver<String>) {
    let mut config = tls_config().0;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (tell, protocols) = mpsc::channel();
    let port = serve_tls(config, move |tls| {
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).unwrap();
        }
        let _ = tell.send(String::from_utf8(tls.conn.alpn_protocol().unwrap_or_default().to_vec()).unwrap());
        if tls.conn.alpn_protocol() == Some(b"http/1.1") {
            answer(tls);
        }
    });
    (port, protocols)
}

#[test]
fn the_secrets_of_a_handshake_go_to_the_file_that_is_named() {
    let (port, _) = tls_origin();
    let file = folder("keys").join("keys");
    let url = format!("https://localhost:{port}/");
    let logged = command(&["-k", &url]).env("SSLKEYLOGFILE", &file).output().unwrap();
    assert_eq!(ran(&logged).code, 0);
    let keys = fs::read_to_string(file).unwrap();
    assert!(keys.contains("CLIENT_TRAFFIC_SECRET_0 ") && keys.contains("SERVER_TRAFFIC_SECRET_0 "), "{keys}");
}
