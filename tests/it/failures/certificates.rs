//! Deaths in the TLS handshake: certificates that are wrong in one way each, and what is no TLS at all.

use std::sync::Arc;

use httptrace::Client;
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier};

use super::{assert_says, over};
use crate::support::{
    certificate::Identity,
    client::Traced,
    dns::FakeResolver,
    origin::Origin,
    script::{
        Step::{AwaitClose, Close, Read, Stall},
        write,
    },
    timeline::ExpectedTimeline,
};

/// The only request dies in the handshake, and of this.
async fn dies(traced: Traced, origin: &Origin, error_type: &str) {
    let uri = format!("https://{}/", origin.addr()).parse().expect("a URL");
    let error = traced.read(uri).await.expect_err("no connection");
    assert_says(&error, "tls", error_type, &["connect", "tls"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "connect", "tls"]).error("tls", error_type);
    expected.outcome("none").idle_return("none").response("none").check(&over(&traced).await);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_dies_in_tls() {
    let (origin, trusted) = (Origin::tls().script([Stall]), Origin::tls().script([Stall]));
    dies(Traced::new(trusted.client_builder()), &origin, "certificate_untrusted").await;
    origin.until_closed(1).await;
}

#[tokio::test]
async fn a_certificate_out_of_its_time_dies_in_tls() {
    for years in [(1999, 2000), (4000, 4001)] {
        let identity = Identity::with(&[], |leaf| {
            (leaf.not_before, leaf.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        });
        let origin = Origin::tls_as(identity).script([Stall]);
        dies(Traced::new(origin.client_builder()), &origin, "certificate_expired").await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_name_dies_in_tls() {
    let origin = Origin::tls().script([Stall]);
    let traced = Traced::new(origin.client_builder().resolver(Arc::new(FakeResolver::new().local("other.test"))));
    let error = traced.read(origin.url_at("other.test", "/")).await.expect_err("another name");
    assert_says(&error, "tls", "certificate_name_mismatch", &["connect", "tls"]);
    let expected = ExpectedTimeline::new().phases(["get-connection", "dns", "connect", "tls"]);
    expected.error("tls", "certificate_name_mismatch").outcome("none").check(&over(&traced).await);
}

#[tokio::test]
async fn a_certificate_that_was_taken_back_dies_in_tls() {
    let identity = Identity::new(&[]);
    let (root, revocation) = (identity.root.clone(), identity.revocation.clone());
    let origin = Origin::tls_as(identity).script([Stall]);
    let mut roots = RootCertStore::empty();
    roots.add(root).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.with_crls([revocation]).build().expect("a list that can be read");
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("the provider's own versions").with_webpki_verifier(verifier).with_no_client_auth();
    dies(Traced::new(Client::builder().tls_config(config)), &origin, "certificate_revoked").await;
}

#[tokio::test]
async fn a_certificate_that_is_not_a_servers_dies_in_tls() {
    let identity = Identity::with(&[], |leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let origin = Origin::tls_as(identity).script([Stall]);
    dies(Traced::new(origin.client_builder()), &origin, "certificate_invalid").await;
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_dies_in_tls() {
    let origin = Origin::plain().script([Read(1), write("HTTP/1.1 400 Bad Request\r\n\r\n"), AwaitClose]);
    dies(Traced::new(Client::builder().danger_accept_invalid_certs(true)), &origin, "tls_protocol_error").await;
}

#[tokio::test]
async fn a_server_that_hangs_up_in_the_handshake_dies_in_tls() {
    // It speaks no TLS: it waits for the hello and closes.
    let origin = Origin::plain().script([Read(1), Close]);
    dies(Traced::new(Client::builder().danger_accept_invalid_certs(true)), &origin, "tls_closed").await;
}
