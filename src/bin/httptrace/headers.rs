//! `-H`, and the fields that are sent unless it says otherwise. In: texts. Out: a header map, or a refusal with code 2.
//!
//! The messages name a field but never quote its value: it may be a secret.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, USER_AGENT},
};

use crate::exit::{Failure, USAGE};

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

fn refuse(message: String) -> Failure {
    Failure::new(USAGE, message)
}

#[cfg(test)]
mod tests {
    use super::*;

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
