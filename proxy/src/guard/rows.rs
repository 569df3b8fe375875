//! Which prefix has which index. Pure: what is to change in the maps, not how.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hookgate_ebpf::abi::{self, Row};

use crate::prefixes::{Network, Table};

/// What has to change so that `wanted` is in force. A prefix that ever had an index keeps it, and
/// with it its counters.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Were in force and still are.
    pub stay: Vec<(u32, Network)>,
    /// Come into force: their rows are written, then they enter the trie.
    pub enter: Vec<(u32, Network)>,
    /// No longer in force: they leave the trie, then their rows say so.
    pub leave: Vec<(u32, Network)>,
    /// Indices among `enter` that belonged to another prefix: their counters start from nothing.
    pub recycled: Vec<u32>,
}

/// A row that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub network: Network,
    pub in_force: bool,
}

impl Known {
    /// `None` for a row that was never used.
    pub fn parse(row: &Row) -> Option<Self> {
        let address: IpAddr = match row.family {
            Row::V4 => {
                let [a, b, c, d, ..] = row.address;
                Ipv4Addr::new(a, b, c, d).into()
            }
            Row::V6 => Ipv6Addr::from(row.address).into(),
            _ => return None,
        };
        Some(Self { network: Network::around(address, row.length), in_force: row.in_force != 0 })
    }

    pub fn row(self) -> Row {
        let (mut address, family) =
            ([0; 16], if self.network.address().is_ipv4() { Row::V4 } else { Row::V6 });
        match self.network.address() {
            IpAddr::V4(v4) => address[..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => address = v6.octets(),
        }
        Row { address, length: self.network.length(), family, in_force: self.in_force.into(), reserved: 0 }
    }
}

/// `known`: the rows in use, by index, from [`abi::FIRST_PREFIX`] on without a gap; of `capacity`.
/// `None`: no index is left for one of the prefixes.
pub fn changes(known: &[Known], wanted: &Table, capacity: u32) -> Option<Changes> {
    let wanted: BTreeSet<Network> = wanted.iter().collect();
    let rows = || (abi::FIRST_PREFIX..).zip(known);
    let index_of: HashMap<Network, u32> = rows().map(|(index, row)| (row.network, index)).collect();
    let in_force: BTreeSet<Network> =
        known.iter().filter(|row| row.in_force).map(|row| row.network).collect();

    let leaves = |row: &Known| row.in_force && !wanted.contains(&row.network);
    let is_idle = |row: &Known| !row.in_force && !wanted.contains(&row.network);
    let never_used = abi::FIRST_PREFIX + known.len() as u32..capacity;
    let mut idle = rows().filter(|(_, row)| is_idle(row)).map(|(index, _)| index);
    let mut never_used = never_used.into_iter();

    let mut changes = Changes::default();
    for &network in wanted.difference(&in_force) {
        let index = match index_of.get(&network).copied().or_else(|| never_used.next()) {
            Some(index) => index,
            None => {
                let index = idle.next()?;
                changes.recycled.push(index);
                index
            }
        };
        changes.enter.push((index, network));
    }
    let stays = |row: &Known| row.in_force && wanted.contains(&row.network);
    changes.stay = rows().filter(|(_, row)| stays(row)).map(|(index, row)| (index, row.network)).collect();
    changes.leave = rows().filter(|(_, row)| leaves(row)).map(|(index, row)| (index, row.network)).collect();
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn known(rows: &[(&str, bool)]) -> Vec<Known> {
        rows.iter().map(|&(text, in_force)| Known { network: network(text), in_force }).collect()
    }

    fn table(networks: &[&str]) -> Table {
        networks.iter().map(|text| network(text)).collect()
    }

    #[test]
    fn rows_read_back_as_written() {
        for text in ["0.0.0.0/0", "157.240.0.0/17", "2a03:2880::/32", "2001:db8::1/128"] {
            for in_force in [false, true] {
                let known = Known { network: network(text), in_force };
                assert_eq!(Known::parse(&known.row()), Some(known));
            }
        }
        assert_eq!(Known::parse(&Row::default()), None);
    }

    #[test]
    fn a_first_start_numbers_from_the_first() {
        let changes = changes(&[], &table(&["2a03:2880::/32", "31.13.64.0/18"]), abi::CAPACITY).unwrap();
        assert_eq!(changes.enter, [(2, network("31.13.64.0/18")), (3, network("2a03:2880::/32"))]);
        assert!(changes.leave.is_empty() && changes.recycled.is_empty());
    }

    #[test]
    fn a_prefix_keeps_its_index_also_when_it_comes_back() {
        let known = known(&[("10.0.0.0/8", true), ("11.0.0.0/8", false), ("12.0.0.0/8", true)]);
        let changes =
            changes(&known, &table(&["11.0.0.0/8", "12.0.0.0/8", "13.0.0.0/8"]), abi::CAPACITY).unwrap();
        assert_eq!(changes.enter, [(3, network("11.0.0.0/8")), (5, network("13.0.0.0/8"))]);
        assert_eq!(changes.stay, [(4, network("12.0.0.0/8"))]);
        assert_eq!(changes.leave, [(2, network("10.0.0.0/8"))]);
        assert!(changes.recycled.is_empty());
    }

    #[test]
    fn nothing_changes_when_nothing_changed() {
        let known = known(&[("10.0.0.0/8", true), ("11.0.0.0/8", false)]);
        let stay = vec![(2, network("10.0.0.0/8"))];
        let unchanged = changes(&known, &table(&["10.0.0.0/8"]), abi::CAPACITY);
        assert_eq!(unchanged, Some(Changes { stay, ..Changes::default() }));
    }

    #[test]
    fn withdrawn_prefixes_give_way_when_indices_run_out() {
        let hosts = |count: u32| (0..count).map(|n| Network::around(Ipv4Addr::from_bits(n).into(), 32));
        let capacity = abi::CAPACITY - abi::FIRST_PREFIX;
        let mut known: Vec<_> = hosts(capacity).map(|network| Known { network, in_force: true }).collect();
        let full: Table = hosts(capacity).collect();
        let unchanged = changes(&known, &full, abi::CAPACITY).unwrap();
        assert_eq!(unchanged.stay.len(), known.len());
        assert_eq!(Changes { stay: Vec::new(), ..unchanged }, Changes::default());

        let wanted: Table = hosts(capacity - 1).chain([network("10.0.0.0/8")]).collect();
        assert_eq!(changes(&known, &wanted, abi::CAPACITY), None, "its index is still counting for another");
        known[capacity as usize - 1].in_force = false;
        let changes = changes(&known, &wanted, abi::CAPACITY).unwrap();
        let last = abi::CAPACITY - 1;
        assert_eq!(changes.enter, [(last, network("10.0.0.0/8"))]);
        assert_eq!(changes.recycled, [last]);
        assert_eq!(super::changes(&[], &hosts(capacity + 1).collect(), abi::CAPACITY), None);
    }
}
