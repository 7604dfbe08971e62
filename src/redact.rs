//! What may be shown of what may be secret: a URL as `url.full` has it (semantic conventions for HTTP spans), a header field
//! without its secrets, and nothing of the rest.
//!
//! In: a URI, a query, any value. Out: a [`ShownUrl`], which can't be made in another way, so that records hold nothing
//! else and every view is safe; or a [`Hidden`] value, which is all there for who asks for it and says nothing by itself.

use std::{borrow::Cow, cell::RefCell, fmt, ops::Deref, sync::Arc};

use http::Uri;
use percent_encoding::percent_decode_str;

/// Query keys whose values are credentials, by the conventions 1.40 to 1.44. Compared by case.
const SENSITIVE_KEYS: [&str; 7] = [
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
];

/// What stands for a secret.
pub(crate) const REDACTED: &str = "REDACTED";

/// A URL without its secrets, as in the `url.full` attribute: a text like any other, in which credentials and the values of
/// sensitive query keys are `REDACTED`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShownUrl(Arc<str>);

impl ShownUrl {
    /// The text, for who has to keep it.
    #[must_use]
    pub fn into_shared(self) -> Arc<str> {
        self.0
    }

    #[cfg(feature = "otel")]
    pub(crate) fn as_shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl Deref for ShownUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for ShownUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A value that may be, or hold, a secret: `*value` is all of it, `Debug` shows nothing of it. There is no `Display`.
#[derive(Clone, Copy, Default)]
pub struct Hidden<T>(T);

impl<T> Hidden<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Hidden<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Which query keys are sensitive: the conventions' own, and those that the application adds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    more: Vec<String>,
}

impl Rules {
    /// Adds keys. An empty one means nothing.
    pub(crate) fn add(&mut self, keys: impl IntoIterator<Item = String>) {
        self.more.extend(keys.into_iter().filter(|key| !key.is_empty()));
    }

    /// The URL without its secrets.
    pub(crate) fn url(&self, uri: &Uri) -> ShownUrl {
        thread_local! {
            // Every record has a URL: it is put together here, and allocated once.
            static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
        }
        TEXT.with_borrow_mut(|text| {
            text.clear();
            self.write(uri, text);
            ShownUrl(Arc::from(text.as_str()))
        })
    }

    fn write(&self, uri: &Uri, url: &mut String) {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((_, host)) => ("REDACTED:REDACTED@", host),
            None => ("", authority),
        };
        for part in [uri.scheme_str().unwrap_or("http"), "://", credentials, host, uri.path()] {
            url.push_str(part);
        }
        if let Some(query) = uri.query() {
            url.push('?');
            url.push_str(&self.query(query));
        }
    }

    /// A query without its secrets.
    pub(crate) fn query<'a>(&self, query: &'a str) -> Cow<'a, str> {
        if !query.split('&').any(|pair| self.secret_from(pair).is_some()) {
            return Cow::Borrowed(query);
        }
        let mut shown = String::with_capacity(query.len());
        for (i, pair) in query.split('&').enumerate() {
            if i > 0 {
                shown.push('&');
            }
            match self.secret_from(pair) {
                Some(from) => {
                    shown.push_str(&pair[..from]);
                    shown.push_str(REDACTED);
                }
                None => shown.push_str(pair),
            }
        }
        Cow::Owned(shown)
    }

    /// Where a secret begins in what stands between two `&`. It goes to the end, since a value may hold a `;`, which to some
    /// servers ends a pair as well.
    fn secret_from(&self, pairs: &str) -> Option<usize> {
        let mut start = 0;
        for pair in pairs.split(';') {
            if let Some((key, _)) = pair.split_once('=')
                && self.is_sensitive(key)
            {
                return Some(start + key.len() + 1);
            }
            start += pair.len() + 1;
        }
        None
    }

    fn is_sensitive(&self, key: &str) -> bool {
        let listed = |key: &str| SENSITIVE_KEYS.contains(&key) || self.more.iter().any(|more| more == key);
        listed(key) || (key.contains(['%', '+']) && listed(&decoded(key)))
    }
}

// === header fields ===

/// What stands in the names of fields whose values are credentials, or bear them.
const SECRET: [&str; 14] = [
    "authoriz",
    "authentic",
    "-auth",
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

impl Rules {
    /// What of a header field's value may be shown. `name` is in lower case, as everywhere in `http`.
    pub(crate) fn field(&self, name: &str, value: &[u8]) -> String {
        // Not of HTTP/2's own, among which is `:authority`.
        if !name.starts_with(':') && SECRET.iter().any(|word| name.contains(word)) {
            return REDACTED.to_owned();
        }
        let value = String::from_utf8_lossy(value);
        if URLS.contains(&name) { self.shown_url(&value) } else { self.shown_text(&value) }
    }

    /// A text in which URLs may stand, as in `Link` and in JSON: each of them as it may be shown.
    fn shown_text(&self, text: &str) -> String {
        let ends = |c: char| matches!(c, '<' | '>' | '"') || c.is_whitespace();
        let pieces = text.split_inclusive(ends).map(|piece| {
            let url = piece.trim_end_matches(ends);
            let is_url = url.contains('?') || (url.contains("//") && url.contains(['@', '#']));
            if is_url { self.shown_url(url) + &piece[url.len()..] } else { piece.to_owned() }
        });
        pieces.collect()
    }

    /// A URL or a relative reference, as `url.full` would be: without a fragment, in which a token may be handed back.
    fn shown_url(&self, text: &str) -> String {
        let text = text.split('#').next().unwrap_or_default();
        match text.parse::<Uri>() {
            Ok(uri) if uri.scheme().is_some() => self.url(&uri).to_string(),
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
                query.map_or(text.clone(), |query| format!("{text}?{}", self.query(query)))
            }
        }
    }
}

/// A key as a server reads it (`application/x-www-form-urlencoded`).
fn decoded(key: &str) -> String {
    percent_decode_str(&key.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Hidden, Rules};

    #[test]
    fn credentials_and_signatures_are_not_shown() {
        for (given, shown) in [
            ("https://u:p@example.com/a?x=1", "https://REDACTED:REDACTED@example.com/a?x=1"),
            ("https://example.com:8443/?sig=abc&color=blue", "https://example.com:8443/?sig=REDACTED&color=blue"),
            ("https://example.com/?signature=a&SIG=b", "https://example.com/?signature=a&SIG=b"),
            ("http://[::1]:80/p", "http://[::1]:80/p"),
            // A server reads these keys as `sig`; what is encoded twice it does not.
            ("http://a/?%73ig=abc&s%69%67=abc", "http://a/?%73ig=REDACTED&s%69%67=REDACTED"),
            ("http://a/?%2573ig=abc", "http://a/?%2573ig=abc"),
            ("http://a/?sig&sig=&sig=a=b&&=c", "http://a/?sig&sig=REDACTED&sig=REDACTED&&=c"),
            // To some servers `;` ends a pair, to others it is part of the value.
            ("http://a/?sig=abc;def&x=1;sig=abc;y", "http://a/?sig=REDACTED&x=1;sig=REDACTED"),
            ("http://a/?x=1;y=2", "http://a/?x=1;y=2"),
            ("http://a/?%ff%s=1&x=%", "http://a/?%ff%s=1&x=%"),
        ] {
            assert_eq!(&*Rules::default().url(&given.parse().expect("a URI")), shown);
        }
    }

    #[test]
    fn the_application_adds_keys_of_its_own() {
        let mut rules = Rules::default();
        rules.add(["token", "pass word", ""].map(str::to_owned));
        for (given, shown) in [
            ("http://a/?token=abc&sig=abc&x=1", "http://a/?token=REDACTED&sig=REDACTED&x=1"),
            ("http://a/?%74oken=abc&Token=abc", "http://a/?%74oken=REDACTED&Token=abc"),
            ("http://a/?pass+word=a&pass%20word=a&=b", "http://a/?pass+word=REDACTED&pass%20word=REDACTED&=b"),
        ] {
            assert_eq!(&*rules.url(&given.parse().expect("a URI")), shown);
        }
    }

    #[test]
    fn secrets_in_header_fields_are_not_shown() {
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
            assert_eq!(Rules::default().field(name, value.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn what_is_hidden_is_there_and_not_shown() {
        let hidden = Hidden::new(b"abc".as_slice());
        assert_eq!((*hidden, &*format!("{hidden:?} {hidden:#?}")), (&b"abc"[..], "REDACTED REDACTED"));
    }
}
