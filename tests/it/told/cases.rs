//! The failures: for each a server that makes it, the arguments that both curl and the command take, and what is told.

use std::{any::Any, path::PathBuf, time::Duration};

use rcgen::{SanType, date_time_ymd};
use rustls::pki_types::CertificateDer;

#[cfg(target_os = "linux")]
use crate::support::origin::Silent;
use crate::support::{
    certificate::Identity,
    frames::{HEADERS, PREFACE, data, goaway, greeting, head},
    origin::{Origin, Refusing},
    script::{
        Step::{self, Close, Drip, Read, ReadFrame, ReadHead, Reset},
        write,
    },
};

/// One failure.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Options, then the URL.
    pub(crate) args: Vec<String>,
    pub(crate) code: i32,
    pub(crate) phase: &'static str,
    /// What it may be called: one name, but where the machine decides.
    pub(crate) types: &'static [&'static str],
    /// What has to live as long as the failure is asked for.
    _server: Box<dyn Any>,
}

impl Case {
    pub(crate) fn new(
        name: &'static str,
        server: impl Any,
        args: &[&str],
        told: (i32, &'static str, &'static [&'static str]),
    ) -> Self {
        let (code, phase, types) = told;
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Self { name, args, code, phase, types, _server: Box::new(server) }
    }

    pub(crate) fn of_origin(
        name: &'static str,
        origin: Origin,
        args: &[&str],
        told: (i32, &'static str, &'static [&'static str]),
    ) -> Self {
        let url = origin.url("/").to_string();
        let args: Vec<&str> = args.iter().copied().chain([&*url]).collect();
        Self::new(name, origin, &args, told)
    }
}

/// Four bytes of a body of nine.
const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";

/// RFC 6761 §6.4: there never is such a name. Without any network, a resolver may not know that, and says so.
pub(crate) fn name_not_found() -> Case {
    let told = (6, "dns", &["host_not_found", "try_again"][..]);
    Case::new("name not found", (), &["http://no-such-name.invalid/"], told)
}

pub(crate) fn refused() -> Case {
    let refusing = Refusing::new();
    let url = format!("http://{}/", refusing.addr());
    Case::new("refused", refusing, &[&url], (7, "connect", &["connection_refused"]))
}

#[cfg(target_os = "linux")]
pub(crate) fn silent_syn() -> Case {
    let silent = Silent::at(([127, 0, 0, 1], 0).into());
    let url = format!("http://{}/", silent.addr());
    Case::new("silent SYN", silent, &["--connect-timeout", "1", &url], (28, "connect", &["timeout"]))
}

pub(crate) fn expired_certificate() -> Case {
    let identity = Identity::with(&[], |leaf| {
        (leaf.not_before, leaf.not_after) = (date_time_ymd(1999, 1, 1), date_time_ymd(2000, 1, 1));
    });
    over_tls("expired certificate", identity, "certificate_expired")
}

pub(crate) fn wrong_host_name() -> Case {
    let identity = Identity::with(&[], |leaf| {
        leaf.subject_alt_names = vec![SanType::DnsName("other.test".try_into().expect("a name"))];
    });
    over_tls("wrong host name", identity, "certificate_name_mismatch")
}

fn over_tls(name: &'static str, identity: Identity, error_type: &'static str) -> Case {
    let root = trusted(name, &identity.root);
    let origin = Origin::tls_as(identity).script([ReadHead]);
    let types: &'static [&'static str] = match error_type {
        "certificate_expired" => &["certificate_expired"],
        _ => &["certificate_name_mismatch"],
    };
    Case::of_origin(name, origin, &["--cacert", root.to_str().expect("text")], (60, "tls", types))
}

/// A file with this authority.
fn trusted(name: &str, root: &CertificateDer<'_>) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("told-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(format!("{}.pem", name.replace(' ', "-")));
    let pem = pem(root);
    std::fs::write(&path, pem).expect("a file");
    path
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let text = BASE64_STANDARD.encode(certificate);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

pub(crate) fn closed_before_a_byte() -> Case {
    let origin = Origin::plain().script([ReadHead, Close]);
    Case::of_origin("closed before a byte", origin, &[], (52, "response-wait", &["connection_closed"]))
}

pub(crate) fn reset_within_the_body() -> Case {
    let origin = Origin::plain().script([ReadHead, write(HALF), Reset]);
    Case::of_origin("reset within the body", origin, &[], (56, "response-read", &["connection_reset"]))
}

pub(crate) fn body_shorter_than_its_length() -> Case {
    let origin = Origin::plain().script([ReadHead, write(HALF), Close]);
    Case::of_origin("body shorter than its length", origin, &[], (18, "response-read", &["body_incomplete"]))
}

pub(crate) fn header_drip() -> Case {
    let drip: Step = Drip(b"x-drip: drop\r\n", Duration::from_millis(20));
    let origin = Origin::plain().script([ReadHead, write("HTTP/1.1 200 OK\r\n"), drip]);
    Case::of_origin("header drip", origin, &["-m", "1.5"], (28, "response-read", &["timeout"]))
}

pub(crate) fn goaway_mid_stream() -> Case {
    let half = [head(1, 200, &[], false), data(1, b"half", false), goaway(0, 2)].concat();
    let origin = Origin::plain().script([Read(PREFACE), greeting(), ReadFrame(HEADERS, 1), write(half), Close]);
    let told = (16, "response-read", &["http2_goaway"][..]);
    Case::of_origin("HTTP/2 GOAWAY mid-stream", origin, &["--http2-prior-knowledge"], told)
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    vec![
        name_not_found(),
        refused(),
        #[cfg(target_os = "linux")]
        silent_syn(),
        expired_certificate(),
        wrong_host_name(),
        closed_before_a_byte(),
        reset_within_the_body(),
        body_shorter_than_its_length(),
        header_drip(),
        goaway_mid_stream(),
    ]
}
