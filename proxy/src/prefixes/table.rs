use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Network;

/// Meta's prefixes, to be asked whose an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    networks: BTreeSet<Network>,
    /// Those that occur, longest first.
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
}

impl Table {
    /// The longest prefix that holds `address`. An IPv4-mapped IPv6 address counts as IPv4: that is
    /// how a socket that listens on `::` reports IPv4 peers.
    pub fn longest_match(&self, address: IpAddr) -> Option<Network> {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        let candidates = lengths.iter().map(|&length| Network::around(address, length));
        candidates.into_iter().find(|network| self.networks.contains(network))
    }

    /// Whether `network` itself is one of the prefixes.
    pub fn has(&self, network: Network) -> bool {
        self.networks.contains(&network)
    }

    /// IPv4 before IPv6, then by address.
    pub fn iter(&self) -> impl Iterator<Item = Network> + '_ {
        self.networks.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.networks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

impl FromIterator<Network> for Table {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let networks: BTreeSet<Network> = networks.into_iter().collect();
        let lengths = |is_v4: bool| {
            let of_family = networks.iter().filter(|network| network.address().is_ipv4() == is_v4);
            let distinct: BTreeSet<u8> = of_family.map(Network::length).collect();
            distinct.into_iter().rev().collect()
        };
        Self { v4_lengths: lengths(true), v6_lengths: lengths(false), networks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(networks: &[&str]) -> Table {
        networks.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    fn owner(table: &Table, address: &str) -> Option<String> {
        table.longest_match(address.parse().unwrap()).map(|network| network.to_string())
    }

    #[test]
    fn the_longest_prefix_wins() {
        let table = table(&["31.13.64.0/18", "31.13.66.0/24", "2a03:2880::/32", "2a03:2880:f000::/36"]);
        for (address, expected) in [
            ("31.13.64.0", Some("31.13.64.0/18")),
            ("31.13.66.0", Some("31.13.66.0/24")),
            ("31.13.66.255", Some("31.13.66.0/24")),
            ("31.13.67.0", Some("31.13.64.0/18")),
            ("31.13.128.0", None),
            ("::ffff:31.13.66.9", Some("31.13.66.0/24")),
            ("2a03:2880:f123::1", Some("2a03:2880:f000::/36")),
            ("2a03:2880::1", Some("2a03:2880::/32")),
            ("2a03:2881::1", None),
            ("::1f0d:4209", None),
        ] {
            assert_eq!(owner(&table, address).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn the_shortest_and_the_longest_lengths_work() {
        let table = table(&["0.0.0.0/0", "192.0.2.1/32", "::/0", "2001:db8::1/128"]);
        assert_eq!(owner(&table, "192.0.2.1").as_deref(), Some("192.0.2.1/32"));
        assert_eq!(owner(&table, "192.0.2.2").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(owner(&table, "2001:db8::1").as_deref(), Some("2001:db8::1/128"));
        assert_eq!(owner(&table, "2001:db8::2").as_deref(), Some("::/0"));
    }
}
