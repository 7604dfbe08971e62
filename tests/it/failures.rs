//! Every way of dying: the error says what and where, the record has it on the phase that died and on all around it, and
//! whatever began has ended (contract of [`ClientTrace`](httptrace::ClientTrace)).

mod certificates;
mod connecting;
mod exchanging;
mod http2;
mod limits;

use std::time::Duration;

use httptrace::{Client, ClientBuilder, Error, Timeline};

use crate::support::client::Traced;

/// A limit of the client that only `pass` reaches.
const LIMIT: Duration = Duration::from_secs(600);

fn limited() -> ClientBuilder {
    Client::builder().timeout(LIMIT)
}

/// The record of the only request, once everything that it began has ended; and it has, each thing once.
async fn over(traced: &Traced) -> Timeline {
    let timeline = traced.timeline().await;
    traced.log.settled().await.assert_paired();
    timeline
}

/// What the error answers: where, what, and exactly which of its questions with yes (sorted).
#[track_caller]
pub(crate) fn assert_says(error: &Error, phase: &str, error_type: &str, yes: &[&str]) {
    let answers = [
        ("body", error.is_body()),
        ("canceled", error.is_canceled()),
        ("connect", error.is_connect()),
        ("dns", error.is_dns()),
        ("invalid_request", error.is_invalid_request()),
        ("proxy", error.is_proxy()),
        ("timeout", error.is_timeout()),
        ("tls", error.is_tls()),
    ];
    let answered: Vec<_> = answers.iter().filter(|(_, answer)| *answer).map(|(question, _)| *question).collect();
    let said = (error.phase().as_str(), error.error_type(), answered.as_slice());
    assert_eq!(said, (phase, error_type, yes), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("http:") && !text.contains(".test:"), "the text has no URL: {text}");
}
