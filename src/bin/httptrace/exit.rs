//! Exit codes: curl's, as the project's table gives them. In: a phase and an `error.type`, or a refusal of the command's
//! own. Out: the code, and the one line that names the problem.

use std::{error::Error as _, io::Write, process::ExitCode};

use httptrace::{Error, Phase, dial::ProxyRefusal};

use crate::visible::push_visible;

/// A scheme that is neither `http` nor `https`.
pub(crate) const SCHEME: u8 = 1;
/// The command line.
pub(crate) const USAGE: u8 = 2;
/// The name of a proxy is not resolved, or its URL is none.
pub(crate) const PROXY_NAME: u8 = 5;
/// The name of a host is not resolved.
const NAME: u8 = 6;
/// No connection.
pub(crate) const CONNECT: u8 = 7;
/// A malformed URL.
pub(crate) const URL: u8 = 3;
/// An error of an HTTP/2 connection.
const HTTP2: u8 = 16;
/// `-f`, and a status of 400 or above.
pub(crate) const STATUS: u8 = 22;
/// `-o`, or stdout, can't be written.
pub(crate) const WRITE: u8 = 23;
/// `@file` can't be read.
pub(crate) const READ: u8 = 26;
/// `--resolve` is malformed.
pub(crate) const RESOLVE: u8 = 49;
/// Receiving failed.
const RECEIVE: u8 = 56;
/// `--cert` and `--key` can't be used.
pub(crate) const CLIENT_CERTIFICATE: u8 = 58;
/// `--cacert` can't be used.
pub(crate) const CA_FILE: u8 = 77;
/// An error of an HTTP/2 stream.
const HTTP2_STREAM: u8 = 92;
/// A proxy does not speak as one.
const PROXY: u8 = 97;
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
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        if SAY_WHY.contains(&error.error_type()) && !cause.is_empty() {
            message.push_str(&format!(": {cause}"));
        }
        if let Some(fix) = fix(error.error_type(), &cause, error.is_proxy()) {
            message.push_str(&format!(" ({fix})"));
        }
        let code = if error.is_proxy() { code_of_proxy(error) } else { code_of(error) };
        Self { code, message, error_type: error.error_type() }
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

/// Where the name of the error says little, its cause has to.
const SAY_WHY: [&str; 9] = [
    "_OTHER",
    "connect_failed",
    "tls_protocol_error",
    "certificate_invalid",
    "certificate_name_mismatch",
    "invalid_request",
    "proxy_auth_required",
    "proxy_refused",
    "proxy_protocol_error",
];

/// The code of this error. A response that breaks the rules of HTTP/2 may end its stream alone, as a malformed head does
/// (RFC 9113 §8.1.1), or the connection: one type of error, and two codes.
fn code_of(error: &Error) -> u8 {
    let code = code(error.phase(), error.error_type());
    let mut cause = error.source();
    while let Some(source) = cause.filter(|_| code == HTTP2) {
        if source.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset) {
            return HTTP2_STREAM;
        }
        cause = source.source();
    }
    code
}

/// The code of a request that failed.
pub(crate) fn code(phase: Phase, error_type: &str) -> u8 {
    let of_type = CODES.iter().find(|row| row.types.contains(&error_type));
    let row = of_type.or_else(|| CODES.iter().find(|row| row.phases.contains(&phase)));
    row.map_or(RECEIVE, |row| row.code)
}

/// The code of a request that failed at its proxy: as that of a server, but for its name, and for SOCKS, whose refusals
/// have no code of their own.
fn code_of_proxy(error: &Error) -> u8 {
    let refusal = error.source().and_then(|source| source.downcast_ref::<ProxyRefusal>());
    let own = code(error.phase(), error.error_type());
    match refusal {
        Some(ProxyRefusal::SocksReply(_) | ProxyRefusal::SocksMethods | ProxyRefusal::SocksCredentials) => PROXY,
        Some(_) | None if own == NAME => PROXY_NAME,
        Some(_) | None => own,
    }
}

/// What can be done about a failure, where it is one thing.
fn fix(error_type: &str, cause: &str, of_proxy: bool) -> Option<&'static str> {
    Some(match error_type {
        "certificate_untrusted" if of_proxy => {
            "--proxy-cacert FILE trusts its authority, --proxy-insecure any certificate"
        }
        "certificate_expired" | "certificate_name_mismatch" if of_proxy => "--proxy-insecure accepts it all the same",
        "certificate_untrusted" => "--cacert FILE trusts its authority, -k any certificate",
        "certificate_expired" | "certificate_name_mismatch" => "-k accepts it all the same",
        "proxy_auth_required" if cause.contains("credentials") || cause.contains("407") => {
            "-U USER:PASSWORD gives others"
        }
        "tls_protocol_error" if cause.contains("InvalidContentType") => {
            if of_proxy {
                "the proxy does not speak TLS: try -x http://"
            } else {
                "the server does not speak TLS on this port: try http://"
            }
        }
        _ => return None,
    })
}

/// One code, and the failures that end in it.
struct Row {
    code: u8,
    /// As the README's table has it.
    #[cfg_attr(not(test), expect(dead_code, reason = "the README is held against it"))]
    when: &'static str,
    /// Values of `error.type` that have this code in whatever phase.
    types: &'static [&'static str],
    /// Where the type does not decide: the phases in which anything else has this code.
    phases: &'static [Phase],
}

const fn row(code: u8, when: &'static str, types: &'static [&'static str], phases: &'static [Phase]) -> Row {
    Row { code, when, types, phases }
}

// `no_addresses` is left to its phase: a name may have none of the wanted kind, and so may what needs no lookup.
const CANNOT_RESOLVE: &[&str] = &["host_not_found", "try_again", "no_recovery"];
const CANNOT_CONNECT: &[&str] = &[
    "connection_refused",
    "network_unreachable",
    "host_unreachable",
    "address_not_available",
    "permission_denied",
    "connect_failed",
    "proxy_refused",
    "proxy_auth_required",
];
const BAD_CERTIFICATE: &[&str] = &[
    "certificate_untrusted",
    "certificate_expired",
    "certificate_name_mismatch",
    "certificate_revoked",
    "certificate_invalid",
];
const RECEIVING: &[Phase] = &[Phase::ResponseWait, Phase::ResponseRead, Phase::Request];

/// Every code there is.
const CODES: &[Row] = &[
    row(0, "a whole response to every request, any status", &[], &[]),
    row(SCHEME, "scheme not supported, redirects included", &["redirect_refused"], &[]),
    row(USAGE, "command line", &["invalid_request"], &[]),
    row(URL, "malformed URL", &[], &[]),
    row(PROXY_NAME, "proxy's name not resolved, `-x` malformed", &[], &[]),
    row(NAME, "host's name not resolved", CANNOT_RESOLVE, &[Phase::Dns]),
    row(
        CONNECT,
        "no address connected; proxy refused CONNECT",
        CANNOT_CONNECT,
        &[Phase::GetConnection, Phase::Connect],
    ),
    row(8, "malformed head, too many 1xx", &["malformed_response", "too_many_informational"], &[]),
    row(HTTP2, "HTTP/2 connection error", &["http2_protocol_error", "http2_goaway"], &[]),
    row(18, "body ended early", &["body_incomplete"], &[]),
    row(22, "`-f` and a status of 400 or above", &[], &[]),
    row(WRITE, "cannot write `-o` or stdout", &[], &[]),
    row(READ, "cannot read `@file`", &["request_body_failed"], &[]),
    row(28, "any timeout", &["timeout"], &[]),
    row(35, "TLS handshake", &["tls_protocol_error", "tls_closed"], &[Phase::Tls]),
    row(47, "too many redirects", &["too_many_redirects"], &[]),
    row(RESOLVE, "`--resolve` malformed", &[], &[]),
    row(52, "closed before the first response byte", &["connection_closed"], &[]),
    row(55, "sending failed", &["write_failed"], &[Phase::RequestWrite]),
    row(RECEIVE, "receiving failed", &[], RECEIVING),
    row(CLIENT_CERTIFICATE, "client certificate unusable", &[], &[]),
    row(60, "certificate not accepted", BAD_CERTIFICATE, &[]),
    row(CA_FILE, "CA file unusable", &[], &[]),
    row(HTTP2_STREAM, "HTTP/2 stream error", &["http2_stream_reset"], &[]),
    row(PROXY, "SOCKS or proxy protocol", &["proxy_protocol_error"], &[Phase::Tunnel]),
    row(100, "response head too large", &["head_too_large"], &[]),
    row(INTERRUPTED, "interrupted", &["canceled"], &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The `error.type`s of the library, as its own list has them.
    fn types() -> Vec<&'static str> {
        let source = include_str!("../../error.rs");
        let list = source.split("\nkinds! {").nth(1).and_then(|list| list.split("\n}").next()).expect("the list");
        list.lines().filter_map(|line| line.split('"').nth(1)).collect()
    }

    #[test]
    fn every_type_is_in_one_row_or_left_to_the_phase() {
        assert!(types().len() > 30, "{:?}", types());
        for error_type in types() {
            let rows = CODES.iter().filter(|row| row.types.contains(&error_type)).count();
            let by_phase = ["connection_reset", "no_addresses", "_OTHER"].contains(&error_type);
            assert_eq!(rows, usize::from(!by_phase), "{error_type}");
        }
        let known = types();
        let unknown: Vec<_> = CODES.iter().flat_map(|row| row.types).filter(|it| !known.contains(it)).collect();
        assert!(unknown.is_empty(), "no such type: {unknown:?}");
        assert!(CODES.is_sorted_by_key(|row| row.code));
    }

    #[test]
    fn the_readme_has_this_table_and_no_other() {
        let readme = include_str!("../../../README.md");
        let table = readme.split("| code | when | code | when |\n").nth(1).expect("the table");
        let cells = table.lines().skip(1).take_while(|line| line.starts_with('|')).flat_map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            cells.chunks(2).map(<[_]>::to_vec).collect::<Vec<_>>()
        });
        let mut told: Vec<(u8, String)> = cells
            .filter(|pair| !pair[0].is_empty())
            .map(|pair| (pair[0].parse().expect("a code"), pair[1].to_owned()))
            .collect();
        told.sort();
        let ours: Vec<(u8, String)> = CODES.iter().map(|row| (row.code, row.when.to_owned())).collect();
        assert_eq!(told, ours);
    }

    #[test]
    fn a_failure_names_what_helps() {
        assert!(fix("certificate_untrusted", "", false).is_some_and(|fix| fix.starts_with("--cacert")));
        assert!(fix("certificate_untrusted", "", true).is_some_and(|fix| fix.contains("--proxy-cacert")));
        assert!(fix("tls_protocol_error", "received corrupt message of type InvalidContentType", false).is_some());
        assert!(fix("tls_protocol_error", "", false).is_none() && fix("timeout", "", false).is_none());
    }

    #[test]
    fn every_failure_has_the_code_of_the_table() {
        for (phase, error_type, expected) in [
            (Phase::Dns, "host_not_found", 6),
            (Phase::Dns, "timeout", 28),
            (Phase::Connect, "connection_refused", 7),
            (Phase::Connect, "network_unreachable", 7),
            (Phase::Connect, "connection_reset", 7),
            (Phase::Connect, "timeout", 28),
            (Phase::GetConnection, "timeout", 28),
            (Phase::Dns, "no_addresses", 6),
            (Phase::GetConnection, "no_addresses", 7),
            (Phase::Tunnel, "proxy_refused", 7),
            (Phase::Tunnel, "proxy_auth_required", 7),
            (Phase::Tunnel, "proxy_protocol_error", 97),
            (Phase::Tunnel, "timeout", 28),
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
