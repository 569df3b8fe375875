//! Addresses that a name from the DNS must not lead to, and the order in which the others are
//! tried.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::prefixes::Network;

/// Whether `address` is in the public Internet: neither this machine's, nor its operator's network,
/// nor one that IANA's special-purpose registries (RFC 6890) set apart; IPv4 inside IPv6 counts as
/// that IPv4.
pub fn is_public(address: IpAddr) -> bool {
    special_purpose(address).is_none()
}

/// What `address` is set apart for, if it is not public.
pub fn special_purpose(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => special_purpose_v4(v4),
        IpAddr::V6(v6) => special_purpose_v6(v6),
    }
}

fn special_purpose_v4(address: Ipv4Addr) -> Option<&'static str> {
    // Azure's metadata and DNS lie outside every registry of special space.
    const AZURE: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
    if address == AZURE { Some("Azure's metadata and DNS") } else { registered(address.into()) }
}

fn special_purpose_v6(address: Ipv6Addr) -> Option<&'static str> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        special_purpose_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low), // NAT64, RFC 6052
        [0x64, 0xff9b, 1, ..] => Some("local NAT64 (RFC 8215)"),
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low), // IPv4-mapped
        [0x2002, high, low, ..] => v4(high, low),            // 6to4, RFC 3056
        _ => registered(address.into()),
    }
}

fn registered(address: IpAddr) -> Option<&'static str> {
    Network::around(address, u8::MAX).special_purpose()
}

/// The order of attempts: families take turns, IPv6 first (RFC 8305 §4).
pub fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut v6 = addresses.iter().filter(|a| a.is_ipv6());
    let mut v4 = addresses.iter().filter(|a| a.is_ipv4());
    let mut ordered = Vec::with_capacity(addresses.len());
    while ordered.len() < addresses.len() {
        ordered.extend(v6.next());
        ordered.extend(v4.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_may_lead_to() {
        for public in [
            "1.1.1.1",
            "157.240.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "2a03:2880::1",
            "2606:4700::1111",
            "64:ff9b::101:101",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
            "198.20.0.1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "0.1.2.3",
            "10.1.1.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.0.1",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "::7f00:1",
            "100::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn families_take_turns() {
        let parse = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
        let ordered = interleave(&parse(&["192.0.2.1", "192.0.2.2", "2001:db8::1", "192.0.2.3"]));
        assert_eq!(ordered, parse(&["2001:db8::1", "192.0.2.1", "192.0.2.2", "192.0.2.3"]));
    }
}
