//! Hosts that are reached without a proxy, by curl's rules. Pure.
//!
//! hyper-util has a matcher too, by rules of its own: there a `*` counts beside other entries, blanks don't separate, and a
//! dot at the end of a name makes it another one.

use std::net::IpAddr;

/// The hosts of one list.
#[derive(Debug, Clone, Default)]
pub(super) struct NoProxy {
    all: bool,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// A name and all below it, in lower case.
    Name(String),
    /// An address, or a network with so many bits.
    Network(IpAddr, u8),
}

impl NoProxy {
    pub(super) fn new(list: &str) -> Self {
        let entries = list.split([',', ' ', '\t']).filter(|entry| !entry.is_empty()).filter_map(entry).collect();
        Self { all: list.trim() == "*", entries }
    }

    /// `host`: IPv6 without brackets.
    pub(super) fn has(&self, host: &str) -> bool {
        if self.all || self.entries.is_empty() {
            return self.all;
        }
        if let Ok(addr) = host.parse::<IpAddr>() {
            let holds = |entry: &Entry| matches!(entry, Entry::Network(network, bits) if within(addr, *network, *bits));
            return self.entries.iter().any(holds);
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        self.entries.iter().any(|entry| match entry {
            Entry::Name(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Entry::Network(..) => false,
        })
    }
}

/// Absent for what no host can match.
fn entry(text: &str) -> Option<Entry> {
    let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
    match (addr.parse::<IpAddr>(), bits) {
        (Ok(addr), None) => Some(Entry::Network(addr, width(addr))),
        (Ok(addr), Some(bits)) => {
            let bits = bits.parse().ok().filter(|bits| *bits <= width(addr))?;
            Some(Entry::Network(addr, bits))
        }
        (Err(_), _) => {
            let name = text.strip_prefix('.').unwrap_or(text);
            let name = name.strip_suffix('.').unwrap_or(name);
            (!name.is_empty()).then(|| Entry::Name(name.to_ascii_lowercase()))
        }
    }
}

fn width(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

fn within(addr: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (addr, network) {
        (IpAddr::V4(addr), IpAddr::V4(network)) => {
            let differ = addr.to_bits() ^ network.to_bits();
            differ.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(addr), IpAddr::V6(network)) => {
            let differ = addr.to_bits() ^ network.to_bits();
            differ.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_matched_as_curl_does() {
        for (list, yes, no) in [
            ("", &[][..], &["a.test", "127.0.0.1", "::1"][..]),
            ("*", &["a.test", "127.0.0.1", "::1"], &[]),
            (" * ", &["a.test"], &[]),
            // Beside others it is a name like any other.
            ("a.test,*", &["a.test"], &["b.test"]),
            (
                "example.com",
                &["example.com", "EXAMPLE.com", "www.example.com", "example.com."],
                &["notexample.com", "com"],
            ),
            (".example.com", &["example.com", "www.example.com"], &["notexample.com"]),
            ("example.com.", &["example.com", "www.example.com."], &["example.org"]),
            ("a.test, b.test c.test", &["a.test", "b.test", "x.c.test"], &["d.test"]),
            // A port is no part of a host.
            ("a.test:80", &[], &["a.test"]),
            ("127.0.0.1", &["127.0.0.1"], &["127.0.0.2", "x127.0.0.1", "a.127.0.0.1"]),
            ("10.0.0.0/8,192.168.1.0/24", &["10.1.2.3", "192.168.1.42"], &["11.0.0.1", "192.168.2.1", "::1"]),
            ("10.0.0.1/32", &["10.0.0.1"], &["10.0.0.2"]),
            ("0.0.0.0/0", &["10.0.0.1"], &["::1", "a.test"]),
            ("10.0.0.0/33", &[], &["10.0.0.0"]),
            ("10.0.0.0/a", &[], &["10.0.0.0"]),
            ("::1", &["::1"], &["::2", "127.0.0.1"]),
            ("fd00::/8,2001:db8::/128", &["fd12::1", "2001:db8::"], &["fe80::1", "2001:db8::1"]),
            ("1.2.3.4/0", &["9.9.9.9"], &[]),
        ] {
            let list_of = NoProxy::new(list);
            for host in yes {
                assert!(list_of.has(host), "{host} in {list:?}");
            }
            for host in no {
                assert!(!list_of.has(host), "{host} not in {list:?}");
            }
        }
    }
}
