//! A failure in plain words: what it means, what was tried, and how long it took.
//!
//! In: a finished record with an error. Out: sentences for somebody who reads them at night. They explain and suggest;
//! what is certain is the error itself, which stands above them.

use std::{error::Error as _, io};

use super::{attempt::nanos, text::duration};
use crate::{
    error::{Error, Kind},
    phase::Phase,
    timeline::{PhaseSpan, SetupDetail, Timeline},
};

/// What is said below the error.
pub(super) fn hints(timeline: &Timeline) -> Vec<String> {
    let Some(error) = &timeline.error else { return Vec::new() };
    let phases = timeline.phases();
    let mut hints = vec![meaning(error).to_owned()];
    if error.is_proxy() {
        hints.push("it failed at the proxy: the server itself was not reached".to_owned());
    }
    hints.extend(cause(error));
    hints.extend(tried(&phases));
    hints.extend(spent(timeline, error, &phases));
    hints
}

/// The first cause, unless it may quote what is secret, or is a name or a number of the system's for what the error says
/// anyway.
fn cause(error: &Error) -> Option<String> {
    let source = error.source()?;
    let known = source.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error().is_some());
    let said = error.shown_cause()?;
    (!known && said != error.error_type()).then(|| format!("cause: {said}"))
}

/// The addresses, if connecting is what failed or there was more than one.
fn tried(phases: &[PhaseSpan<'_>]) -> Option<String> {
    let connects = phases.iter().filter(|phase| phase.phase == Phase::Connect);
    let tried: Vec<String> = connects
        .filter_map(|phase| {
            let Some(SetupDetail::Connect { peer: Some(peer), .. }) = phase.detail else { return None };
            let said = phase.error.map_or("connected", Error::error_type);
            Some(format!("{peer} ({said} after {})", duration(nanos(phase.start, phase.end))))
        })
        .collect();
    let failed = phases.iter().any(|phase| phase.phase == Phase::Connect && phase.error.is_some());
    (failed || tried.len() > 1).then(|| format!("tried: {}", tried.join(", ")))
}

/// How much of the time went into the phase that died.
fn spent(timeline: &Timeline, error: &Error, phases: &[PhaseSpan<'_>]) -> Option<String> {
    let died = phases.iter().rfind(|phase| phase.phase == error.phase() && phase.error.is_some())?;
    let inside = duration(nanos(died.start, died.end));
    let all = duration(nanos(timeline.start, timeline.response_end.or(timeline.end)?));
    Some(format!("it ended after {all}, the last {inside} of them in {}", died.phase))
}

/// What it usually means.
fn meaning(error: &Error) -> &'static str {
    match error.kind() {
        Kind::HostNotFound => "Nobody knows an address of this name. Is it spelt right? Is it the right name server?",
        Kind::TryAgain => "No name server gave an answer. It, or the way to it, may be down.",
        Kind::NoRecovery => "The name server refused the question or failed at it. Another try will hardly help.",
        Kind::NoAddresses => "The name exists, but it has no address that could be used.",
        Kind::ConnectionRefused => {
            "The host is up, but nothing listens on this port. Is the server running? Is it this port?"
        }
        Kind::ConnectionReset => "The other end, or something on the way to it, broke the connection off.",
        Kind::NetworkUnreachable => {
            "This machine has no route there. Is it online? Does its network have this IP version?"
        }
        Kind::HostUnreachable => "The way to the host is known, but it does not answer there.",
        Kind::AddressNotAvailable => "This machine has no local address or port left to connect from.",
        Kind::PermissionDenied => "A rule of this machine, such as a firewall or a sandbox, forbids the connection.",
        Kind::ConnectFailed => "None of the host's addresses could be connected to.",
        Kind::ProxyAuthRequired => "The proxy does not let this client through without credentials, or not with these.",
        Kind::ProxyRefused => {
            "The proxy was asked and said no. Does it allow this host and port? Can it reach them, and look them up?"
        }
        Kind::ProxyProtocolError => {
            "What the proxy sent is no answer. Is it a proxy, and of the kind that its URL says?"
        }
        Kind::CertificateUntrusted => {
            "No authority that this client trusts has signed it. Is it self-signed, or from a private authority?"
        }
        Kind::CertificateExpired => "Now is outside of its dates. It has to be renewed, or the clock here is wrong.",
        Kind::CertificateNameMismatch => {
            "It was issued for other names. Is it the right host? Does something in between answer for it?"
        }
        Kind::CertificateRevoked => "Its authority took it back. The server needs a new one.",
        Kind::CertificateInvalid => "It breaks the rules for certificates, so it proves nothing.",
        Kind::TlsProtocolError => {
            "The two ends did not come to terms. Does this port speak TLS, and a version in use today?"
        }
        Kind::TlsClosed => {
            "The server hung up in the handshake. Does this port speak TLS? Does it want a client certificate?"
        }
        Kind::ConnectionClosed => {
            "The server took the connection and hung up without an answer. Did it crash, restart or time out?"
        }
        Kind::WriteFailed => "The connection broke while the request was being sent.",
        Kind::MalformedResponse => "What came back is not proper HTTP. Does this port speak another protocol?",
        Kind::HeadTooLarge => "The head of the response is larger than this client allows.",
        Kind::TooManyInformational => "The server sent one interim response (1xx) after the other.",
        Kind::BodyIncomplete => {
            "The connection ended before the whole body was here. What was received is only a part."
        }
        Kind::BodyTooLarge => "There is more of the body than was to be read.",
        Kind::BodyUnfit => "The body is whole, but not what it was taken for.",
        Kind::Http2ProtocolError => "The two ends disagree about HTTP/2. All requests on this connection are affected.",
        Kind::Http2StreamReset => "The server broke this one request off. Its connection may live on.",
        Kind::Http2GoAway => {
            "The server is closing this connection, for a restart perhaps, and did not finish this request."
        }
        Kind::Timeout => silence(error.phase()),
        Kind::Canceled => "It was broken off on this side.",
        Kind::RequestBodyFailed => "The body could not be read on this side, so the request was not sent whole.",
        Kind::InvalidRequest => "The request can't be sent as it is.",
        Kind::TooManyRedirects => {
            "The server redirects more often than is followed: often two URLs that lead to each other."
        }
        Kind::RedirectRefused => "The server redirects to a place that is not gone to: see its Location.",
        Kind::Other => "There is no better name for this failure than its cause.",
    }
}

/// What it means that time ran out there.
fn silence(phase: Phase) -> &'static str {
    match phase {
        Phase::GetConnection => "No connection became free in time. Are the limits too low, or is the server too slow?",
        Phase::Dns => "The lookup had no answer in time. The name server, or the way to it, may be down.",
        Phase::Connect => "No answer at all. The host may be down, or a firewall drops what is sent to it.",
        Phase::Tunnel => "The proxy did not answer in time.",
        Phase::Tls => {
            "Connected, but the handshake came to no end. Does this port speak TLS? Is the server overloaded?"
        }
        Phase::RequestWrite => "The server stopped reading the request. It may be overloaded.",
        Phase::ResponseWait => {
            "The request was sent, but no byte of an answer came in time. The server is slow or stuck."
        }
        Phase::ResponseRead => "The answer began, but did not come to its end in time.",
        Phase::Request => "The time for the whole request ran out.",
    }
}
