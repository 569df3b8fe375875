use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use hookgate_ebpf::abi;

use super::exposition::Exposition;
use crate::prefixes::{Classifier, CounterIndex, Network};
use crate::sys::Shared;

/// How far connections and requests got, by the prefix that they came from: the part of the way
/// that the kernel does not see. Counting takes no lock.
#[derive(Debug)]
pub struct Funnel {
    cells: Shared,
    /// Whether `cells` are in the guard's map.
    is_in_guard: bool,
}

/// A step of the way. Each request that has ended is one of [`Step::Delivered`], [`Step::Refused`],
/// [`Step::Failed`].
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

/// The numbers that one prefix has in memory: [`abi::Requests`].
const CELLS: usize = size_of::<abi::Requests>() / size_of::<u64>();

/// Whether a step is counted where the guard's readers look for a field.
const fn is_at(step: Step, offset: usize) -> bool {
    step as usize * size_of::<u64>() == offset
}

const _: () = {
    assert!(is_at(Step::Accepted, offset_of!(abi::Requests, accepted)));
    assert!(is_at(Step::Tls, offset_of!(abi::Requests, tls)));
    assert!(is_at(Step::TlsFailed, offset_of!(abi::Requests, tls_failed)));
    assert!(is_at(Step::Requests, offset_of!(abi::Requests, requests)));
    assert!(is_at(Step::Delivered, offset_of!(abi::Requests, delivered)));
    assert!(is_at(Step::Refused, offset_of!(abi::Requests, refused)));
    assert!(is_at(Step::Failed, offset_of!(abi::Requests, failed)));
    assert!(Step::ALL.len() <= CELLS);
};

/// The counts of one prefix, in the order of [`Step::ALL`].
pub type Counts = [u64; Step::ALL.len()];

impl Funnel {
    /// Numbers in memory, for all prefixes together.
    pub const CELLS: usize = abi::CAPACITY as usize * CELLS;

    /// Counts in memory of this process alone.
    ///
    /// Errors: no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { cells: Shared::private(Self::CELLS)?, is_in_guard: false })
    }

    /// From now on counts where the guard's readers look: `cells` are [`Funnel::CELLS`] numbers.
    pub fn move_to(&mut self, cells: Shared) {
        (self.cells, self.is_in_guard) = (cells, true);
    }

    /// Whether readers of the guard's maps see these counts.
    pub fn is_in_guard(&self) -> bool {
        self.is_in_guard
    }

    pub fn count(&self, counter: CounterIndex, step: Step) {
        // Counts order nothing else.
        if let Some(cell) = self.cell(counter, step) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of the prefixes in force, and those of all other addresses.
    pub fn counts(&self, classifier: &Classifier) -> (Vec<(Network, Counts)>, Counts) {
        let prefixes = classifier.prefixes().into_iter();
        let prefixes = prefixes.map(|(network, counter)| (network, self.counts_of(counter))).collect();
        let mut other = self.counts_of(CounterIndex::OTHER);
        let allowed = self.counts_of(CounterIndex::ALLOWED);
        other.iter_mut().zip(allowed).for_each(|(sum, more)| *sum += more);
        (prefixes, other)
    }

    /// Appends `hookgate_prefix_…_total`; series appear at first use; those of all other addresses
    /// are always there.
    pub fn expose(&self, classifier: &Classifier, to: &mut Exposition) {
        let (prefixes, other) = self.counts(classifier);
        for (index, (_, name, help)) in Step::ALL.into_iter().enumerate() {
            to.family(&format!("hookgate_prefix_{name}_total"), "counter", help);
            for (network, counts) in prefixes.iter().filter(|(_, counts)| counts[index] > 0) {
                to.sample(&[("prefix", &network.to_string())], counts[index]);
            }
            to.sample(&[("prefix", "other")], other[index]);
        }
    }

    fn counts_of(&self, counter: CounterIndex) -> Counts {
        Step::ALL.map(|(step, ..)| self.cell(counter, step).map_or(0, |cell| cell.load(Ordering::Relaxed)))
    }

    fn cell(&self, counter: CounterIndex, step: Step) -> Option<&AtomicU64> {
        self.cells.get(counter.get() * CELLS + step as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefixes::Table;

    #[test]
    fn steps_are_counted_for_the_longest_prefix() {
        let funnel = Funnel::new().unwrap();
        let networks = ["31.13.64.0/18", "31.13.66.0/24"].map(|text| text.parse::<Network>().unwrap());
        let allowed = vec!["192.0.2.0/24".parse().unwrap()];
        let classifier = Classifier::new(Table::from_iter(networks), allowed);
        for (address, step) in [
            ("31.13.66.1", Step::Accepted),
            ("31.13.66.2", Step::Failed),
            ("31.13.64.1", Step::Accepted),
            ("203.0.113.1", Step::Refused),
            ("192.0.2.1", Step::Requests),
        ] {
            funnel.count(classifier.classify(address.parse().unwrap()).counter, step);
        }
        let (prefixes, other) = funnel.counts(&classifier);
        let counts: Vec<_> =
            prefixes.iter().map(|(network, counts)| (network.to_string(), *counts)).collect();
        assert_eq!(counts[0], ("31.13.64.0/18".into(), [1, 0, 0, 0, 0, 0, 0]));
        assert_eq!(counts[1], ("31.13.66.0/24".into(), [1, 0, 0, 0, 0, 0, 1]));
        assert_eq!(other, [0, 0, 0, 1, 0, 1, 0], "the operator's are shown with the others");
    }

    #[test]
    fn a_step_stands_in_its_own_place() {
        for (index, (step, ..)) in Step::ALL.iter().enumerate() {
            assert_eq!(*step as usize, index);
        }
    }
}
