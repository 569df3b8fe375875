use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Network;

/// Address space that IANA's special-purpose registries (RFC 6890) set apart, and what for.
const V4: [(Ipv4Addr, u8, &str); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "\"this network\" (RFC 791)"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private (RFC 1918)"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier NAT (RFC 6598)"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback (RFC 1122)"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local (RFC 3927)"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private (RFC 1918)"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments (RFC 6890)"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation (RFC 5737)"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relays (RFC 7526)"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private (RFC 1918)"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking (RFC 2544)"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation (RFC 5737)"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation (RFC 5737)"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast (RFC 5771)"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved (RFC 1112)"),
];

/// Inside 2000::/3, outside of which IANA has given out no unicast addresses.
const V6: [(Ipv6Addr, u8, &str); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "protocol assignments (RFC 2928)"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation (RFC 3849)"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4 (RFC 3056)"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation (RFC 9637)"),
];

const GLOBAL_UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

impl Network {
    /// What some of its addresses are set apart for, if they are: then it is not, or not wholly,
    /// public.
    pub fn special_purpose(&self) -> Option<&'static str> {
        let overlaps = |address: IpAddr, length| self.overlaps(&Self::around(address, length));
        if self.address().is_ipv4() {
            let found = V4.iter().find(|(address, length, _)| overlaps((*address).into(), *length));
            return found.map(|(.., purpose)| *purpose);
        }
        let (address, length) = GLOBAL_UNICAST;
        if !Self::around(address.into(), length).covers(self) {
            return Some("not global unicast (RFC 4291)");
        }
        let found = V6.iter().find(|(address, length, _)| overlaps((*address).into(), *length));
        found.map(|(.., purpose)| *purpose)
    }
}

#[cfg(test)]
mod tests {
    use crate::prefixes::{Network, Table};

    fn purpose(network: &str) -> &'static str {
        network.parse::<Network>().unwrap().special_purpose().unwrap_or("public")
    }

    #[test]
    fn networks_that_touch_special_space_are_not_public() {
        for (network, expected) in [
            ("157.240.0.0/17", "public"),
            ("100.48.0.0/12", "public"),
            ("172.32.0.0/12", "public"),
            ("2a03:2880::/32", "public"),
            ("2620:0:1c00::/40", "public"),
            ("10.1.0.0/16", "private (RFC 1918)"),
            ("172.0.0.0/8", "private (RFC 1918)"),
            ("192.0.0.0/12", "protocol assignments (RFC 6890)"),
            ("203.0.0.0/16", "documentation (RFC 5737)"),
            ("198.19.0.0/24", "benchmarking (RFC 2544)"),
            ("255.255.255.255/32", "reserved (RFC 1112)"),
            ("0.0.0.0/0", "\"this network\" (RFC 791)"),
            ("2001:db8:1::/48", "documentation (RFC 3849)"),
            ("2001::/16", "protocol assignments (RFC 2928)"),
            ("fd00::/8", "not global unicast (RFC 4291)"),
            ("::ffff:0:0/96", "not global unicast (RFC 4291)"),
            ("::/2", "not global unicast (RFC 4291)"),
        ] {
            assert_eq!(purpose(network), expected, "{network}");
        }
    }

    #[test]
    fn all_of_metas_prefixes_are_public() {
        assert_eq!(Table::builtin().iter().find_map(|network| network.special_purpose()), None);
    }
}
