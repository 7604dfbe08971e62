//! What of a URL may be shown, which is the value of `url.full` (semantic conventions for HTTP spans), and what of a header
//! field.
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

// === header fields ===

/// Fields whose values are credentials, or bear them.
const SECRET: [&str; 16] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "www-authenticate",
    "proxy-authenticate",
    "authentication-info",
    "proxy-authentication-info",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-xsrf-token",
    "x-vault-token",
    "x-amz-security-token",
];
/// Fields whose values are URLs or parts of them, or end with one.
const URLS: [&str; 5] = [":path", "location", "content-location", "referer", "refresh"];

/// What of a field's value may be shown. `name` is in lower case, as everywhere in `http`.
pub(crate) fn field(name: &str, value: &[u8]) -> String {
    if SECRET.contains(&name) {
        return "REDACTED".to_owned();
    }
    let value = String::from_utf8_lossy(value);
    if URLS.contains(&name) { shown_url(&value) } else { value.into_owned() }
}

/// A URL or a relative reference, as `url.full` would be: without a fragment, in which a token may be handed back.
fn shown_url(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    match text.parse::<Uri>() {
        Ok(uri) if uri.scheme().is_some() => url(&uri).to_string(),
        _ => {
            let (text, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
            // `//user:password@host`, and what is no URL at all, may have credentials too.
            let text = match text.rsplit_once('@') {
                Some((before, host)) if before.contains("//") || !before.contains('/') => {
                    format!("//REDACTED:REDACTED@{host}")
                }
                _ => text.to_owned(),
            };
            query.map_or(text.clone(), |query| format!("{text}?{}", self::query(query)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{field, url};

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

    #[test]
    fn secrets_in_header_fields_are_not_shown() {
        for (name, value, expected) in [
            ("authorization", "Basic abc", "REDACTED"),
            ("set-cookie", "a=b", "REDACTED"),
            ("proxy-authorization", "Basic abc", "REDACTED"),
            ("cookie", "a=b", "REDACTED"),
            ("accept", "*/*", "*/*"),
            (":path", "/a?sig=abc&x=1", "/a?sig=REDACTED&x=1"),
            ("location", "https://u:p@a/?sig=abc", "https://REDACTED:REDACTED@a/?sig=REDACTED"),
            ("location", "//u:p@a/b", "//REDACTED:REDACTED@a/b"),
            ("location", "http:u:p@a/b", "//REDACTED:REDACTED@a/b"),
            ("location", "/users/@me?a=1", "/users/@me?a=1"),
            ("location", "/back?state=1#access_token=abc", "/back?state=1"),
            ("location", "https://a/b#access_token=abc", "https://a/b"),
            ("refresh", "0; url=https://u:p@a/b?sig=abc", "//REDACTED:REDACTED@a/b?sig=REDACTED"),
            ("refresh", "5", "5"),
            ("x-api-key", "abc", "REDACTED"),
            ("location", "b", "b"),
        ] {
            assert_eq!(field(name, value.as_bytes()), expected, "{name}");
        }
    }
}
