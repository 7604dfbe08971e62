//! Which header fields of requests and responses are kept in records: none, unless they are listed.
//!
//! In: the lists of the builder, and the header of a message. Out: the listed fields of it, without their secrets
//! ([`Rules::field`]), so that records hold nothing else and every view is safe. A leaf.

use std::{fmt, ops::Deref, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::redact::{REDACTED, Rules};

/// Header fields without their secrets, as a client captures them: a header like any other, to read.
#[derive(Clone, Default)]
pub struct ShownHeaders(HeaderMap);

impl Deref for ShownHeaders {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        &self.0
    }
}

impl fmt::Debug for ShownHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The lists of a client.
#[derive(Debug, Clone, Default)]
pub(crate) struct Capture {
    /// Of requests.
    pub(crate) request: Listed,
    /// Of responses.
    pub(crate) response: Listed,
}

impl Capture {
    /// The same lists, with these rules for what may be shown of a URL in a field.
    pub(crate) fn by(self, rules: &Rules) -> Self {
        Self { request: self.request.by(rules), response: self.response.by(rules) }
    }
}

/// Names of header fields. Without any it costs one look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed(Option<Arc<(Vec<HeaderName>, Rules)>>);

impl Listed {
    pub(crate) fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        Self((!names.is_empty()).then(|| Arc::new((names, Rules::default()))))
    }

    fn by(self, rules: &Rules) -> Self {
        Self(self.0.map(|listed| Arc::new((listed.0.clone(), rules.clone()))))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The listed fields of this header, as they may be shown; `None` if it has none of them.
    pub(crate) fn of(&self, headers: &HeaderMap) -> Option<Box<ShownHeaders>> {
        let (names, rules) = &**self.0.as_ref()?;
        let mut found: Option<Box<ShownHeaders>> = None;
        for name in names {
            for value in headers.get_all(name) {
                found.get_or_insert_default().0.append(name.clone(), shown(rules, name, value));
            }
        }
        found
    }
}

/// What may be shown of a value: nothing of one that its maker marked as sensitive.
fn shown(rules: &Rules, name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    if value.is_sensitive() {
        return HeaderValue::from_static(REDACTED);
    }
    let shown = rules.field(name.as_str(), value.as_bytes());
    if shown.as_bytes() == value.as_bytes() {
        return value.clone();
    }
    HeaderValue::try_from(shown).unwrap_or_else(|_| HeaderValue::from_static(REDACTED))
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
