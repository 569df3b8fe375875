use std::fmt;
use std::net::IpAddr;

use super::{Network, Table};

/// The addresses that some networks hold, each counted once however many hold it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cover {
    v4: Ranges,
    v6: Ranges,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(network: Network) -> Self {
        if network.address().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Cover {
    pub fn of(table: &Table) -> Self {
        let ranges = |is_v4| Ranges::of(table.iter().filter(|network| network.address().is_ipv4() == is_v4));
        Self { v4: ranges(true), v6: ranges(false) }
    }

    /// Whether every address of `network` is among them.
    pub fn holds(&self, network: Network) -> bool {
        let (first, last) = range(network);
        self.ranges(Family::of(network)).0.iter().any(|&(from, to)| from <= first && last <= to)
    }

    /// How many addresses of a family there are.
    pub fn addresses(&self, family: Family) -> u128 {
        self.ranges(family).addresses()
    }

    /// How many addresses of a family are in both.
    pub fn shared(&self, other: &Self, family: Family) -> u128 {
        self.ranges(family).intersection(other.ranges(family)).addresses()
    }

    fn ranges(&self, family: Family) -> &Ranges {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

/// First and last address, inclusive: in order, none touching the next.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// `networks` of one family, by address.
    fn of(networks: impl Iterator<Item = Network>) -> Self {
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for (first, last) in networks.map(range) {
            match ranges.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => ranges.push((first, last)),
            }
        }
        Self(ranges)
    }

    fn addresses(&self) -> u128 {
        let sizes = self.0.iter().map(|(first, last)| (last - first).saturating_add(1));
        sizes.fold(0, u128::saturating_add)
    }

    fn intersection(&self, other: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|a| other.0.iter().map(move |b| (a.0.max(b.0), a.1.min(b.1))));
        Self(pairs.filter(|(first, last)| first <= last).collect())
    }
}

/// The first and the last address as numbers.
fn range(network: Network) -> (u128, u128) {
    let (first, bits) = match network.address() {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let host_bits = bits - u32::from(network.length());
    (first, first | 1u128.checked_shl(host_bits).map_or(u128::MAX, |size| size - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(networks: &[&str]) -> Table {
        networks.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    #[test]
    fn neighbours_hold_together_what_none_holds_alone() {
        let cover = Cover::of(&table(&["157.240.0.0/17", "157.240.128.0/17", "157.240.3.0/24", "::/1"]));
        for (network, expected) in [
            ("157.240.0.0/16", true),
            ("157.240.200.0/24", true),
            ("157.240.0.0/15", false),
            ("157.241.0.0/24", false),
            ("::/1", true),
            ("::/0", false),
            ("0.0.0.0/32", false),
        ] {
            assert_eq!(cover.holds(network.parse().unwrap()), expected, "{network}");
        }
        assert_eq!(cover.addresses(Family::V4), 65536);
        assert_eq!(cover.addresses(Family::V6), 1 << 127);
    }

    #[test]
    fn addresses_in_both_count_once() {
        let one = Cover::of(&table(&["10.0.0.0/24", "10.0.2.0/24", "10.0.2.0/25", "2a03:2880::/32"]));
        let two = Cover::of(&table(&["10.0.0.128/25", "10.0.2.0/23", "2a03:2880::/33", "2a03::/48"]));
        assert_eq!(one.shared(&two, Family::V4), 128 + 256);
        assert_eq!(two.shared(&one, Family::V4), 128 + 256);
        assert_eq!(one.shared(&two, Family::V6), 1 << 95);
        let all = Cover::of(&table(&["0.0.0.0/0", "::/0"]));
        assert_eq!((all.addresses(Family::V4), all.addresses(Family::V6)), (1 << 32, u128::MAX));
    }
}
