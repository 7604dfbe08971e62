//! Certificates that are wrong in one way each, handshakes that are none, and ends that TLS does not vouch for.

use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier};

use crate::{
    case::{Case, GOOD, Over, http1},
    judge::SOON,
    support::{
        certificate::Identity,
        frames::{HEADERS, PREFACE, answer, greeting},
        script::{
            Step::{AwaitClose, Close, CloseBeneath, Read, ReadFrame, ReadHead, Reset, WriteBeneath},
            write,
        },
    },
};

pub(crate) fn cases() -> Vec<Case> {
    [certificates(), handshakes(), records(), lies()].into_iter().flatten().collect()
}

fn leaf(change: impl FnOnce(&mut CertificateParams)) -> Identity {
    Identity::with(&["http/1.1"], change)
}

fn good() -> Identity {
    Identity::new(&["http/1.1"])
}

/// Nothing of HTTP is sent to who shows this.
fn shows(name: &'static str, identity: fn() -> Identity, error_type: &'static str) -> Case {
    http1(name, [AwaitClose]).over(Over::Tls(identity)).dies("tls", error_type).posts(0)
}

fn certificates() -> Vec<Case> {
    vec![
        shows(
            "shows a certificate that has expired",
            || leaf(|leaf| (leaf.not_before, leaf.not_after) = (date_time_ymd(1999, 1, 1), date_time_ymd(2000, 1, 1))),
            "certificate_expired",
        ),
        shows(
            "shows a certificate that is not valid yet",
            || leaf(|leaf| (leaf.not_before, leaf.not_after) = (date_time_ymd(4000, 1, 1), date_time_ymd(4001, 1, 1))),
            "certificate_expired",
        ),
        shows(
            "shows a certificate for another name",
            || {
                leaf(|leaf| {
                    leaf.subject_alt_names =
                        CertificateParams::new(vec!["other.test".to_owned()]).expect("a name").subject_alt_names
                })
            },
            "certificate_name_mismatch",
        ),
        shows(
            "shows a certificate for no name",
            || leaf(|leaf| leaf.subject_alt_names.clear()),
            "certificate_name_mismatch",
        ),
        shows(
            "shows a certificate for another address",
            || {
                leaf(|leaf| {
                    leaf.subject_alt_names =
                        CertificateParams::new(vec!["127.0.0.2".to_owned()]).expect("a name").subject_alt_names
                })
            },
            "certificate_name_mismatch",
        ),
        shows(
            "shows a certificate of an unknown authority",
            || Identity { root: good().root, ..good() },
            "certificate_untrusted",
        ),
        shows("shows a certificate that signed itself", || Identity::alone(&["http/1.1"]), "certificate_untrusted"),
        shows(
            "shows a certificate for clients",
            || leaf(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "certificate_invalid",
        ),
        shows(
            "shows a certificate with a forged signature",
            || Identity::forged(&["http/1.1"]),
            "certificate_untrusted",
        ),
        shows("shows a certificate that was taken back", revoked, "certificate_revoked")
            .with(|builder| builder.tls_config(with_revocations())),
        shows(
            "shows the certificate of an authority",
            || leaf(|leaf| leaf.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
            "certificate_invalid",
        ),
    ]
}

/// One for all: the client knows its revocation.
fn revoked() -> Identity {
    static ONE: LazyLock<Identity> = LazyLock::new(good);
    ONE.clone()
}

/// A client's settings that ask whether the certificate was taken back.
fn with_revocations() -> ClientConfig {
    let (mut roots, identity) = (RootCertStore::empty(), revoked());
    roots.add(identity.root).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.with_crls([identity.revocation]).build().expect("a list that can be read");
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config.expect("the provider's own versions").with_webpki_verifier(verifier).with_no_client_auth()
}

fn handshakes() -> Vec<Case> {
    let no = |name, steps: Vec<_>, error_type| http1(name, steps).over(Over::NoTls).dies("tls", error_type).posts(0);
    let alert = |code: u8| write(vec![21, 3, 3, 0, 2, 2, code]);
    vec![
        no(
            "answers a handshake in plain HTTP",
            vec![Read(1), write("HTTP/1.1 400 Bad Request\r\n\r\n"), AwaitClose],
            "tls_protocol_error",
        ),
        no("answers a handshake with garbage", vec![Read(1), write(vec![0xa5; 512]), AwaitClose], "tls_protocol_error"),
        no("answers a handshake with zeros", vec![Read(1), write(vec![0; 512]), AwaitClose], "tls_protocol_error"),
        no(
            "answers a handshake with the preface of HTTP/2",
            vec![Read(1), write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), AwaitClose],
            "tls_protocol_error",
        ),
        no("answers a handshake with an alert", vec![Read(1), alert(40), AwaitClose], "tls_protocol_error"),
        no(
            "answers a handshake with close_notify",
            vec![Read(1), write(vec![21, 3, 3, 0, 2, 1, 0]), Close],
            "tls_closed",
        ),
        no("refuses the version of TLS", vec![Read(1), alert(70), AwaitClose], "tls_protocol_error"),
        no("does not know the name", vec![Read(1), alert(112), AwaitClose], "tls_protocol_error"),
        no("knows TLS 1.0 only", vec![Read(1), write(server_hello(0x0301, 0x002f)), AwaitClose], "tls_protocol_error"),
        no(
            "chooses a cipher that nobody offered",
            vec![Read(1), write(server_hello(0x0303, 0x0000)), AwaitClose],
            "tls_protocol_error",
        ),
        no(
            "begins a renegotiation",
            vec![Read(1), write(vec![22, 3, 3, 0, 4, 0, 0, 0, 0]), AwaitClose],
            "tls_protocol_error",
        ),
        no(
            "sends a record that is too long",
            vec![Read(1), write([&[22, 3, 3, 0xff, 0xff][..], &[0; 2000]].concat()), AwaitClose],
            "tls_protocol_error",
        ),
        no("closes before the handshake", vec![Close], "tls_closed"),
        no("closes within the handshake", vec![Read(1), Close], "tls_closed"),
        no(
            "closes within a record of the handshake",
            vec![Read(1), write(vec![22, 3, 3, 0, 90, 2]), Close],
            "tls_closed",
        ),
        no("resets within the handshake", vec![Read(1), Reset], "tls_closed"),
        no("says nothing in the handshake", vec![AwaitClose], "timeout")
            .until("tls_handshake_timeout", |builder| builder.tls_handshake_timeout(SOON)),
        no(
            "stops within a record of the handshake",
            vec![Read(1), write(vec![22, 3, 3, 0, 90, 2]), AwaitClose],
            "timeout",
        )
        .until("tls_handshake_timeout", |builder| builder.tls_handshake_timeout(SOON)),
    ]
}

/// A ServerHello of this version, with this cipher.
fn server_hello(version: u16, cipher: u16) -> Vec<u8> {
    let ([v0, v1], [c0, c1]) = (version.to_be_bytes(), cipher.to_be_bytes());
    let hello = [&[v0, v1][..], &[7; 32], &[0, c0, c1, 0]].concat();
    let length = u8::try_from(hello.len()).expect("a short message");
    [&[22, v0, v1, 0, length + 4, 2, 0, 0, length][..], &hello].concat()
}

fn records() -> Vec<Case> {
    let tls = |name, steps: Vec<_>| http1(name, steps).over(Over::Tls(good));
    let garbage = || WriteBeneath([&[23, 3, 3, 0, 32][..], &[0; 32]].concat().into());
    let half = || write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
    vec![
        tls("ends without close_notify before the head", vec![ReadHead, CloseBeneath])
            .dies("response-wait", "connection_closed"),
        tls("ends without close_notify within the head", vec![ReadHead, write("HTTP/1.1 200"), CloseBeneath])
            .dies("response-read", "body_incomplete"),
        tls("ends without close_notify within the body", vec![ReadHead, half(), CloseBeneath])
            .dies("response-read", "body_incomplete"),
        tls(
            "ends without close_notify behind a body without length",
            vec![ReadHead, write("HTTP/1.1 200 OK\r\n\r\nbody"), CloseBeneath],
        )
        .dies("response-read", "body_incomplete"),
        tls(
            "ends with close_notify behind a body without length",
            vec![ReadHead, write("HTTP/1.1 200 OK\r\n\r\nbody"), Close],
        )
        .answers(200, "body")
        .closes("peer_closed"),
        tls(
            "ends without close_notify behind a whole response",
            vec![
                ReadHead,
                write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\ngood"),
                CloseBeneath,
            ],
        )
        .closes("connection_close"),
        tls("sends a record that nobody encrypted, before the head", vec![ReadHead, garbage(), AwaitClose])
            .dies("response-wait", "_OTHER"),
        tls("sends a record that nobody encrypted, within the body", vec![ReadHead, half(), garbage(), AwaitClose])
            .dies_of(&[("response-read", "_OTHER"), ("response-wait", "_OTHER")]),
        tls("sends plain HTTP behind the handshake", vec![ReadHead, WriteBeneath(GOOD.into()), AwaitClose])
            .dies("response-wait", "_OTHER"),
        tls("resets behind the request over TLS", vec![ReadHead, Reset]).dies("response-wait", "connection_reset"),
    ]
}

fn lies() -> Vec<Case> {
    vec![
        http1("agrees on HTTP/2 and speaks HTTP/1.1", [Read(PREFACE), write(GOOD), AwaitClose])
            .over(Over::Tls(|| Identity::new(&["h2"])))
            .dies("response-wait", "http2_protocol_error"),
        http1("agrees on HTTP/1.1 and speaks HTTP/2", [ReadHead, greeting(), AwaitClose])
            .over(Over::Tls(good))
            .dies("response-read", "malformed_response"),
        http1("agrees on nothing and speaks HTTP/2", [ReadHead, greeting(), AwaitClose])
            .over(Over::Tls(|| Identity::new(&[])))
            .dies("response-read", "malformed_response"),
        http1(
            "agrees on HTTP/2 and speaks it",
            [
                Read(PREFACE),
                greeting(),
                ReadFrame(HEADERS, 1),
                answer(1, "good"),
                ReadFrame(HEADERS, 3),
                answer(3, "good"),
                AwaitClose,
            ],
        )
        .over(Over::Tls(|| Identity::new(&["h2"])))
        .reuses(),
    ]
}
