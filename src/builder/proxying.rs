//! Options for what stands between: proxies and Unix sockets.
//!
//! In: proxies, a path. Out: the settings that [`super`] gives to the dialer.

#[cfg(unix)]
use std::path::PathBuf;

use super::ClientBuilder;
#[cfg(unix)]
use crate::dial::Connector;
use crate::dial::Proxy;

/// What stands between.
impl ClientBuilder {
    /// A proxy for the requests that it is for. May be called again: of several, the first that is for a request is taken,
    /// and a request that none is for goes to its server directly. Default: none; the environment is not asked, see
    /// [`Proxy::from_env`].
    ///
    /// - Connections through a proxy are pooled by their origin, as all are. Which proxy one goes through depends on its origin
    ///   alone, so none is used for a request of another one, or with other credentials.
    /// - [`connect_timeout`](Self::connect_timeout) holds for all of it, the proxy's answer included;
    ///   [`tls_handshake_timeout`](Self::tls_handshake_timeout) for each handshake.
    /// - [`resolver`](Self::resolver), [`resolve_to`](Self::resolve_to) and the options of connects are for the proxy's name
    ///   and addresses. A [`connector`](Self::connector) is asked for the proxy: `http://proxy.example:3128/`.
    /// - The answer of a proxy to a request that it passes on is an ordinary response, its 407 too.
    pub fn proxy(self, proxy: Proxy) -> Self {
        self.proxies([proxy])
    }

    /// Several proxies at once, as by [`proxy`](Self::proxy) one after the other.
    pub fn proxies(mut self, proxies: impl IntoIterator<Item = Proxy>) -> Self {
        self.proxies.extend(proxies);
        self
    }

    /// Connects to this Unix socket, whatever the URL says, as by a [`connector`](Self::connector); the URL is still what
    /// the request says and, for `https`, what the certificate has to be for. In place of an earlier connector. Default:
    /// none.
    ///
    /// ```
    /// let client = httptrace::Client::builder().unix_socket("/run/docker.sock").build()?;
    /// # Ok::<(), httptrace::Error>(())
    /// ```
    #[cfg(unix)]
    pub fn unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.connector = Some(Connector::unix(path.into()));
        self
    }
}
