//! Exit codes: curl's, as the project's table gives them. In: a phase and an `error.type`, or a refusal of the command's
//! own. Out: the code, and the one line that names the problem.

use std::{error::Error as _, io::Write, process::ExitCode};

use httptrace::{Error, Phase};

use crate::visible::push_visible;

/// A scheme that is neither `http` nor `https`.
pub(crate) const SCHEME: u8 = 1;
/// The command line.
pub(crate) const USAGE: u8 = 2;
/// A malformed URL.
pub(crate) const URL: u8 = 3;
/// `-f`, and a status of 400 or above.
pub(crate) const STATUS: u8 = 22;
/// `-o`, or stdout, can't be written.
pub(crate) const WRITE: u8 = 23;
/// `@file` can't be read.
pub(crate) const READ: u8 = 26;
/// `--cacert` can't be used.
pub(crate) const CA_FILE: u8 = 77;
/// Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why the command ends with a code that is not 0.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
    /// The `error.type` of the library, or `_OTHER` for what only a command can fail at.
    pub(crate) error_type: &'static str,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), error_type: "_OTHER" }
    }

    /// Tells it in one line.
    pub(crate) fn tell(&self) {
        // The message may quote a file name or a server's words: it stays one line, and steers no terminal.
        warn(&format!("({}) {}", self.code, one_line(&self.message)));
    }

    /// Ends a command that has sent nothing. A mistake in the command line is told to the silent too, as curl does.
    pub(crate) fn refuse(&self, silent: bool) -> ExitCode {
        if !silent || self.code == USAGE {
            self.tell();
        }
        ExitCode::from(self.code)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let mut message = error.to_string();
        // Where the name of the error says little, its cause has to.
        let vague = matches!(
            error.error_type(),
            "_OTHER" | "connect_failed" | "tls_protocol_error" | "certificate_invalid" | "invalid_request"
        );
        if let (true, Some(cause)) = (vague, error.source()) {
            message.push_str(&format!(": {cause}"));
        }
        Self { code: code(error.phase(), error.error_type()), message, error_type: error.error_type() }
    }
}

/// Text of others: it ends no line and steers no terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\r' | '\n' | '\t') { line.push(' ') } else { push_visible(&mut line, c) }
    }
    line
}

/// One line of `-v` on stderr.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", one_line(text));
}

/// One line on stderr. That it can't be written is no failure of the requests.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "httptrace: {text}");
}

/// The code of a request that failed.
pub(crate) fn code(phase: Phase, error_type: &str) -> u8 {
    match error_type {
        "host_not_found" | "try_again" | "no_recovery" | "no_addresses" => 6,
        "proxy_auth_required" | "proxy_refused" => 7,
        "malformed_response" | "too_many_informational" => 8,
        "http2_protocol_error" | "http2_goaway" => 16,
        "body_incomplete" => 18,
        "request_body_failed" => READ,
        "timeout" => 28,
        "tls_protocol_error" | "tls_closed" => 35,
        "too_many_redirects" => 47,
        "connection_closed" => 52,
        "write_failed" => 55,
        "http2_stream_reset" => 92,
        "proxy_protocol_error" => 97,
        "head_too_large" => 100,
        "redirect_refused" => SCHEME,
        "invalid_request" => USAGE,
        "canceled" => INTERRUPTED,
        _ if error_type.starts_with("certificate_") => 60,
        // What can happen in several phases: a reset, and what has no name.
        _ => match phase {
            Phase::Dns => 6,
            Phase::GetConnection | Phase::Connect => 7,
            Phase::Tunnel => 97,
            Phase::Tls => 35,
            Phase::RequestWrite => 55,
            _ => 56,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_the_code_of_the_table() {
        for (phase, error_type, expected) in [
            (Phase::Dns, "host_not_found", 6),
            (Phase::Dns, "timeout", 28),
            (Phase::Connect, "connection_refused", 7),
            (Phase::Connect, "network_unreachable", 7),
            (Phase::Connect, "connection_reset", 7),
            (Phase::Connect, "timeout", 28),
            (Phase::Tls, "connection_reset", 35),
            (Phase::Tls, "tls_closed", 35),
            (Phase::Tls, "certificate_untrusted", 60),
            (Phase::Tls, "certificate_expired", 60),
            (Phase::RequestWrite, "connection_reset", 55),
            (Phase::RequestWrite, "write_failed", 55),
            (Phase::ResponseWait, "connection_closed", 52),
            (Phase::ResponseWait, "connection_reset", 56),
            (Phase::ResponseRead, "connection_reset", 56),
            (Phase::ResponseRead, "body_incomplete", 18),
            (Phase::ResponseRead, "malformed_response", 8),
            (Phase::ResponseRead, "head_too_large", 100),
            (Phase::ResponseWait, "http2_stream_reset", 92),
            (Phase::ResponseWait, "http2_goaway", 16),
            (Phase::ResponseRead, "http2_protocol_error", 16),
            (Phase::Request, "timeout", 28),
            (Phase::Request, "canceled", 130),
            (Phase::Request, "_OTHER", 56),
        ] {
            assert_eq!(code(phase, error_type), expected, "{phase} {error_type}");
        }
    }
}
