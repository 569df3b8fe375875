//! Which connections may proceed: never more than the machine can carry, and Meta's always before
//! others'.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::net::{SourceCounts, SourcePlace, source_of};
use crate::observe::ConnectionRefusal;
use crate::prefixes::Class;

/// How many connections there may be, in all workers.
pub struct Admission {
    counts: Arc<Counts>,
    pub most: usize,
    /// How many of them may be strangers'.
    pub most_of_strangers: usize,
    /// How many one stranger's.
    pub most_per_source: usize,
}

/// How many there are, whatever configuration they came in under.
#[derive(Default)]
struct Counts {
    total: AtomicUsize,
    of_meta: AtomicUsize,
    of_allowed: AtomicUsize,
    of_others: AtomicUsize,
    sources: Arc<SourceCounts>,
}

impl Admission {
    /// `reserved_for_meta`: a share of `most`; `per_source`: `None` for a quarter of what strangers
    /// may use.
    pub fn new(most: usize, reserved_for_meta: f64, per_source: Option<usize>) -> Self {
        let most_of_strangers = most.saturating_sub((most as f64 * reserved_for_meta).ceil() as usize);
        Self {
            most,
            most_of_strangers,
            most_per_source: per_source.unwrap_or((most_of_strangers / 4).max(1)),
            counts: Arc::default(),
        }
    }

    /// The same connections under other limits; those that are there stay.
    pub fn after(self, former: &Self) -> Self {
        Self { counts: Arc::clone(&former.counts), ..self }
    }

    /// A place for a connection of `client`'s.
    pub fn admit(&self, client: IpAddr, class: Class) -> Result<Slot, ConnectionRefusal> {
        let counts = &self.counts;
        // What others than strangers may have is only bounded in total.
        let most = if class == Class::Other { self.most_of_strangers } else { usize::MAX };
        let of_class = Place::take(counts, Counts::of_class, class, most);
        let of_class = of_class.ok_or(ConnectionRefusal::ReservedForMeta)?;
        let of_source = match class {
            Class::Meta | Class::Allowed => None,
            Class::Other => {
                let place = SourcePlace::take(&counts.sources, source_of(client), self.most_per_source);
                Some(place.ok_or(ConnectionRefusal::PerSource)?)
            }
        };
        // Last: a stranger who is refused must not have had, for a moment, what a connection of
        // Meta's needed.
        let total = Place::take(counts, |counts, _| &counts.total, class, self.most);
        let total = total.ok_or(ConnectionRefusal::Connections)?;
        Ok(Slot { _total: total, _of_class: of_class, _of_source: of_source })
    }

    /// Connections of `class` at the moment.
    pub fn count(&self, class: Class) -> usize {
        self.counts.of_class(class).load(Ordering::Relaxed)
    }
}

impl Counts {
    fn of_class(&self, class: Class) -> &AtomicUsize {
        match class {
            Class::Meta => &self.of_meta,
            Class::Allowed => &self.of_allowed,
            Class::Other => &self.of_others,
        }
    }
}

/// A connection's place in the counts; given back when dropped.
pub struct Slot {
    _total: Place,
    _of_class: Place,
    _of_source: Option<SourcePlace>,
}

/// One of the counts.
type Count = fn(&Counts, Class) -> &AtomicUsize;

/// A place in one of the counts.
struct Place {
    counts: Arc<Counts>,
    count: Count,
    class: Class,
}

impl Place {
    fn take(counts: &Arc<Counts>, count: Count, class: Class, most: usize) -> Option<Self> {
        // Nothing else is ordered by these counts, so they need no ordering themselves.
        let place = Self { counts: Arc::clone(counts), count, class };
        (count(counts, class).fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        (self.count)(&self.counts, self.class).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefixes::{Classifier, Table};

    fn admission(most: usize, reserved: f64, per_source: Option<usize>) -> Admission {
        Admission::new(most, reserved, per_source)
    }

    fn many(admission: &Admission, client: &str, count: usize) -> (Vec<Slot>, Vec<ConnectionRefusal>) {
        let client = client.parse().unwrap();
        let classifier = Classifier::new(Table::builtin(), vec!["192.0.2.0/24".parse().unwrap()]);
        let class = classifier.classify(client).class;
        let (mut slots, mut refused) = (Vec::new(), Vec::new());
        for _ in 0..count {
            match admission.admit(client, class) {
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
        assert!(admission.counts.sources.is_empty());
        assert_eq!(admission.counts.total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn meta_allowed_and_this_machine_are_exempt() {
        let admission = admission(20, 1.0, Some(1));
        for client in ["157.240.1.1", "192.0.2.7", "127.0.0.1", "::1", "::ffff:157.240.1.1"] {
            assert_eq!(many(&admission, client, 3).0.len(), 3, "{client}");
        }
        assert_eq!(many(&admission, "198.51.100.1", 1).1, [ConnectionRefusal::ReservedForMeta]);
    }

    #[test]
    fn other_limits_hold_for_those_who_are_there_too() {
        let before = admission(10, 0.5, Some(100));
        let (slots, _) = many(&before, "198.51.100.1", 3);
        let after = admission(8, 0.5, Some(100)).after(&before);
        assert_eq!(many(&after, "198.51.100.1", 2).0.len(), 1, "four strangers may be here, and three were");
        drop(slots);
        assert_eq!(many(&after, "198.51.100.1", 5).0.len(), 4);
    }
}
