//! Through proxies: what is asked of them, what is told, what is reused, and every way in which they fail.

mod dying;
mod matrix;
pub(crate) mod relay;
mod told;

use std::sync::Arc;

use httptrace::{ClientBuilder, dial::Proxy};

use self::relay::{RelayingProxy, Speaks};
use crate::support::{dns::FakeResolver, origin::Origin};

/// A proxy and the scheme of its URL.
pub(crate) const KINDS: [(Speaks, &str); 4] =
    [(Speaks::Http, "http"), (Speaks::Https, "https"), (Speaks::Socks, "socks5"), (Speaks::Socks, "socks5h")];

/// A client of this origin whose requests go through the proxy. Both names are known: who looks them up is counted.
pub(crate) fn through(origin: &Origin, proxy: Proxy) -> (ClientBuilder, FakeResolver) {
    let resolver = FakeResolver::new().local("origin.test").local("localhost");
    let builder = origin.client_builder().resolver(Arc::new(resolver.clone())).proxy(proxy);
    (builder, resolver)
}

/// A proxy of which a script says what it does.
fn scripted(origin: &Origin, scheme: &str) -> Proxy {
    let host = if origin.is_tls() { "localhost" } else { "127.0.0.1" };
    let proxy = Proxy::all(&format!("{scheme}://{host}:{}", origin.addr().port())).expect("a URL");
    if origin.is_tls() { proxy.root_certificates(vec![origin.root_certificate()]) } else { proxy }
}

/// The steps of a dial to such an origin through such a proxy.
fn steps(scheme: &str, https: bool) -> Vec<&'static str> {
    let way: &[_] = match scheme {
        "http" if https => &["connect", "tunnel"],
        "http" => &["connect"],
        "https" if https => &["dns", "connect", "tls", "tunnel"],
        "https" => &["dns", "connect", "tls"],
        "socks5" => &["dns", "connect", "tunnel"],
        "socks5h" => &["connect", "tunnel"],
        other => panic!("{other}"),
    };
    let inside: &[_] = if https { &["tls"] } else { &[] };
    [&["get-connection"], way, inside].concat()
}

fn origin(https: bool) -> Origin {
    let origin = if https { Origin::tls_with_alpn(&["http/1.1"]) } else { Origin::plain() };
    origin.serve(crate::spans::scene::hello)
}

pub(crate) fn relaying(speaks: Speaks, guarded: bool) -> RelayingProxy {
    if guarded { RelayingProxy::with_credentials(speaks) } else { RelayingProxy::new(speaks) }
}
