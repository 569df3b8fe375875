//! Which connections may proceed: never more than the machine can carry, and Meta's always before others'.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::observe::{ConnectionRefusal, Row};

/// The connections of all workers, and how many there may be.
pub struct Admission {
    most: usize,
    /// How many of them may be strangers'.
    most_of_strangers: usize,
    most_per_source: usize,
    total: AtomicUsize,
    by_class: [AtomicUsize; Class::ALL.len()],
    sources: Mutex<HashMap<IpAddr, usize>>,
}

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

    fn of(client: IpAddr, row: Row) -> Self {
        match row {
            Row::ALLOWED => Self::Allowed,
            Row::OTHER if client.is_loopback() => Self::Allowed,
            Row::OTHER => Self::Other,
            _ => Self::Meta,
        }
    }
}

impl Admission {
    /// `reserved_for_meta`: a share of `most`; `per_source`: `None` for a quarter of what strangers may use.
    pub fn new(most: usize, reserved_for_meta: f64, per_source: Option<usize>) -> Self {
        let most_of_strangers = most - (most as f64 * reserved_for_meta).ceil() as usize;
        Self {
            most,
            most_of_strangers,
            most_per_source: per_source.unwrap_or((most_of_strangers / 4).max(1)),
            total: AtomicUsize::default(),
            by_class: Default::default(),
            sources: Mutex::default(),
        }
    }

    /// A place for a connection of `client`'s, whose prefix is `row`'s.
    pub fn admit(self: &Arc<Self>, client: IpAddr, row: Row) -> Result<Slot, ConnectionRefusal> {
        let class = Class::of(client, row);
        // What others than strangers may have is only bounded in total.
        let most = if class == Class::Other { self.most_of_strangers } else { usize::MAX };
        let of_class = Place::take(self, Self::of_class, class, most);
        let of_class = of_class.ok_or(ConnectionRefusal::ReservedForMeta)?;
        let of_source = match class {
            Class::Meta | Class::Allowed => None,
            Class::Other => Some(SourcePlace::take(self, client).ok_or(ConnectionRefusal::PerSource)?),
        };
        // Last: a stranger who is refused must not have had, for a moment, what a connection of Meta's needed.
        let total = Place::take(self, |admission, _| &admission.total, class, self.most);
        let total = total.ok_or(ConnectionRefusal::Connections)?;
        Ok(Slot { _total: total, _of_class: of_class, _of_source: of_source })
    }

    /// Connections of `class` at the moment.
    pub fn count(&self, class: Class) -> usize {
        self.of_class(class).load(Ordering::Relaxed)
    }

    fn of_class(&self, class: Class) -> &AtomicUsize {
        &self.by_class[class as usize]
    }
}

/// A connection's place in the counts; given back when dropped.
pub struct Slot {
    _total: Place,
    _of_class: Place,
    _of_source: Option<SourcePlace>,
}

/// One of the counts.
type Count = fn(&Admission, Class) -> &AtomicUsize;

/// A place in one of the counts.
struct Place {
    admission: Arc<Admission>,
    count: Count,
    class: Class,
}

impl Place {
    fn take(admission: &Arc<Admission>, count: Count, class: Class, most: usize) -> Option<Self> {
        // Nothing else is ordered by these counts, so they need no ordering themselves.
        let place = Self { admission: Arc::clone(admission), count, class };
        (count(admission, class).fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.count)(&self.admission, self.class).fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among one stranger's connections.
struct SourcePlace {
    admission: Arc<Admission>,
    source: IpAddr,
}

impl SourcePlace {
    fn take(admission: &Arc<Admission>, client: IpAddr) -> Option<Self> {
        let source = source(client);
        let mut sources = admission.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let count = sources.entry(source).or_default();
        if *count >= admission.most_per_source {
            return None;
        }
        *count += 1;
        Some(Self { admission: Arc::clone(admission), source })
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut sources = self.admission.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = sources.entry(self.source) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// One stranger: an IPv4 address, or an IPv6 /64, which one machine has whole.
fn source(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Funnel;
    use crate::prefixes::Table;

    fn admission(most: usize, reserved: f64, per_source: Option<usize>) -> Arc<Admission> {
        Arc::new(Admission::new(most, reserved, per_source))
    }

    fn many(admission: &Arc<Admission>, client: &str, count: usize) -> (Vec<Slot>, Vec<ConnectionRefusal>) {
        let client = client.parse().unwrap();
        let row = Funnel::new(Table::builtin(), vec!["192.0.2.0/24".parse().unwrap()]).unwrap().row(client);
        let (mut slots, mut refused) = (Vec::new(), Vec::new());
        for _ in 0..count {
            match admission.admit(client, row) {
                Ok(slot) => slots.push(slot),
                Err(why) => refused.push(why),
            }
        }
        (slots, refused)
    }

    #[test]
    fn strangers_never_take_what_is_metas() {
        let admission = admission(10, 0.5, Some(100));
        let (strangers, refused) = many(&admission, "198.51.100.1", 8);
        assert_eq!((strangers.len(), refused), (5, vec![ConnectionRefusal::ReservedForMeta; 3]));
        let (meta, refused) = many(&admission, "157.240.1.1", 7);
        assert_eq!((meta.len(), refused), (5, vec![ConnectionRefusal::Connections; 2]));
        // Not for want of a place in total: a stranger does not get so far as to take one.
        assert_eq!(many(&admission, "198.51.100.2", 1).1, [ConnectionRefusal::ReservedForMeta]);
        drop(strangers);
        let (more, _) = many(&admission, "157.240.1.1", 5);
        assert_eq!(more.len(), 5);
    }

    #[test]
    fn one_stranger_has_a_quarter_and_a_place_is_given_back() {
        let admission = admission(16, 0.5, None);
        let (slots, refused) = many(&admission, "2001:db8::1", 3);
        assert_eq!((slots.len(), refused), (2, vec![ConnectionRefusal::PerSource]));
        assert_eq!(many(&admission, "2001:db8::ffff", 1).0.len(), 0, "the same /64");
        assert_eq!(many(&admission, "2001:db8:0:1::1", 1).0.len(), 1, "another /64");
        drop(slots);
        assert_eq!(many(&admission, "2001:db8::1", 2).0.len(), 2);
        assert!(admission.sources.lock().unwrap().is_empty());
        assert_eq!(admission.total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn meta_allowed_and_this_machine_are_exempt() {
        let admission = admission(20, 1.0, Some(1));
        for client in ["157.240.1.1", "192.0.2.7", "127.0.0.1", "::1", "::ffff:157.240.1.1"] {
            assert_eq!(many(&admission, client, 3).0.len(), 3, "{client}");
        }
        assert_eq!(many(&admission, "198.51.100.1", 1).1, [ConnectionRefusal::ReservedForMeta]);
    }
}
