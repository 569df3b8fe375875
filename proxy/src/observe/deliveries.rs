//! The latest requests, in memory: what became of each. For whoever asks where a message was lost.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::funnel::{Row, Step};
use super::{UpstreamMetrics, clock};

/// How many are kept.
pub const KEPT: usize = 10_000;
/// The longest path that is kept whole, in bytes.
const LONGEST_PATH: usize = 512;

/// The latest requests. Each thread writes to a part of its own, so that no core waits for another.
#[derive(Debug)]
pub struct Deliveries {
    parts: Box<[Mutex<Ring>]>,
    /// The number of the next one, from 1 on.
    next: AtomicU64,
}

/// The last [`KEPT`] of one thread; memory is taken as they come, and then used again and again.
#[derive(Debug, Default)]
struct Ring {
    records: Vec<Record>,
    /// Where the next one goes, once all are there: the oldest.
    oldest: usize,
}

/// A request that has ended, as it is written down.
#[derive(Debug)]
pub(super) struct Record {
    number: u64,
    time: Timestamp,
    /// Id, method, path and source, one after the other.
    words: String,
    ends: [usize; 3],
    pub(super) row: Row,
    pub(super) upstream: Option<Arc<UpstreamMetrics>>,
    pub(super) end: Step,
    pub(super) stage: &'static str,
    pub(super) code: Option<u16>,
    pub(super) upstream_code: Option<u16>,
    pub(super) error: Option<&'static str>,
    pub(super) attempts: u32,
    pub(super) duration: Duration,
}

/// A request that has ended, as it is told; `hookgate deliveries --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Ascending, from 1 on.
    pub number: u64,
    /// When it ended, RFC 3339 in UTC with milliseconds.
    pub time: String,
    pub id: String,
    pub source: String,
    /// The prefix of Meta's that the source belongs to.
    pub prefix: Option<String>,
    pub upstream: Option<String>,
    pub method: String,
    /// Verify tokens masked.
    pub path: String,
    pub outcome: Outcome,
    pub code: Option<u16>,
    pub stage: String,
    pub error: Option<String>,
    pub upstream_code: Option<u16>,
    pub duration_seconds: f64,
    /// How often an upstream was tried.
    pub attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Delivered,
    Refused,
    Failed,
}

thread_local! {
    /// Which part this thread writes to.
    static PART: Cell<usize> = const { Cell::new(0) };
}

impl Default for Deliveries {
    fn default() -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        Self { parts: (0..threads).map(|_| Mutex::default()).collect(), next: AtomicU64::new(1) }
    }
}

impl Deliveries {
    /// From now on this thread, one of as many as there are cores, writes to the part `index`.
    pub fn use_part(index: usize) {
        PART.set(index);
    }

    /// Writes one down: `words` are its id, method, path and source, `fill` has the rest.
    pub(super) fn add(&self, words: [&str; 4], fill: impl FnOnce(&mut Record)) {
        let part = &self.parts[PART.get() % self.parts.len()];
        let mut ring = part.lock().unwrap_or_else(PoisonError::into_inner);
        let record = ring.next();
        record.number = self.next.fetch_add(1, Ordering::Relaxed);
        record.time = clock::now();
        record.write(words);
        fill(record);
    }

    /// Those after the number `after`, at most [`KEPT`], in the order of their numbers. `prefix` tells whose a row is.
    pub fn after(&self, after: u64, prefix: impl Fn(Row) -> Option<String>) -> Vec<Delivery> {
        let mut told: Vec<Delivery> = Vec::new();
        for part in &self.parts {
            let ring = part.lock().unwrap_or_else(PoisonError::into_inner);
            let new = ring.records.iter().filter(|record| record.number > after);
            told.extend(new.map(|record| record.told(&prefix)));
        }
        told.sort_unstable_by_key(|delivery| delivery.number);
        told.split_off(told.len().saturating_sub(KEPT))
    }
}

impl Ring {
    fn next(&mut self) -> &mut Record {
        let at = match self.records.len() < KEPT {
            true => {
                // All at once: the machine gives the memory only as it is written.
                self.records.reserve_exact(KEPT - self.records.len());
                self.records.push(Record::default());
                self.records.len() - 1
            }
            false => {
                let oldest = self.oldest;
                self.oldest = (oldest + 1) % KEPT;
                oldest
            }
        };
        &mut self.records[at]
    }
}

impl Default for Record {
    fn default() -> Self {
        Self {
            number: 0,
            time: Timestamp::UNIX_EPOCH,
            words: String::new(),
            ends: [0; 3],
            row: Row::OTHER,
            upstream: None,
            end: Step::Failed,
            stage: "",
            code: None,
            upstream_code: None,
            error: None,
            attempts: 0,
            duration: Duration::ZERO,
        }
    }
}

impl Record {
    fn write(&mut self, [id, method, path, source]: [&str; 4]) {
        let whole = path.len() <= LONGEST_PATH;
        let kept = if whole { path } else { &path[..path.floor_char_boundary(LONGEST_PATH)] };
        self.words.clear();
        self.words.reserve(id.len() + method.len() + kept.len() + '…'.len_utf8() + source.len());
        self.words.push_str(id);
        self.ends[0] = self.words.len();
        self.words.push_str(method);
        self.ends[1] = self.words.len();
        self.words.push_str(kept);
        if !whole {
            self.words.push('…');
        }
        self.ends[2] = self.words.len();
        self.words.push_str(source);
    }

    fn told(&self, prefix: impl Fn(Row) -> Option<String>) -> Delivery {
        let [id, method, path] = self.ends;
        Delivery {
            number: self.number,
            time: format!("{:.3}", self.time),
            id: self.words[..id].into(),
            source: self.words[path..].into(),
            prefix: prefix(self.row),
            upstream: self.upstream.as_ref().map(|upstream| upstream.name().into()),
            method: self.words[id..method].into(),
            path: self.words[method..path].into(),
            outcome: match self.end {
                Step::Delivered => Outcome::Delivered,
                Step::Refused => Outcome::Refused,
                _ => Outcome::Failed,
            },
            code: self.code,
            stage: self.stage.into(),
            error: self.error.map(str::to_owned),
            upstream_code: self.upstream_code,
            duration_seconds: self.duration.as_secs_f64(),
            attempts: self.attempts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(deliveries: &Deliveries, path: &str) {
        deliveries.add(["id", "POST", path, "157.240.1.1"], |record| record.end = Step::Delivered);
    }

    #[test]
    fn the_latest_are_kept_in_order() {
        let deliveries = Deliveries::default();
        for n in 1..=KEPT + 5 {
            Deliveries::use_part(n);
            add(&deliveries, &format!("/{n}"));
        }
        Deliveries::use_part(0);
        let told = deliveries.after(0, |_| None);
        assert_eq!(told.len(), KEPT);
        assert!(told.windows(2).all(|two| two[0].number + 1 == two[1].number));
        assert_eq!(told.last().map(|last| last.path.clone()), Some(format!("/{}", KEPT + 5)));
        let last = told[KEPT - 3].number;
        assert_eq!(deliveries.after(last, |_| None).len(), 2);
    }

    #[test]
    fn words_are_told_apart_and_long_paths_cut() {
        let deliveries = Deliveries::default();
        add(&deliveries, "/a");
        add(&deliveries, &"/ü".repeat(400));
        let told = deliveries.after(0, |_| Some("157.240.0.0/17".into()));
        let first = &told[0];
        assert_eq!((&*first.id, &*first.method, &*first.path), ("id", "POST", "/a"));
        assert_eq!((&*first.source, first.prefix.as_deref()), ("157.240.1.1", Some("157.240.0.0/17")));
        assert_eq!(first.outcome, Outcome::Delivered);
        assert!(told[1].path.len() <= LONGEST_PATH + '…'.len_utf8() && told[1].path.ends_with('…'));
    }
}
