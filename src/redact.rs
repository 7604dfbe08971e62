//! What of a URL may be shown: the value of `url.full` (semantic conventions for HTTP spans).
//!
//! Credentials become `REDACTED:REDACTED@`; the values of query keys that carry signatures become `REDACTED`. A leaf, so
//! that records hold nothing else and every view is safe.

use std::{borrow::Cow, cell::RefCell, sync::Arc};

use http::Uri;

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

/// The URL without its secrets.
pub(crate) fn url(uri: &Uri) -> Arc<str> {
    thread_local! {
        // Every record has a URL: it is put together here, and allocated once.
        static TEXT: RefCell<String> = const { RefCell::new(String::new()) };
    }
    TEXT.with_borrow_mut(|text| {
        text.clear();
        write(uri, text);
        Arc::from(text.as_str())
    })
}

fn write(uri: &Uri, url: &mut String) {
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
        url.push_str(&self::query(query));
    }
}

/// A query without its secrets.
pub(crate) fn query(query: &str) -> Cow<'_, str> {
    let is_sensitive = |pair: &str| SENSITIVE_KEYS.iter().any(|key| pair.split('=').next() == Some(key));
    if !query.split('&').any(is_sensitive) {
        return Cow::Borrowed(query);
    }
    let pairs: Vec<_> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((key, _)) if is_sensitive(pair) => Cow::Owned(format!("{key}=REDACTED")),
            _ => Cow::Borrowed(pair),
        })
        .collect();
    Cow::Owned(pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn credentials_and_signatures_are_not_shown() {
        for (given, shown) in [
            ("https://u:p@example.com/a?x=1", "https://REDACTED:REDACTED@example.com/a?x=1"),
            ("https://example.com:8443/?sig=abc&color=blue", "https://example.com:8443/?sig=REDACTED&color=blue"),
            ("https://example.com/?signature=a&SIG=b", "https://example.com/?signature=a&SIG=b"),
            ("http://[::1]:80/p", "http://[::1]:80/p"),
        ] {
            assert_eq!(&*url(&given.parse().expect("a URI")), shown);
        }
    }
}
