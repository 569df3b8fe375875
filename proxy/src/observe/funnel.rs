use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hookgate_ebpf::abi;

use super::Exposition;
use crate::prefixes::{Network, Table};
use crate::sys::Shared;

/// How far connections and requests got, by the prefix that they came from: the part of the way that the kernel does
/// not see. Counting takes no lock.
#[derive(Debug)]
pub struct Funnel {
    rows: RwLock<Arc<Rows>>,
    /// The operator's networks that are treated like Meta's; they count apart, as the guard has it.
    allowed: RwLock<Vec<Network>>,
    counts: Shared,
    /// Whether `counts` are in the guard's map.
    is_in_guard: bool,
}

/// Which prefixes are in force, and whose counts are where.
#[derive(Debug, Default)]
struct Rows {
    table: Table,
    /// Of every prefix that ever was in force: one that comes back finds its counts.
    index: HashMap<Network, u32>,
}

/// Whose counts: those of one prefix, or of everything outside of Meta's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row(u32);

impl Row {
    pub const OTHER: Self = Self(abi::OTHER);
    /// Shown with [`Row::OTHER`].
    pub const ALLOWED: Self = Self(abi::ALLOWED);

    /// Whether it is one of Meta's prefixes'.
    pub fn is_meta(self) -> bool {
        ![Self::OTHER, Self::ALLOWED].contains(&self)
    }

    #[cfg(test)]
    pub(super) fn numbered(index: u32) -> Self {
        Self(index)
    }
}

/// A step of the way. Each request that has ended is one of [`Step::Delivered`], [`Step::Refused`], [`Step::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A connection came out of accept(2), and its client is known.
    Accepted,
    Tls,
    TlsFailed,
    /// A head, good or bad, has arrived.
    Requests,
    /// The upstream answered 200, and the client has all of it.
    Delivered,
    /// Answered by us, before an upstream was asked.
    Refused,
    /// Whatever else became of it.
    Failed,
}

impl Step {
    /// As in the metrics' names, `stats --json`, and the guard's shared map, in this order.
    pub const ALL: [(Self, &str, &str); 7] = [
        (Self::Accepted, "accepted", "Connections accepted, by the prefix they came from"),
        (Self::Tls, "tls", "TLS handshakes completed"),
        (Self::TlsFailed, "tls_failed", "TLS handshakes that failed"),
        (Self::Requests, "requests", "Requests begun"),
        (Self::Delivered, "delivered", "Requests that the upstream answered 200, to the last byte"),
        (Self::Refused, "refused", "Requests answered before an upstream was asked"),
        (Self::Failed, "failed", "Requests that ended in any other way"),
    ];
}

/// Rows that there is room for, the rest of the world's included: as many as the guard has.
const CAPACITY: u32 = abi::CAPACITY;
/// Numbers a row has in memory.
const CELLS: usize = 8;
const _: () = assert!(Step::ALL.len() <= CELLS);

/// One row's counts, in the order of [`Step::ALL`].
pub type Counts = [u64; Step::ALL.len()];

impl Funnel {
    /// Numbers in memory, all rows together.
    pub const CELLS: usize = CAPACITY as usize * CELLS;

    /// Counts in memory of this process alone.
    ///
    /// Errors: no memory.
    pub fn new(table: Table, allowed: Vec<Network>) -> io::Result<Self> {
        let counts = Shared::private(Self::CELLS)?;
        let allowed = RwLock::new(allowed);
        let rows = RwLock::new(Arc::new(Rows::default().with(table)));
        Ok(Self { counts, allowed, rows, is_in_guard: false })
    }

    /// From now on counts where the guard's readers look: `counts` are [`Funnel::CELLS`] numbers, `rows` say which
    /// belong to whom.
    pub fn move_to(&mut self, counts: Shared, rows: Vec<(Network, u32)>) {
        self.counts = counts;
        self.is_in_guard = true;
        self.set_rows(rows);
    }

    /// Whether whoever reads the guard's maps reads these counts.
    pub fn is_in_guard(&self) -> bool {
        self.is_in_guard
    }

    /// Puts `table` in force; connections that are there already stay where they were counted.
    pub fn set_table(&self, table: Table) {
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        *rows = Arc::new(rows.with(table));
    }

    /// The same for prefixes that somebody else has numbered.
    pub fn set_rows(&self, numbered: Vec<(Network, u32)>) {
        let table = numbered.iter().map(|(network, _)| *network).collect();
        let rows = Rows { table, index: numbered.into_iter().collect() };
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rows);
    }

    /// The longest prefix in force that holds the address.
    pub fn row(&self, address: IpAddr) -> Row {
        let rows = self.rows();
        let network = rows.table.longest_match(address);
        match network.and_then(|network| rows.index.get(&network)) {
            Some(index) => Row(*index),
            None if self.allows(address) => Row::ALLOWED,
            None => Row::OTHER,
        }
    }

    /// Treats other networks like Meta's.
    pub fn set_allowed(&self, allowed: Vec<Network>) {
        *self.allowed.write().unwrap_or_else(PoisonError::into_inner) = allowed;
    }

    fn allows(&self, address: IpAddr) -> bool {
        let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
        allowed.iter().any(|network| network.contains(address))
    }

    pub fn count(&self, row: Row, step: Step) {
        // Counts order nothing else.
        if let Some(cell) = self.cell(row, step) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The prefixes in force, IPv4 first, by address.
    pub fn networks(&self) -> Vec<Network> {
        self.rows().table.iter().collect()
    }

    /// The prefix that a row belongs to, for any row there is.
    pub fn prefix_of(&self) -> impl Fn(Row) -> Option<String> + use<> {
        let rows = self.rows();
        let by_row: HashMap<u32, Network> =
            rows.index.iter().map(|(network, row)| (*row, *network)).collect();
        move |Row(row)| by_row.get(&row).map(Network::to_string)
    }

    /// What was counted, and of which prefix.
    pub fn counts(&self) -> (Vec<(Network, Counts)>, Counts) {
        let rows = self.rows();
        let of = |row: Row| {
            Step::ALL.map(|(step, ..)| self.cell(row, step).map_or(0, |cell| cell.load(Ordering::Relaxed)))
        };
        let row = |network: &Network| rows.index.get(network).map_or(Row::OTHER, |index| Row(*index));
        let mut other = of(Row::OTHER);
        other.iter_mut().zip(of(Row::ALLOWED)).for_each(|(sum, more)| *sum += more);
        (rows.table.iter().map(|network| (network, of(row(&network)))).collect(), other)
    }

    /// Appends `hookgate_prefix_…_total`; series appear at first use, but for the rest of the world's.
    pub fn expose(&self, to: &mut Exposition) {
        let (prefixes, other) = self.counts();
        for (index, (_, name, help)) in Step::ALL.into_iter().enumerate() {
            to.family(&format!("hookgate_prefix_{name}_total"), "counter", help);
            for (network, counts) in prefixes.iter().filter(|(_, counts)| counts[index] > 0) {
                to.sample(&[("prefix", &network.to_string())], counts[index]);
            }
            to.sample(&[("prefix", "other")], other[index]);
        }
    }

    fn rows(&self) -> Arc<Rows> {
        Arc::clone(&self.rows.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn cell(&self, Row(index): Row, step: Step) -> Option<&AtomicU64> {
        self.counts.get(index as usize * CELLS + step as usize)
    }
}

impl Rows {
    /// The same with another table in force. Prefixes beyond [`CAPACITY`] are counted with the rest of the world.
    fn with(&self, table: Table) -> Self {
        let mut index = self.index.clone();
        for network in table.iter() {
            let next = index.len() as u32 + abi::FIRST_PREFIX;
            if next < CAPACITY {
                index.entry(network).or_insert(next);
            }
        }
        Self { index, table }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn funnel(networks: &[&str]) -> Funnel {
        let table = networks.iter().map(|text| text.parse::<Network>().unwrap()).collect();
        Funnel::new(table, vec!["192.0.2.0/24".parse().unwrap()]).unwrap()
    }

    #[test]
    fn steps_are_counted_for_the_longest_prefix() {
        let funnel = funnel(&["31.13.64.0/18", "31.13.66.0/24"]);
        for (address, step) in [
            ("31.13.66.1", Step::Accepted),
            ("31.13.66.2", Step::Failed),
            ("31.13.64.1", Step::Accepted),
            ("203.0.113.1", Step::Refused),
        ] {
            funnel.count(funnel.row(address.parse().unwrap()), step);
        }
        let (prefixes, other) = funnel.counts();
        let counts: Vec<_> =
            prefixes.iter().map(|(network, counts)| (network.to_string(), *counts)).collect();
        assert_eq!(counts[0], ("31.13.64.0/18".into(), [1, 0, 0, 0, 0, 0, 0]));
        assert_eq!(counts[1], ("31.13.66.0/24".into(), [1, 0, 0, 0, 0, 0, 1]));
        assert_eq!(other, [0, 0, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn a_prefix_keeps_its_counts_also_when_it_comes_back() {
        let funnel = funnel(&["31.13.64.0/18", "57.144.0.0/14"]);
        let count = |address: &str| funnel.count(funnel.row(address.parse().unwrap()), Step::Accepted);
        let accepted = || {
            let (prefixes, other) = funnel.counts();
            let prefixes = prefixes.into_iter().map(|(network, counts)| (network.to_string(), counts[0]));
            (prefixes.collect::<Vec<_>>(), other[0])
        };
        let table = |networks: &[&str]| {
            networks.iter().map(|text| text.parse::<Network>().unwrap()).collect::<Table>()
        };
        count("31.13.64.1");
        funnel.set_table(table(&["57.144.0.0/14", "157.240.0.0/17"]));
        count("31.13.64.1");
        count("157.240.0.1");
        assert_eq!(accepted(), (vec![("57.144.0.0/14".into(), 0), ("157.240.0.0/17".into(), 1)], 1));
        funnel.set_table(table(&["31.13.64.0/18", "157.240.0.0/17"]));
        count("31.13.64.1");
        assert_eq!(accepted(), (vec![("31.13.64.0/18".into(), 2), ("157.240.0.0/17".into(), 1)], 1));
    }

    #[test]
    fn allowed_networks_count_apart_and_are_shown_with_the_rest() {
        let funnel = funnel(&["31.13.64.0/18"]);
        for (address, row) in [("192.0.2.1", Row::ALLOWED), ("203.0.113.1", Row::OTHER)] {
            assert_eq!(funnel.row(address.parse().unwrap()), row);
            funnel.count(row, Step::Requests);
        }
        assert_eq!(funnel.counts().1, [0, 0, 0, 2, 0, 0, 0]);
    }

    #[test]
    fn a_step_stands_in_its_own_place() {
        for (index, (step, ..)) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, index);
        }
    }
}
