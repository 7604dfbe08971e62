//! TLS is what it says it is, or there is no connection: nothing is verified less, or spoken in an older or a plainer way,
//! because a first try failed. What the certificates of a server can be wrong in: `failures/certificates.rs`.

use std::sync::Arc;

use httptrace::{Client, ClientBuilder, Timeline, connection::Protocol};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::PrivateKeyDer,
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::{
    failures::assert_says,
    spans::scene::hello,
    support::{
        certificate::Identity,
        client::Traced,
        dns::FakeResolver,
        origin::Origin,
        script::{
            Step::{AwaitClose, Close, CloseBeneath, Read, ReadHead, Reset},
            write,
        },
    },
};

/// A client of its own choice of roots, whose only request fails in the handshake: the records, and that nothing else was
/// tried.
async fn fails(builder: ClientBuilder, origin: &Origin, error_type: &str) -> Timeline {
    let traced = Traced::new(builder);
    let url = format!("https://{}/secret", origin.addr()).parse().expect("a URL");
    let error = traced.read(url).await.expect_err("no connection");
    assert_says(&error, "tls", error_type, &["connect", "tls"]);
    let record = origin.record();
    assert_eq!((record.connections.len(), record.requests.len()), (1, 0), "no second try, and nothing was asked");
    let received = &record.connections[0].received;
    assert!(!received.windows(6).any(|bytes| bytes == b"secret"), "nothing was said in the clear");
    traced.timeline().await
}

#[tokio::test]
async fn verification_is_on_unless_it_is_switched_off_by_name() {
    // The platform's roots, those of another, and an answer to the question whether to accept anything.
    let other = Origin::tls().script([AwaitClose]);
    for builder in [
        Client::builder(),
        Client::builder().danger_accept_invalid_certs(false),
        other.client_builder(),
        other.client_builder().danger_accept_invalid_certs(false),
    ] {
        let origin = Origin::tls().serve(hello);
        fails(builder, &origin, "certificate_untrusted").await;
    }
    let origin = Origin::tls().serve(hello);
    let traced = Traced::new(Client::builder().danger_accept_invalid_certs(true));
    traced.read(origin.url("/")).await.expect("anybody is trusted");
}

#[tokio::test]
async fn what_is_switched_off_can_be_switched_on_again() {
    let origin = Origin::tls().serve(hello);
    let builder = Client::builder().danger_accept_invalid_certs(true).danger_accept_invalid_certs(false);
    fails(builder, &origin, "certificate_untrusted").await;
    let nobody = Client::builder().root_certificates(Vec::new()).build();
    assert!(nobody.is_err_and(|error| error.is_tls()), "no roots are nobody's, not everybody's");
}

#[tokio::test]
async fn without_verification_the_handshake_still_needs_the_certificates_key() {
    let (shown, other) = (Identity::new(&[]), rcgen::KeyPair::generate().expect("randomness"));
    let key = PrivateKeyDer::try_from(other.serialize_der()).expect("a key");
    let key = rustls::crypto::ring::sign::any_supported_type(&key).expect("a key that signs");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
        let certificate = CertifiedKey::new(vec![shown.root.clone()], Arc::clone(&key));
        let resolver = Arc::new(SingleCertAndKey::from(certificate)) as Arc<dyn ResolvesServerCert>;
        let config = config.expect("a version").with_no_client_auth().with_cert_resolver(resolver);
        let identity = Identity { config: Arc::new(config), ..Identity::new(&[]) };
        let origin = Origin::tls_as(identity).serve(hello);
        fails(Client::builder().danger_accept_invalid_certs(true), &origin, "certificate_untrusted").await;
    }
}

#[tokio::test]
async fn a_server_that_answers_in_an_old_version_is_not_followed() {
    // SSL 3.0, TLS 1.0 and 1.1, each with a cipher suite that it had.
    for minor in 0..=2 {
        let body = [&[3, minor][..], &[7; 32], &[0, 0xc0, 0x13, 0]].concat();
        let length = u8::try_from(body.len()).expect("a short one");
        let answer = [&[22, 3, minor, 0, length + 4, 2, 0, 0, length][..], &body].concat();
        let origin = Origin::plain().script([Read(5), write(answer), AwaitClose]);
        fails(Client::builder().danger_accept_invalid_certs(true), &origin, "tls_protocol_error").await;
    }
}

#[tokio::test]
async fn a_handshake_that_fails_is_not_tried_again_in_another_way() {
    // `protocol_version`, `handshake_failure`, `inappropriate_fallback` and `internal_error`, as alerts.
    for alert in [70, 40, 86, 80] {
        let origin = Origin::plain().script([Read(5), write(vec![21, 3, 3, 0, 2, 2, alert]), AwaitClose]);
        fails(Client::builder(), &origin, "tls_protocol_error").await;
    }
    for end in [Close, Reset] {
        let origin = Origin::plain().script([Read(5), end]);
        fails(Client::builder(), &origin, "tls_closed").await;
    }
}

#[tokio::test]
async fn an_end_without_tls_own_word_for_it_is_not_the_end_of_a_body() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf";
    for (end, whole) in [(Close, true), (CloseBeneath, false)] {
        let origin = Origin::tls_with_alpn(&["http/1.1"]).script([ReadHead, write(head), end]);
        let body = Traced::new(origin.client_builder()).read(origin.url("/")).await;
        match body {
            Ok(body) => assert!(whole && body == "half", "{body:?}"),
            Err(error) => assert!(!whole && error.error_type() == "body_incomplete", "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_protocol_that_was_asked_for_is_spoken_or_none_is() {
    let speaks = async |builder: ClientBuilder, origin: &Origin| {
        let traced = Traced::new(builder);
        traced.read(origin.url("/")).await.expect("a response");
        traced.timeline().await.connection.expect("a connection").info.protocol
    };
    let (h2, h1) = (Origin::tls_with_alpn(&["h2"]).serve(hello), Origin::tls_with_alpn(&["http/1.1"]).serve(hello));
    // A server that does not know of the question chooses nothing.
    let mute = Origin::tls_with_alpn(&[]).serve(hello);
    assert_eq!(speaks(h2.client_builder().http2_only(), &h2).await, Protocol::Http2);
    assert_eq!(speaks(h1.client_builder().http1_only(), &h1).await, Protocol::Http1);
    assert_eq!(speaks(mute.client_builder().http1_only(), &mute).await, Protocol::Http1);
    assert_eq!(speaks(mute.client_builder(), &mute).await, Protocol::Http1);
    let other = Origin::tls_with_alpn(&["http/1.1"]).serve(hello);
    fails(other.client_builder().http2_only(), &other, "tls_protocol_error").await;
    let other = Origin::tls_with_alpn(&["h2"]).serve(hello);
    fails(other.client_builder().http1_only(), &other, "tls_protocol_error").await;
    let other = Origin::tls_with_alpn(&[]).serve(hello);
    fails(other.client_builder().http2_only(), &other, "tls_protocol_error").await;
    // Who lists more is content with more.
    let mut roots = RootCertStore::empty();
    roots.add(mute.root_certificate()).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("the provider's own").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    assert_eq!(speaks(Client::builder().tls_config(config).http2_only(), &mute).await, Protocol::Http1);
}

#[tokio::test]
async fn sessions_are_resumed_by_the_same_client_at_the_same_host() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let identity = Identity::new(&[]);
        let provider = Arc::clone(identity.config.crypto_provider());
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
        let certificate = Arc::clone(&identity.config.cert_resolver);
        let config = config.expect("a version").with_no_client_auth().with_cert_resolver(certificate);
        let origin = Origin::tls_as(Identity { config: Arc::new(config), ..identity }).serve(hello);
        // No connection is kept, so each request has a handshake.
        let names = FakeResolver::new().local("origin.test").local("localhost");
        let client = || Traced::new(origin.client_builder().resolver(Arc::new(names.clone())).pool_max_idle(0));
        let (first, second) = (client(), client());
        for (traced, host) in
            [(&first, "origin.test"), (&first, "origin.test"), (&first, "localhost"), (&second, "origin.test")]
        {
            traced.read(origin.url_at(host, "/")).await.expect("a response");
        }
        let resumed = |timelines: Vec<Timeline>| -> Vec<bool> {
            let session = |timeline: &Timeline| timeline.connection.as_ref()?.info.tls.as_ref().map(|tls| tls.resumed);
            timelines.iter().map(|timeline| session(timeline).expect("a session")).collect()
        };
        assert_eq!(resumed(first.timelines(3).await), [false, true, false]);
        assert_eq!(resumed(second.timelines(1).await), [false]);
    }
}
