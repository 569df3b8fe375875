//! Documents as they follow each other: what happened in between.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{Counts, Document};
use crate::observe;
use crate::prefixes::Network;

/// How many intervals are remembered.
pub const REMEMBERED: usize = 60;

/// Whose row: a prefix, or `None` for the rest of the world.
pub type Whose = Option<Network>;

/// The latest document, and what each row did in the intervals before it.
#[derive(Debug, Default)]
pub struct Live {
    latest: Option<Document>,
    past: HashMap<Whose, VecDeque<Interval>>,
}

/// What one row did between two documents.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    pub seconds: f64,
    pub packets: u64,
    pub bytes: u64,
    pub syns: u64,
    pub handshakes: u64,
    pub requests: u64,
    pub delivered: u64,
}

impl Live {
    /// The next document, `after` the one before.
    pub fn push(&mut self, document: Document, after: Duration) {
        if let Some(before) = self.latest.replace(document) {
            let seconds = after.as_secs_f64();
            let before: HashMap<Whose, &Counts> = rows(&before).collect();
            for (whose, now) in self.latest.iter().flat_map(rows) {
                let interval = Interval::between(before.get(&whose).copied(), now, seconds);
                let past = self.past.entry(whose).or_default();
                past.push_back(interval);
                if past.len() > REMEMBERED {
                    past.pop_front();
                }
            }
        }
    }

    pub fn latest(&self) -> Option<&Document> {
        self.latest.as_ref()
    }

    /// Of the row, the oldest first.
    pub fn past(&self, whose: Whose) -> impl DoubleEndedIterator<Item = &Interval> + ExactSizeIterator {
        static NOTHING: VecDeque<Interval> = VecDeque::new();
        self.past.get(&whose).unwrap_or(&NOTHING).iter()
    }

    /// What the row did last.
    pub fn last(&self, whose: Whose) -> Interval {
        self.past(whose).next_back().copied().unwrap_or_default()
    }
}

/// Every row, the rest of the world last.
pub fn rows(document: &Document) -> impl Iterator<Item = (Whose, &Counts)> {
    let prefixes = document.prefixes.iter().map(|row| (Some(row.prefix), &row.counts));
    prefixes.chain([(None, &document.other)])
}

impl Interval {
    /// A count that went down has begun anew: all of it is new.
    fn between(before: Option<&Counts>, now: &Counts, seconds: f64) -> Self {
        let grown = |of: fn(&Counts) -> u64| {
            let (before, now) = (before.map_or(0, of), of(now));
            observe::grown(now, before)
        };
        Self {
            seconds,
            packets: grown(|c| c.packets),
            bytes: grown(|c| c.bytes),
            syns: grown(|c| c.syns),
            handshakes: grown(|c| c.handshakes.unwrap_or(0)),
            requests: grown(|c| c.funnel.map_or(0, |f| f.requests)),
            delivered: grown(|c| c.funnel.map_or(0, |f| f.delivered)),
        }
    }

    /// A count as a rate per second.
    pub fn per_second(&self, count: u64) -> f64 {
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    /// Which share of the opened connections was completed; `None` when none was opened.
    pub fn completion(&self) -> Option<f64> {
        (self.syns > 0).then(|| (self.handshakes as f64 / self.syns as f64).min(1.0))
    }
}
