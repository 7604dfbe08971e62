//! Which header fields of requests and responses are kept in records: none, unless they are listed.
//!
//! In: the lists of the builder, and the header of a message. Out: the listed fields of it, without their secrets
//! ([`redact::field`]), so that records hold nothing else and every view is safe. A leaf.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::redact;

/// The lists of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capture {
    /// Of requests.
    pub(crate) request: Listed,
    /// Of responses.
    pub(crate) response: Listed,
}

/// Names of header fields. Without any it costs one look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed(Option<Arc<[HeaderName]>>);

impl Listed {
    pub(crate) fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self((!names.is_empty()).then(|| names.into()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The listed fields of this header, as they may be shown; `None` if it has none of them.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Option<Box<HeaderMap>> {
        let mut found: Option<Box<HeaderMap>> = None;
        for name in self.0.iter().flat_map(|names| names.iter()) {
            for value in headers.get_all(name) {
                found.get_or_insert_default().append(name.clone(), shown(name, value));
            }
        }
        found
    }
}

/// What may be shown of a value: nothing of one that its maker marked as sensitive.
fn shown(name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    if value.is_sensitive() {
        return HeaderValue::from_static("REDACTED");
    }
    let shown = redact::field(name.as_str(), value.as_bytes());
    if shown.as_bytes() == value.as_bytes() {
        return value.clone();
    }
    HeaderValue::try_from(shown).unwrap_or_else(|_| HeaderValue::from_static("REDACTED"))
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, AUTHORIZATION, COOKIE, ETAG, LOCATION, SET_COOKIE, VIA};

    use super::*;

    fn header() -> HeaderMap {
        let mut secret = HeaderValue::from_static("mine");
        secret.set_sensitive(true);
        HeaderMap::from_iter([
            (ACCEPT, HeaderValue::from_static("a/b")),
            (AUTHORIZATION, HeaderValue::from_static("Basic abc")),
            (VIA, HeaderValue::from_static("one")),
            (VIA, HeaderValue::from_static("two")),
            (ETAG, secret),
            (SET_COOKIE, HeaderValue::from_static("a=b")),
            (LOCATION, HeaderValue::from_static("https://u:p@a/?sig=abc#token")),
        ])
    }

    fn captured(names: &[HeaderName]) -> Vec<String> {
        let found = Listed::new(names.to_vec()).of(&header());
        let text = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}={}", value.to_str().expect("ASCII"));
        let mut all: Vec<_> = found.iter().flat_map(|found| found.iter()).map(text).collect();
        all.sort();
        all
    }

    #[test]
    fn only_what_is_listed_is_kept_with_all_its_values() {
        assert_eq!(captured(&[ACCEPT, VIA, ACCEPT]), ["accept=a/b", "via=one", "via=two"]);
        assert_eq!(captured(&[]), [""; 0]);
        assert!(Listed::new([COOKIE]).of(&header()).is_none(), "nothing is made for nothing");
        assert!(Listed::new([]).is_empty() && !Listed::new([COOKIE]).is_empty());
    }

    #[test]
    fn a_secret_is_not_kept_though_it_is_listed() {
        assert_eq!(
            captured(&[AUTHORIZATION, SET_COOKIE, ETAG, LOCATION]),
            [
                "authorization=REDACTED",
                "etag=REDACTED",
                "location=https://REDACTED:REDACTED@a/?sig=REDACTED",
                "set-cookie=REDACTED",
            ]
        );
    }
}
