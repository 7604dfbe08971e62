//! URLs as curl takes them. In: a text. Out: an absolute `http` or `https` URI, or the refusal with its exit code.
//!
//! The messages never quote the URL: it may hold a password.

use std::net::Ipv6Addr;

use http::{Uri, uri::Authority};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode, utf8_percent_encode};

use crate::exit::{Failure, SCHEME, URL};

/// What a person may type in a path and a request line can't carry. Bytes above ASCII are always encoded.
const UNSENDABLE: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'<').add(b'>').add(b'\\').add(b'^').add(b'`').add(b'{').add(b'|').add(b'}');

/// Reads one URL.
///
/// # Errors
///
/// Code 1 for another scheme, 3 for what is no URL.
pub(crate) fn parse(text: &str) -> Result<Uri, Failure> {
    if text.chars().any(|c| c.is_control() || c == ' ') {
        return Err(malformed("it holds a space or a control character"));
    }
    let (scheme, rest) = scheme(text)?;
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let authority = check_authority(authority)?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let path = utf8_percent_encode(path, UNSENDABLE);
    format!("{scheme}://{authority}{slash}{path}").parse().map_err(|_| malformed("it can't be sent"))
}

/// Where a redirect leads to (RFC 3986 §5.2). The credentials of the URL before stay as long as its origin does.
///
/// # Errors
///
/// As [`parse`].
pub(crate) fn join(base: &Uri, location: &[u8]) -> Result<Uri, Failure> {
    // Spaces are sent often enough: curl takes them, and so does this.
    let location = percent_encode(location, UNSENDABLE).to_string();
    let location = location.split('#').next().unwrap_or_default();
    let authority = base.authority().map_or("", Authority::as_str);
    let scheme = base.scheme_str().unwrap_or("http");
    let target = match location.split_once(':') {
        // Another scheme may have no slashes: it is refused all the same.
        Some((scheme, rest)) if is_scheme(scheme) && !rest.starts_with("//") => {
            return Err(Failure::new(SCHEME, format!("scheme '{scheme}' is not supported: http and https are")));
        }
        Some((scheme, _)) if is_scheme(scheme) => location.to_owned(),
        _ if location.starts_with("//") => format!("{scheme}:{location}"),
        _ => format!("{scheme}://{authority}{}", reference(base, location)),
    };
    let uri = parse(&without_dots(&target))?;
    let named = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    match authority.rsplit_once('@') {
        Some((credentials, _)) if !named && origin(base) == origin(&uri) => {
            let place = uri.authority().map_or("", Authority::as_str);
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            parse(&format!("{scheme}://{credentials}@{place}{path}"))
        }
        _ => Ok(uri),
    }
}

/// Path and query of a reference without an authority.
fn reference(base: &Uri, location: &str) -> String {
    match location.as_bytes().first() {
        None => base.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        Some(b'/') => location.to_owned(),
        Some(b'?') => format!("{}{location}", base.path()),
        Some(_) => format!("{}{location}", &base.path()[..base.path().rfind('/').map_or(0, |slash| slash + 1)]),
    }
}

/// The same URL with `.` and `..` taken out of its path (RFC 3986 §5.2.4).
fn without_dots(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let path = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    let query = url[path..].find('?').map_or(url.len(), |at| path + at);
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = url[path..query].split('/').collect();
    for (i, segment) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        match *segment {
            "." | ".." => {
                // The first one is what stands before the slash that begins the path.
                if *segment == ".." && kept.len() > 1 {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("{}{}{}", &url[..path], kept.join("/"), &url[query..])
}

/// Scheme, host and port: who gets what is sent there.
pub(crate) fn origin(uri: &Uri) -> (bool, String, u16) {
    let https = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    (https, host, uri.port_u16().unwrap_or(if https { 443 } else { 80 }))
}

/// The scheme, `http` if there is none, and what follows it.
fn scheme(text: &str) -> Result<(&'static str, &str), Failure> {
    let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return Ok(("http", text));
    };
    if scheme.eq_ignore_ascii_case("http") {
        Ok(("http", rest))
    } else if scheme.eq_ignore_ascii_case("https") {
        Ok(("https", rest))
    } else {
        Err(Failure::new(SCHEME, format!("scheme '{scheme}' is not supported: http and https are")))
    }
}

/// RFC 3986 §3.1.
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// Host and port checked, credentials fit to be part of a URI.
fn check_authority(authority: &str) -> Result<String, Failure> {
    let (credentials, place) = match authority.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, authority),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']').ok_or_else(|| malformed("a bracket is missing"))?;
            address.parse::<Ipv6Addr>().map_err(|_| malformed("the address in brackets is not IPv6"))?;
            (format!("[{address}]"), port)
        }
        None => {
            let (host, port) = place.split_at(place.find(':').unwrap_or(place.len()));
            check_host(host)?;
            (host.to_owned(), port)
        }
    };
    let credentials = credentials.map_or_else(String::new, |credentials| {
        let credentials = utf8_percent_encode(credentials, UNSENDABLE).to_string();
        format!("{}@", credentials.replace('@', "%40").replace(['[', ']'], "%5B"))
    });
    Ok(format!("{credentials}{host}{}", check_port(port)?))
}

fn check_host(host: &str) -> Result<(), Failure> {
    if host.is_empty() {
        return Err(malformed("it has no host"));
    }
    if !host.is_ascii() {
        return Err(malformed("write the host's name in its ASCII form (xn--)"));
    }
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        return Err(malformed("the host has a character that no name has"));
    }
    Ok(())
}

/// The port with its colon; nothing for an empty one.
fn check_port(port: &str) -> Result<&str, Failure> {
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok(""),
        Some("") => Ok(""),
        Some(digits)
            if digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(port)
        }
        _ => Err(malformed("the port is not a number from 1 to 65535")),
    }
}

fn malformed(why: &str) -> Failure {
    Failure::new(URL, format!("malformed URL: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_completed_as_curl_does() {
        for (given, sent) in [
            ("example.com", "http://example.com/"),
            ("localhost:8080/a?b=c#d", "http://localhost:8080/a?b=c"),
            ("HTTPS://Example.com?q", "https://Example.com/?q"),
            ("http://[::1]:80/p", "http://[::1]:80/p"),
            ("example.com:/", "http://example.com/"),
            ("http://a/ä<b>", "http://a/%C3%A4%3Cb%3E"),
            ("a.b/?u=ftp://c", "http://a.b/?u=ftp://c"),
            ("http://user:p%40ss@host/", "http://user:p%40ss@host/"),
            ("http://user:p@ss@host/", "http://user:p%40ss@host/"),
        ] {
            assert_eq!(parse(given).map(|uri| uri.to_string()).expect(given), sent);
        }
    }

    #[test]
    fn references_are_resolved_as_the_standard_does() {
        let base = parse("http://a/b/c/d;p?q").expect("a URL");
        // RFC 3986 §5.4, what of it has a host; fragments are not sent.
        for (reference, url) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            (";x", "http://a/b/c/;x"),
            ("g;x?y#s", "http://a/b/c/g;x?y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("g/./h", "http://a/b/c/g/h"),
            ("g/../h", "http://a/b/c/h"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("g h", "http://a/b/c/g%20h"),
            ("g?u=http://x", "http://a/b/c/g?u=http://x"),
            ("HTTPS://B/x", "https://B/x"),
        ] {
            assert_eq!(
                join(&base, reference.as_bytes()).map(|uri| uri.to_string()).expect(reference),
                url,
                "{reference}"
            );
        }
        for (reference, code) in
            [("mailto:a", SCHEME), ("javascript:alert(1)", SCHEME), ("gopher://a", SCHEME), ("//:1/", URL)]
        {
            assert_eq!(join(&base, reference.as_bytes()).expect_err(reference).code, code, "{reference}");
        }
    }

    #[test]
    fn another_scheme_and_a_malformed_url_are_told_apart() {
        for (given, code) in [
            ("ftp://a/", 1),
            ("file:///etc/passwd", 1),
            ("h2://a", 1),
            ("", 3),
            ("http://", 3),
            ("http:///path", 3),
            ("http://:80/", 3),
            ("http://a:99999/", 3),
            ("http://a:0/", 3),
            ("http://a:b/", 3),
            ("http://a:1:2/", 3),
            ("http://a b/", 3),
            ("http://a/\n", 3),
            ("http://[::1/", 3),
            ("http://[host]/", 3),
            ("http://a\\b/", 3),
            ("http://user:secret@/", 3),
            ("mailto:a", 3),
            ("://a", 3),
        ] {
            let failure = parse(given).expect_err(given);
            assert_eq!(failure.code, code, "{given}: {}", failure.message);
            assert!(!failure.message.contains("secret"));
        }
    }
}
