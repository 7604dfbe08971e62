//! Options for how much is told of a request: which fields of headers, and which spans.
//!
//! In: lists of names, a level of detail. Out: the settings that [`super`] gives to the client and to its reporters.

use http::HeaderName;

use super::ClientBuilder;
use crate::capture::Listed;
#[cfg(feature = "otel")]
use crate::views::spans::SpanDetail;

/// How much is told of a request.
impl ClientBuilder {
    /// Which fields of a request's header are recorded: in
    /// [`Timeline::request_headers`](crate::Timeline::request_headers), and as `http.request.header.<name>` on its CLIENT span,
    /// a list of texts. As they are sent, framing fields included; for an
    /// attempt that gets no connection, as the application and the propagators set them. Replaces the list of a call before.
    ///
    /// A secret is `REDACTED` even if it is listed: the values of `authorization`, `proxy-authorization`, `cookie`,
    /// `set-cookie`, of challenges and of the usual fields for keys and tokens (`x-api-key`, …), any value that is marked as
    /// [sensitive](http::HeaderValue::set_sensitive), and credentials and signatures in URLs (`location`, `referer`).
    ///
    /// Default: none, as the semantic conventions ask, since who lists a field has thought of what is in it.
    ///
    /// ```
    /// use http::{HeaderName, header};
    ///
    /// let builder = httptrace::Client::builder()
    ///     .capture_request_headers([header::CONTENT_TYPE, HeaderName::from_static("x-request-id")])
    ///     .capture_response_headers([header::CACHE_CONTROL, header::AGE]);
    /// # drop(builder);
    /// ```
    pub fn capture_request_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.capture.request = Listed::new(names);
        self
    }

    /// Which fields of a response's header are recorded: in
    /// [`Timeline::response_headers`](crate::Timeline::response_headers) and
    /// [`ResponseDoneInfo::headers`](crate::hooks::ResponseDoneInfo::headers), and as `http.response.header.<name>` on the
    /// CLIENT span. Not those of interim responses, and no trailers. Secrets are `REDACTED`, as with
    /// [`capture_request_headers`](Self::capture_request_headers). Default: none, as there.
    pub fn capture_response_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.capture.response = Listed::new(names);
        self
    }
}

/// How much of it is shown.
#[cfg(feature = "otel")]
impl ClientBuilder {
    /// How much of an attempt is shown beside its CLIENT span: child spans always, or only where they tell something, or its
    /// phases as attributes, or nothing. Wins over that of [`spans`](Self::spans). Default [`SpanDetail::Spans`]: the
    /// waterfall is what this client is for, and which attempts are worth it is known by the application alone.
    ///
    /// ```
    /// use std::time::Duration;
    /// use httptrace::views::spans::{SpanCases, SpanDetail};
    ///
    /// let cases = SpanCases::default().slower_than(Duration::from_millis(500)).failed().new_connection();
    /// let builder = httptrace::Client::builder().span_detail(SpanDetail::SpansFor(cases));
    /// # drop(builder);
    /// ```
    pub fn span_detail(mut self, detail: SpanDetail) -> Self {
        self.span_detail = Some(detail);
        self
    }
}
