//! The request's head as it is sent: the protocol's form of the target, and all framing fields.

use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::{AUTHORIZATION, CONTENT_LENGTH, Entry, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING},
    request::Parts,
};

use crate::{
    connection::{Protocol, ProxyInfo},
    error::{Error, Kind, Why},
    exchange::{Payload, Shared},
    phase::Phase,
    pool::PoolKey,
};

/// What was given for a URL, and is none.
pub(super) fn unreadable(error: &http::Error) -> Error {
    let why = format!(
        "the URL can't be read ({error}): give it whole, from the scheme on, what is not ASCII \
         percent-encoded, and international names in their xn-- form"
    );
    Error::with(Kind::InvalidRequest, Phase::Request, Why::new(why))
}

/// The head in the protocol's form. All framing fields are set here, so that hyper adds none and the hooks tell all.
pub(super) fn prepare(head: &mut Parts, payload: &Payload, key: &PoolKey, conn: &Shared) {
    let protocol = conn.info.protocol;
    if key.has_userinfo()
        && let Some(authorization) = credentials(head)
    {
        head.headers.insert(AUTHORIZATION, authorization);
    }
    let size = payload.size_hint().exact();
    let expects_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    match size {
        Some(0) if !expects_body => {}
        Some(size) if !head.headers.contains_key(CONTENT_LENGTH) => {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
        }
        None if protocol == Protocol::Http1 && !head.headers.contains_key(CONTENT_LENGTH) => {
            head.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        Some(_) | None => {}
    }
    match protocol {
        Protocol::Http1 => {
            head.version = Version::HTTP_11;
            if let Entry::Vacant(place) = head.headers.entry(HOST)
                && let Some(host) = conn.host(key.host_field())
            {
                place.insert(host);
            }
            let forwarding = conn.info.proxy.as_deref().filter(|proxy| proxy.forwards);
            if let Some(proxy) = forwarding {
                name_self(&mut head.headers, proxy);
            }
            if head.method == Method::CONNECT {
                // The authority form, always with a port (RFC 9112 §3.2.3).
                if let Ok(target) = Uri::try_from(format!("{}:{}", key.bracketed_host(), key.port)) {
                    head.uri = target;
                }
            } else if forwarding.is_some() || conn.info.forwards {
                head.uri = whole(&head.uri, key);
            } else {
                // Of its parts, not parsed again: this is on every request's way.
                let path = head.uri.path_and_query().filter(|path| !path.as_str().is_empty());
                head.uri = path.map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
            }
        }
        Protocol::Http2 => {
            head.version = Version::HTTP_2;
            for name in [HOST, TRANSFER_ENCODING] {
                // A look at each name costs less than a hash, where there are few.
                if head.headers.keys().any(|field| *field == name) {
                    head.headers.remove(name);
                }
            }
            let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
            if key.has_userinfo() || path.is_empty() {
                head.uri = whole(&head.uri, key);
            }
        }
    }
}

/// The absolute form (RFC 9112 §3.2.2), without credentials.
fn whole(uri: &Uri, key: &PoolKey) -> Uri {
    let path = uri.path_and_query().map(|path| path.as_str()).filter(|path| !path.is_empty()).unwrap_or("/");
    let whole = Uri::builder().scheme(key.scheme()).authority(key.host_field()).path_and_query(path).build();
    whole.unwrap_or_else(|_| uri.clone())
}

/// Who asks, for a proxy that passes the request on; it does not tell the server.
fn name_self(headers: &mut HeaderMap, proxy: &ProxyInfo) {
    if let (Some(authorization), Entry::Vacant(place)) = (&*proxy.authorization, headers.entry(PROXY_AUTHORIZATION)) {
        place.insert(authorization.clone());
    }
}

/// HTTP/2: no `traceparent` ever comes again, so it is written without a place in the header table (RFC 7541 §6.2.3). It
/// would be compared with all those before it, and drive out what does come again.
pub(super) fn keep_out_of_table(headers: &mut HeaderMap) {
    for (name, value) in headers {
        if name == "traceparent" {
            value.set_sensitive(true);
        }
    }
}

/// The URL's credentials as Basic authorization (RFC 7617), unless the request has its own.
fn credentials(head: &Parts) -> Option<HeaderValue> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use percent_encoding::percent_decode_str;

    let (userinfo, _) = head.uri.authority()?.as_str().rsplit_once('@')?;
    if head.headers.contains_key(AUTHORIZATION) {
        return None;
    }
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let mut plain: Vec<u8> = percent_decode_str(user).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(plain))).ok()?;
    value.set_sensitive(true);
    Some(value)
}
