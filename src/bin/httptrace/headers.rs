//! `-H`, the fields that are sent unless it says otherwise, and what of fields may be shown. In: texts. Out: a header map,
//! or a refusal with code 2; a value without its secrets.
//!
//! The messages name a field but never quote its value: it may be a secret.

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, USER_AGENT},
};

use crate::{
    exit::{Failure, USAGE},
    redact::{REDACTED, Rules},
};

/// The request's header: the user's fields, and the default ones that they neither replace nor remove. `agent` is `-A`; `body` is the
/// length of the request's body, if it has one.
///
/// # Errors
///
/// Code 2 for a field that can't be sent.
pub(crate) fn header_map(given: &[String], agent: Option<&str>, body: Option<usize>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let mut removed = Vec::new();
    for (i, text) in given.iter().enumerate() {
        match field(text, i + 1)? {
            (name, Some(value)) => {
                check_framing(&name, &value, body)?;
                headers.append(name, value);
            }
            (name, None) if name == HOST || name == CONTENT_LENGTH => {
                return Err(refuse(format!("header '{name}' can't be removed: no request is valid without it")));
            }
            (name, None) => removed.push(name),
        }
    }
    let agent = agent.unwrap_or(concat!("httptrace/", env!("CARGO_PKG_VERSION")));
    let agent = Some((USER_AGENT, agent)).filter(|_| !agent.is_empty());
    let form = body.map(|_| (CONTENT_TYPE, "application/x-www-form-urlencoded"));
    for (name, value) in agent.into_iter().chain([(ACCEPT, "*/*")]).chain(form) {
        if !headers.contains_key(&name) && !removed.contains(&name) {
            let value = HeaderValue::from_str(value)
                .map_err(|_| refuse("option -A has a control character in its value".to_owned()))?;
            headers.insert(name, value);
        }
    }
    Ok(headers)
}

/// `Name: value`, `Name:` (remove: no value), `Name;` (an empty value).
fn field(text: &str, number: usize) -> Result<(HeaderName, Option<HeaderValue>), Failure> {
    let (name, value) = match (text.split_once(':'), text.strip_suffix(';')) {
        (Some((name, value)), _) => (name, Some(value.trim_matches([' ', '\t'])).filter(|value| !value.is_empty())),
        (None, Some(name)) => (name, Some("")),
        (None, None) => return Err(refuse(format!("header {number} has no colon: write 'Name: value'"))),
    };
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        let problem = if name.chars().any(char::is_control) { "a control character" } else { "a forbidden character" };
        refuse(format!("header {number} has {problem} in its name"))
    })?;
    let value = match value {
        None => None,
        Some(value) => match HeaderValue::from_bytes(value.as_bytes()) {
            Ok(value) => Some(value),
            Err(_) => return Err(refuse(format!("header '{name}' has a control character in its value"))),
        },
    };
    Ok((name, value))
}

/// The client frames messages itself. A field that says otherwise would make them ambiguous (RFC 9112 §6.1).
fn check_framing(name: &HeaderName, value: &HeaderValue, body: Option<usize>) -> Result<(), Failure> {
    if name == TRANSFER_ENCODING {
        return Err(refuse(format!("header '{name}' can't be given: the client frames the body itself")));
    }
    let length = body.unwrap_or_default().to_string();
    if name == CONTENT_LENGTH && value.as_bytes() != length.as_bytes() {
        return Err(refuse(format!("header '{name}' is not the length of the body, which is {length}")));
    }
    Ok(())
}

/// What stands in the names of fields whose values are credentials, or bear them.
const SECRET: [&str; 12] = [
    "auth", // authorization, www-authenticate, x-auth-token, …
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "session",
    "signature",
    "api-key",
    "apikey",
    "access-key",
];
/// Fields whose whole value is a URL or a part of one, or ends with one.
const URLS: [&str; 5] = [":path", "location", "content-location", "referer", "refresh"];

/// What of a field's value may be shown. `name` is in lower case, as everywhere in `http`.
pub(crate) fn shown(name: &str, value: &[u8]) -> String {
    // Not of HTTP/2's own, among which is `:authority`.
    if !name.starts_with(':') && SECRET.iter().any(|word| name.contains(word)) {
        return REDACTED.to_owned();
    }
    let value = String::from_utf8_lossy(value);
    if URLS.contains(&name) { shown_url(&value) } else { shown_text(&value) }
}

/// A text in which URLs may stand, as in `Link` and in JSON: each of them as it may be shown.
fn shown_text(text: &str) -> String {
    let ends = |c: char| matches!(c, '<' | '>' | '"') || c.is_whitespace();
    let pieces = text.split_inclusive(ends).map(|piece| {
        let url = piece.trim_end_matches(ends);
        let is_url = url.contains('?') || (url.contains("//") && url.contains(['@', '#']));
        if is_url { shown_url(url) + &piece[url.len()..] } else { piece.to_owned() }
    });
    pieces.collect()
}

/// A URL or a relative reference, as `url.full` would be: without a fragment, in which a token may be handed back.
fn shown_url(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    match text.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() => Rules::default().url(&uri).to_string(),
        _ => {
            let (text, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
            // `//user:password@host`, and what is no URL at all, may have credentials too.
            let text = match text.rsplit_once('@') {
                Some((before, host)) if before.contains("//") || !before.contains('/') => {
                    let start = before.split_once("//").map_or("", |(start, _)| start);
                    let start = if start.contains('@') { "" } else { start };
                    format!("{start}//REDACTED:REDACTED@{host}")
                }
                _ => text.to_owned(),
            };
            query.map_or(text.clone(), |query| format!("{text}?{}", Rules::default().query(query)))
        }
    }
}

fn refuse(message: String) -> Failure {
    Failure::new(USAGE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_values_are_not_shown() {
        for (name, value, expected) in [
            ("authorization", "Basic abc", "REDACTED"),
            ("set-cookie", "a=b", "REDACTED"),
            ("accept", "*/*", "*/*"),
            (":path", "/a?sig=abc&x=1", "/a?sig=REDACTED&x=1"),
            ("location", "https://u:p@a/?sig=abc", "https://REDACTED:REDACTED@a/?sig=REDACTED"),
            ("location", "//u:p@a/b", "//REDACTED:REDACTED@a/b"),
            ("location", "http:u:p@a/b", "//REDACTED:REDACTED@a/b"),
            ("location", "/users/@me?a=1", "/users/@me?a=1"),
            ("location", "/back?state=1#access_token=abc", "/back?state=1"),
            ("location", "https://a/b#access_token=abc", "https://a/b"),
            ("refresh", "0; url=https://u:p@a/b?sig=abc", "0; url=https://REDACTED:REDACTED@a/b?sig=REDACTED"),
            ("refresh", "5", "5"),
            ("x-api-key", "abc", "REDACTED"),
            ("x-session-id", "abc", "REDACTED"),
            ("x-csrf-token", "abc", "REDACTED"),
            (":authority", "a.test", "a.test"),
            ("idempotency-key", "1", "1"),
            (
                "link",
                "<https://u:p@a/?%73ig=abc#t>; rel=\"next\", </b?sig=abc>; rel=\"https://u:p@a/rel\", <c>; title=\"d @ e\"",
                "<https://REDACTED:REDACTED@a/?%73ig=REDACTED>; rel=\"next\", </b?sig=REDACTED>; \
                 rel=\"https://REDACTED:REDACTED@a/rel\", <c>; title=\"d @ e\"",
            ),
            (
                "report-to",
                r#"{"url":"https://u:p@a/?sig=abc","n":1}"#,
                r#"{"url":"https://REDACTED:REDACTED@a/?sig=REDACTED","n":1}"#,
            ),
            ("user-agent", "a/1 (+http://u:p@a/)", "a/1 (+http://REDACTED:REDACTED@a/)"),
            ("date", "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:00 GMT"),
            ("location", "b", "b"),
        ] {
            assert_eq!(shown(name, value.as_bytes()), expected, "{name}");
        }
    }

    fn sent(given: &[&str], body: Option<usize>) -> Result<Vec<String>, Failure> {
        let given: Vec<String> = given.iter().map(ToString::to_string).collect();
        let headers = header_map(&given, None, body)?;
        Ok(headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("text"))).collect())
    }

    #[test]
    fn defaults_give_way_to_the_users_fields() {
        let agent = concat!("user-agent=httptrace/", env!("CARGO_PKG_VERSION"));
        assert_eq!(sent(&[], None).expect("valid"), [agent, "accept=*/*"]);
        let form = "content-type=application/x-www-form-urlencoded";
        assert_eq!(sent(&[], Some(3)).expect("valid"), [agent, "accept=*/*", form]);
        let given = ["User-Agent:", "accept: text/plain", "Content-Type;", "X-A: 1", "x-a:2 "];
        assert_eq!(sent(&given, Some(3)).expect("valid"), ["accept=text/plain", "content-type=", "x-a=1", "x-a=2"]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_its_value() {
        for given in [
            "X-A: secret\u{7}",
            "X-A: secret\r\nX-B: 1",
            "X A: secret",
            "X-\u{1}: secret",
            "secret",
            ": secret",
            "Host:",
            "Content-Length: 9",
            "Transfer-Encoding: chunked",
        ] {
            let failure = sent(&[given], None).expect_err(given);
            assert_eq!(failure.code, 2);
            assert!(!failure.message.contains("secret"), "{}", failure.message);
        }
    }
}
