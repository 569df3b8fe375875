use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::figures::Group;
use super::limit::LimitCode;
use super::minute::MINUTE;
use super::query::Query;
use super::row::Field;
use super::stage::{Stage, Unit};
use crate::guard::KernelCounters;
use crate::observe::{Cause, Interrupted, clock};
use crate::prefixes::Network;

/// What happened in a minute, or in an hour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Period {
    /// In seconds of Unix time.
    pub start: i64,
    /// All of Meta's prefixes together.
    #[serde(default, skip_serializing_if = "Group::is_empty")]
    pub meta: Group,
    /// The rest of the world. What is lost of it counts only for `allow` and loopback.
    #[serde(default, skip_serializing_if = "Group::is_empty")]
    pub other: Group,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prefixes: BTreeMap<Network, Group>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, Group>,
    #[serde(default, skip_serializing_if = "is_quiet")]
    pub kernel: KernelCounters,
    /// What could not be seen.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub limits: BTreeSet<LimitCode>,
    /// Prefixes or upstreams were left out for want of room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

fn is_quiet(kernel: &KernelCounters) -> bool {
    let KernelCounters { listen_overflows, listen_drops, conntrack_drops } = kernel;
    [listen_overflows, listen_drops, conntrack_drops].iter().all(|count| count.unwrap_or(0) == 0)
}

/// All that happened in a stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// RFC 3339 in UTC: where the figures begin, within what was asked for.
    pub from: String,
    pub to: String,
    pub sum: Period,
}

impl Window {
    /// Of `periods`, oldest first, those that a query is about. `None`: there are none.
    pub fn new(periods: &[Period], query: &Query, now: Timestamp) -> Option<Self> {
        let from = query.from(now.as_second());
        let mut within = periods.iter().filter(|period| period.start >= from);
        let mut sum = within.next()?.clone();
        let first = sum.start;
        within.for_each(|period| sum.add(period));
        Some(Self { from: clock::date(first), to: clock::date(Query::to(now.as_second())), sum })
    }
}

impl Period {
    pub fn starting(start: i64) -> Self {
        Self { start, ..Self::default() }
    }

    /// The minute in which a process was killed, with the POSTs that it left.
    pub fn of_interrupted(left: &Interrupted, now: i64) -> Self {
        let Interrupted { seen, meta, other } = *left;
        let group = |posts| {
            let mut group = Group::default();
            if posts > 0 {
                group.row[Field::Posts] = posts;
                group.lose(Unit::Posts, Stage::Machine, &Cause::KILLED.to_string(), posts);
            }
            group
        };
        // A file that is damaged may tell of a time to come.
        let start = seen.min(now).div_euclid(MINUTE) * MINUTE;
        Self { meta: group(meta), other: group(other), ..Self::starting(start) }
    }

    /// Whether nothing happened.
    pub fn is_quiet(&self) -> bool {
        self.meta.is_empty() && self.other.is_empty() && self.upstreams.is_empty()
    }

    pub fn add(&mut self, more: &Self) {
        self.meta.add(&more.meta);
        self.other.add(&more.other);
        for (network, group) in &more.prefixes {
            self.prefixes.entry(*network).or_default().add(group);
        }
        for (name, group) in &more.upstreams {
            self.upstreams.entry(name.clone()).or_default().add(group);
        }
        self.kernel = self.kernel.plus(&more.kernel);
        self.limits.extend(&more.limits);
        self.is_cut |= more.is_cut;
    }

    /// As JSON of at most `room` bytes: prefixes and upstreams without losses and with little
    /// traffic are left out first. `None`: not even the rest has room.
    pub fn encode(&self, room: usize) -> Option<Vec<u8>> {
        let whole = serde_json::to_vec(self).ok()?;
        if whole.len() <= room {
            return Some(whole);
        }
        let mut cut = Self { is_cut: true, ..self.clone() };
        loop {
            let kept = cut.prefixes.len().max(cut.upstreams.len());
            if kept == 0 {
                return None;
            }
            keep_largest(&mut cut.prefixes, kept - kept.div_ceil(8));
            keep_largest(&mut cut.upstreams, kept - kept.div_ceil(8));
            let text = serde_json::to_vec(&cut).ok()?;
            if text.len() <= room {
                return Some(text);
            }
        }
    }
}

fn keep_largest<K: Ord + Clone>(groups: &mut BTreeMap<K, Group>, count: usize) {
    let size = |group: &Group| Reverse((group.losses(), group.row[Field::Posts], group.row[Field::Packets]));
    let mut sizes: Vec<_> = groups.iter().map(|(key, group)| (size(group), key.clone())).collect();
    sizes.sort();
    for (_, key) in sizes.into_iter().skip(count) {
        groups.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::{Stage, Unit};

    #[test]
    fn those_with_losses_are_kept_where_room_is_scarce() {
        let mut period = Period::starting(60);
        for number in 0..500_u64 {
            let group = period.upstreams.entry(format!("tenant-{number}.example.com")).or_default();
            group.row[Field::Posts] = 1 + number;
            if number % 100 == 7 {
                group.lose(Unit::Posts, Stage::Dns, "dns_error", 1);
            }
        }
        let text = period.encode(3000).unwrap();
        assert!(text.len() <= 3000, "{}", text.len());
        let read: Period = serde_json::from_slice(&text).unwrap();
        assert!(read.is_cut && read.upstreams.len() > 20, "{}", read.upstreams.len());
        for number in [7, 107, 207, 307, 407, 499] {
            assert!(read.upstreams.contains_key(&format!("tenant-{number}.example.com")), "{number}");
        }
        assert_eq!(period.encode(10), None);
    }
}
