//! Servers that keep an idle connection for less time than the client does.
//!
//! In: the `Keep-Alive` field, or the end of an idle connection. Out: the two times. A request that is sent just as such a
//! server closes is lost, and may be one that can't be sent twice: so it is worth a word, once per server.

use std::time::Duration;

use http::HeaderMap;

/// A server that closes idle connections before this client would.
///
/// The remedy is to be the first to close: set [`pool_idle_timeout`](crate::ClientBuilder::pool_idle_timeout) below the
/// server's time, or, where it is announced, [`obey_keep_alive`](crate::ClientBuilder::obey_keep_alive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepAlive {
    /// How the server's time is known.
    pub source: KeepAliveSource,
    /// The server's time: as announced; or how long a connection had been idle when the server closed it, which may have had
    /// another reason (a restart).
    pub server: Duration,
    /// This client's: [`pool_idle_timeout`](crate::ClientBuilder::pool_idle_timeout). Absent: for ever.
    pub client: Option<Duration>,
}

/// How a server's idle timeout is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeepAliveSource {
    /// It said so: `Keep-Alive: timeout=5` (RFC 2068 §19.7.1.1, as servers still write it).
    Announced,
    /// It closed an idle connection.
    Closed,
}

impl KeepAliveSource {
    /// The value of `httptrace.keep_alive.source`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Closed => "closed",
        }
    }
}

/// The time that the server announces.
pub(crate) fn announced(fields: &HeaderMap) -> Option<Duration> {
    let values = fields.get_all("keep-alive").iter().filter_map(|value| value.to_str().ok());
    let mut parameters = values.flat_map(|value| value.split(','));
    let timeout = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().trim_matches('"'))
    })?;
    timeout.parse::<u32>().ok().map(|seconds| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_announced_time_is_found_among_other_parameters() {
        let seconds = |value: &'static str| {
            let fields =
                HeaderMap::from_iter([(http::HeaderName::from_static("keep-alive"), HeaderValue::from_static(value))]);
            announced(&fields).map(|timeout| timeout.as_secs())
        };
        for value in ["timeout=5", "timeout=5, max=100", "max=100,Timeout = \"5\"", "max=1, timeout=5, timeout=9"] {
            assert_eq!(seconds(value), Some(5), "{value}");
        }
        for value in ["", "max=100", "timeout", "timeout=", "timeout=-1", "timeout=5s", "5", "timeout=99999999999"] {
            assert_eq!(seconds(value), None, "{value}");
        }
        assert_eq!(announced(&HeaderMap::new()), None);
    }
}
