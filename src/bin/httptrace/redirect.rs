//! Where a response leads to, by the rules of RFC 9110 §15.4 and the care that credentials need.
//!
//! In: the request that was sent, and the head of its response. Out: the next request, nothing, or why it can't be
//! followed. tower-http's layer is not used: it keeps no URL credentials, follows any scheme, and knows neither hops nor
//! one time limit for them all.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, Method, StatusCode, Uri,
    header::{
        AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, COOKIE,
        EXPECT, HOST, LOCATION, PROXY_AUTHORIZATION,
    },
};
use httptrace::Error;

use crate::{exit::Failure, url};

/// A request as it is sent in one hop.
#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

/// Why a redirect is not followed.
#[derive(Debug)]
pub(crate) struct Refused {
    /// For the record.
    pub(crate) error: Error,
    /// For the command.
    pub(crate) failure: Failure,
}

/// What would be secret from another server.
const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
/// What describes a body.
const ABOUT_BODY: [HeaderName; 6] =
    [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, EXPECT];

impl Hop {
    /// The request that follows, if the response asks for one. `left`: whether one more may follow.
    ///
    /// # Errors
    ///
    /// The limit is reached, or the place is none to go to.
    pub(crate) fn next(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        left: bool,
    ) -> Result<Option<Self>, Box<Refused>> {
        let Some(location) = location(status, headers) else { return Ok(None) };
        if !left {
            let error = Error::too_many_redirects();
            return Err(Box::new(Refused { failure: Failure::from(&error), error }));
        }
        let uri = url::join(&self.uri, location).map_err(|why| {
            let error = Error::redirect_refused(why.message.clone());
            let failure =
                Failure { code: why.code, message: format!("{error}: {}", why.message), ..Failure::from(&error) };
            Box::new(Refused { error, failure })
        })?;
        Ok(Some(self.to(status, uri)))
    }

    fn to(&self, status: StatusCode, uri: Uri) -> Self {
        let mut next = Self { uri, ..self.clone() };
        let to_get = match status {
            StatusCode::SEE_OTHER => self.method != Method::HEAD,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            _ => false,
        };
        if to_get {
            (next.method, next.body) = (Method::GET, None);
            ABOUT_BODY.iter().for_each(|name| drop(next.headers.remove(name)));
        }
        if url::origin(&self.uri) != url::origin(&next.uri) {
            CREDENTIALS.iter().for_each(|name| drop(next.headers.remove(name)));
            // The user's own Host was for the first server.
            next.headers.remove(HOST);
        }
        next
    }
}

/// A redirect's target. An empty one is none, as in curl.
fn location(status: StatusCode, headers: &HeaderMap) -> Option<&[u8]> {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
        .then(|| headers.get(LOCATION))
        .flatten()
        .map(|value| value.as_bytes())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn hop(method: Method) -> Hop {
        let mut headers = HeaderMap::new();
        for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName::from_static("x-a")] {
            headers.insert(name, HeaderValue::from_static("v"));
        }
        Hop { method, uri: Uri::from_static("http://u:p@a.test/x/y?q"), headers, body: Some(Bytes::from_static(b"b")) }
    }

    fn next(from: &Hop, status: u16, location: &'static str) -> Result<Option<Hop>, Box<Refused>> {
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
        from.next(StatusCode::from_u16(status).expect("a status"), &headers, true)
    }

    #[test]
    fn methods_and_bodies_change_as_the_status_says() {
        for (status, method, becomes, body) in [
            (301, "POST", "GET", false),
            (302, "POST", "GET", false),
            (303, "POST", "GET", false),
            (303, "PUT", "GET", false),
            (303, "HEAD", "HEAD", true),
            (301, "PUT", "PUT", true),
            (302, "HEAD", "HEAD", true),
            (307, "POST", "POST", true),
            (308, "POST", "POST", true),
        ] {
            let from = hop(method.parse().expect("a method"));
            let to = next(&from, status, "/z").expect("followed").expect("a redirect");
            assert_eq!((to.method.as_str(), to.body.is_some()), (becomes, body), "{status} {method}");
            assert_eq!(to.headers.contains_key(CONTENT_TYPE), body);
        }
        for (status, location) in [(300, "/z"), (304, "/z"), (200, "/z"), (302, "")] {
            assert!(next(&hop(Method::GET), status, location).expect("no redirect").is_none(), "{status}");
        }
    }

    #[test]
    fn credentials_stay_with_their_origin() {
        for (location, kept) in [
            ("/z", true),
            ("z", true),
            ("http://A.TEST:80/z", true),
            ("//a.test/z", true),
            ("https://a.test/z", false),
            ("http://a.test:81/z", false),
            ("http://b.test/z", false),
            ("//sub.a.test/", false),
        ] {
            let to = next(&hop(Method::GET), 302, location).expect("followed").expect("a redirect");
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, HOST] {
                assert_eq!(to.headers.contains_key(&name), kept, "{location} {name}");
            }
            assert_eq!(to.uri.to_string().contains("u:p@"), kept, "{location}: {}", to.uri);
            assert!(to.headers.contains_key("x-a"));
        }
    }

    #[test]
    fn what_cannot_be_followed_has_curls_code() {
        for (location, code) in
            [("ftp://b/", 1), ("file:///etc/passwd", 1), ("http://", 3), ("http://b:x/", 3), ("//", 3)]
        {
            let refused = next(&hop(Method::GET), 302, location).err().expect(location);
            assert_eq!((refused.failure.code, refused.error.error_type()), (code, "redirect_refused"), "{location}");
        }
        let headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("/"))]);
        let refused = hop(Method::GET).next(StatusCode::FOUND, &headers, false).err().expect("the limit");
        assert_eq!((refused.failure.code, refused.error.error_type()), (47, "too_many_redirects"));
    }
}
