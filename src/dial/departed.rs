//! Which connections lead to an address that has left DNS.
//!
//! In: connections whose host was looked up, and the answers of later lookups. Out: a mark on each connection whose address
//! the latest answer did not have ([`ConnectionInfo::address_left_dns`]). Nothing is asked for this: an answer comes only
//! where a dial wants one, so it costs nothing per request.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
};

use crate::connection::ConnectionInfo;

/// The connections of each host, by its name in lower case.
#[derive(Clone, Default)]
pub(crate) struct Departed(Arc<Mutex<Hosts>>);

type Hosts = HashMap<Arc<str>, Vec<Weak<ConnectionInfo>>>;

impl Departed {
    /// From now on, answers for this host are held against the connection's address, as long as the guard lives.
    pub(crate) fn watch(&self, host: &str, connection: &Arc<ConnectionInfo>) -> Watched {
        let host: Arc<str> = host.to_ascii_lowercase().into();
        lock(&self.0).entry(Arc::clone(&host)).or_default().push(Arc::downgrade(connection));
        Watched { departed: self.clone(), host, connection: Arc::downgrade(connection) }
    }

    /// The latest answer for a host. An address that is back is no longer gone.
    pub(super) fn answered(&self, host: &str, addrs: &[IpAddr]) {
        let hosts = lock(&self.0);
        if hosts.is_empty() {
            return;
        }
        let Some(connections) = hosts.get(host.to_ascii_lowercase().as_str()) else { return };
        for connection in connections.iter().filter_map(Weak::upgrade) {
            if let Some(peer) = connection.peer {
                let is_there = addrs.iter().any(|addr| addr.to_canonical() == peer.ip().to_canonical());
                connection.left_dns.store(!is_there, Ordering::Relaxed);
            }
        }
    }
}

/// A connection that is watched; dropped with it.
pub(crate) struct Watched {
    departed: Departed,
    host: Arc<str>,
    connection: Weak<ConnectionInfo>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut hosts = lock(&self.departed.0);
        let Some(connections) = hosts.get_mut(&self.host) else { return };
        connections.retain(|connection| !connection.ptr_eq(&self.connection));
        if connections.is_empty() {
            hosts.remove(&self.host);
        }
    }
}

fn lock(hosts: &Mutex<Hosts>) -> MutexGuard<'_, Hosts> {
    // Nothing of a user's runs under it, so it can't be poisoned half way.
    hosts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, connection::Protocol};

    fn to(addr: [u8; 4]) -> Arc<ConnectionInfo> {
        Arc::new(ConnectionInfo {
            id: 1,
            local: None,
            peer: Some((addr, 80).into()),
            socket_cookie: None,
            protocol: Protocol::Http1,
            tls: None,
            proxy: None,
            ready: clock::now(),
            setup: None,
            keep_alive: Default::default(),
            peer_text: Default::default(),
            forwards: false,
            left_dns: Default::default(),
        })
    }

    #[test]
    fn an_address_leaves_with_an_answer_without_it_and_comes_back_with_one_that_has_it() {
        let departed = Departed::default();
        let (one, two, other) = (to([10, 0, 0, 1]), to([10, 0, 0, 2]), to([10, 0, 0, 1]));
        let _watched =
            [departed.watch("a.test", &one), departed.watch("A.test", &two), departed.watch("b.test", &other)];
        let left = || [&one, &two, &other].map(|connection| connection.address_left_dns());
        departed.answered("A.TEST", &["::ffff:10.0.0.2".parse().unwrap()]);
        assert_eq!(left(), [true, false, false]);
        departed.answered("a.test", &[[10, 0, 0, 1].into(), [10, 0, 0, 3].into()]);
        assert_eq!(left(), [false, true, false]);
    }

    #[test]
    fn nothing_is_kept_of_connections_that_are_gone() {
        let departed = Departed::default();
        let (one, two) = (to([10, 0, 0, 1]), to([10, 0, 0, 1]));
        let (first, second) = (departed.watch("a.test", &one), departed.watch("a.test", &two));
        drop(first);
        departed.answered("a.test", &[]);
        assert!(two.address_left_dns() && !one.address_left_dns());
        drop(second);
        assert!(lock(&departed.0).is_empty());
    }
}
