//! Decides whose an address is: Meta's, the operator's, or anybody else's. Metrics only count by
//! what it says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use hookgate_ebpf::abi;

use super::{Network, Table};

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Meta,
    /// In one of the operator's networks, or on this machine.
    Allowed,
    Other,
}

impl Class {
    /// As in the metrics' labels.
    pub const ALL: [(Self, &str); 3] =
        [(Self::Meta, "meta"), (Self::Allowed, "allowed"), (Self::Other, "other")];
}

/// The counters of one prefix, or of everything outside of Meta's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterIndex(u32);

impl CounterIndex {
    /// Every address but Meta's; the operator's networks count apart, and are shown with the
    /// others.
    pub const OTHER: Self = Self(abi::OTHER);
    pub const ALLOWED: Self = Self(abi::ALLOWED);

    /// Whether it belongs to one of Meta's prefixes.
    pub fn is_meta(self) -> bool {
        ![Self::OTHER, Self::ALLOWED].contains(&self)
    }

    pub fn get(self) -> usize {
        self.0 as usize
    }

    #[cfg(test)]
    pub fn numbered(index: u32) -> Self {
        Self(index)
    }
}

/// A client's address, classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub class: Class,
    pub counter: CounterIndex,
}

/// The prefixes and networks in force. A change concerns connections that come later.
#[derive(Debug)]
pub struct Classifier(RwLock<Arc<Rules>>);

#[derive(Clone, Debug)]
struct Rules {
    table: Table,
    /// The counters of every prefix that ever was in force: one that comes back finds its counts.
    counters: HashMap<Network, u32>,
    /// The operator's networks, which are treated like Meta's.
    allowed: Vec<Network>,
}

impl Classifier {
    pub fn new(table: Table, allowed: Vec<Network>) -> Self {
        let rules = Rules { table: Table::default(), counters: HashMap::new(), allowed };
        Self(RwLock::new(Arc::new(rules.with_table(table))))
    }

    pub fn classify(&self, address: IpAddr) -> Source {
        let rules = self.rules();
        let prefix = rules.table.longest_match(address);
        match prefix.and_then(|prefix| rules.counters.get(&prefix)) {
            Some(index) => Source { class: Class::Meta, counter: CounterIndex(*index) },
            None if rules.allowed.iter().any(|network| network.contains(address)) => {
                Source { class: Class::Allowed, counter: CounterIndex::ALLOWED }
            }
            // What this machine sends is counted with the rest, as the guard does.
            None if address.to_canonical().is_loopback() => {
                Source { class: Class::Allowed, counter: CounterIndex::OTHER }
            }
            None => Source { class: Class::Other, counter: CounterIndex::OTHER },
        }
    }

    /// Puts `table` in force. Prefixes without counters get some.
    pub fn set_table(&self, table: Table) {
        self.change(|rules| rules.clone().with_table(table));
    }

    /// Puts prefixes in force whose counters are numbered elsewhere.
    pub fn set_numbered(&self, numbered: Vec<(Network, u32)>) {
        let table = numbered.iter().map(|(network, _)| *network).collect();
        let counters = numbered.into_iter().collect();
        self.change(|rules| Rules { table, counters, allowed: rules.allowed.clone() });
    }

    /// Puts other networks of the operator's in force.
    pub fn set_allowed(&self, allowed: Vec<Network>) {
        self.change(|rules| Rules { allowed, ..rules.clone() });
    }

    /// The prefixes in force with their counters, IPv4 first, by address.
    pub fn prefixes(&self) -> Vec<(Network, CounterIndex)> {
        let rules = self.rules();
        let counter =
            |network| rules.counters.get(&network).copied().map_or(CounterIndex::OTHER, CounterIndex);
        rules.table.iter().map(|network| (network, counter(network))).collect()
    }

    /// The prefix that counters belong to, in force or not; `None`: they are not Meta's.
    pub fn prefix_of(&self) -> impl Fn(CounterIndex) -> Option<String> + use<> {
        let rules = self.rules();
        let by_index: HashMap<u32, Network> =
            rules.counters.iter().map(|(network, index)| (*index, *network)).collect();
        move |CounterIndex(index)| by_index.get(&index).map(Network::to_string)
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, to: impl FnOnce(&Rules) -> Rules) {
        let mut rules = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *rules = Arc::new(to(&rules));
    }
}

impl Rules {
    /// Prefixes beyond [`abi::CAPACITY`] are counted with all other addresses.
    fn with_table(self, table: Table) -> Self {
        let mut counters = self.counters;
        for network in table.iter() {
            let next = counters.len() as u32 + abi::FIRST_PREFIX;
            if next < abi::CAPACITY {
                counters.entry(network).or_insert(next);
            }
        }
        Self { counters, table, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(networks: &[&str]) -> Table {
        networks.iter().map(|text| text.parse::<Network>().unwrap()).collect()
    }

    fn classifier(networks: &[&str]) -> Classifier {
        Classifier::new(table(networks), vec!["192.0.2.0/24".parse().unwrap()])
    }

    fn source(classifier: &Classifier, address: &str) -> Source {
        classifier.classify(address.parse().unwrap())
    }

    #[test]
    fn addresses_are_metas_the_operators_or_others() {
        let classifier = classifier(&["31.13.64.0/18", "31.13.66.0/24"]);
        let prefix_of = classifier.prefix_of();
        for (address, class, prefix) in [
            ("31.13.66.1", Class::Meta, Some("31.13.66.0/24")),
            ("31.13.64.1", Class::Meta, Some("31.13.64.0/18")),
            ("::ffff:31.13.64.1", Class::Meta, Some("31.13.64.0/18")),
            ("192.0.2.1", Class::Allowed, None),
            ("127.0.0.1", Class::Allowed, None),
            ("::1", Class::Allowed, None),
            ("203.0.113.1", Class::Other, None),
        ] {
            let source = source(&classifier, address);
            assert_eq!((source.class, prefix_of(source.counter).as_deref()), (class, prefix), "{address}");
            assert_eq!(source.counter.is_meta(), class == Class::Meta, "{address}");
        }
        assert_eq!(source(&classifier, "192.0.2.1").counter, CounterIndex::ALLOWED);
        assert_eq!(source(&classifier, "127.0.0.1").counter, CounterIndex::OTHER);
    }

    #[test]
    fn a_prefix_that_comes_back_finds_its_counters() {
        let classifier = classifier(&["31.13.64.0/18", "57.144.0.0/14"]);
        let before = source(&classifier, "31.13.64.1").counter;
        classifier.set_table(table(&["57.144.0.0/14", "157.240.0.0/17"]));
        assert_eq!(source(&classifier, "31.13.64.1").class, Class::Other);
        assert_ne!(source(&classifier, "157.240.0.1").counter, before);
        classifier.set_table(table(&["31.13.64.0/18", "157.240.0.0/17"]));
        assert_eq!(source(&classifier, "31.13.64.1").counter, before);
    }

    #[test]
    fn other_networks_of_the_operators_are_taken_over() {
        let classifier = classifier(&["31.13.64.0/18"]);
        classifier.set_allowed(vec!["203.0.113.0/24".parse().unwrap()]);
        assert_eq!(source(&classifier, "203.0.113.1").class, Class::Allowed);
        assert_eq!(source(&classifier, "192.0.2.1").class, Class::Other);
        assert_eq!(source(&classifier, "31.13.64.1").class, Class::Meta);
    }
}
