//! The latest requests, in memory, with their outcomes: they tell where a message was lost.

use std::cell::Cell;
use std::cmp::Reverse;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::funnel::Step;
use super::lost_at::LostAt;
use super::progress::BodyProgress;
use super::upstream::UpstreamMetrics;
use super::words::{MAX_ID_BYTES, MAX_METHOD_BYTES, MAX_PATH_BYTES, MAX_SOURCE_BYTES, start_of};
use crate::prefixes::CounterIndex;

/// How many are kept.
pub const KEPT: usize = 10_000;
/// How many that were not delivered are kept besides, of Meta's and of everybody else's each: a
/// stranger who knocks at every door does not push out what Meta has lost, nor do many that went
/// well.
pub const KEPT_FAILURES: usize = 25;

/// The latest requests. Each thread writes to a part of its own, so that no core waits for another.
#[derive(Debug)]
pub struct Deliveries {
    parts: Box<[Mutex<Part>]>,
    /// The number of the next one, from 1 on.
    next: AtomicU64,
}

/// One thread's.
#[derive(Debug)]
struct Part {
    all: Ring,
    failures_of_meta: Ring,
    failures_of_others: Ring,
}

/// The last of one thread; memory is taken as they come, and then used again and again.
#[derive(Debug)]
struct Ring {
    most: usize,
    records: Vec<Record>,
    /// Where the next one goes, once all are there: the oldest.
    oldest: usize,
}

/// A request that has ended, as it is written down.
#[derive(Clone, Debug)]
pub(super) struct Record {
    number: u64,
    time: Timestamp,
    /// Id, method, path and source, one after the other.
    words: String,
    ends: [usize; 3],
    pub(super) counter: CounterIndex,
    pub(super) upstream: Option<Arc<UpstreamMetrics>>,
    pub(super) end: Step,
    pub(super) stage: &'static str,
    pub(super) code: Option<u16>,
    pub(super) upstream_code: Option<u16>,
    pub(super) error: Option<&'static str>,
    pub(super) lost_at: Option<LostAt>,
    pub(super) attempts: u32,
    /// A sentence about `error`, as in the log.
    pub(super) detail: Option<Box<str>>,
    pub(super) body: BodyProgress,
    pub(super) connection: Option<&'static str>,
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
    /// The stage at which it ended; `None`: it was delivered, or is none that could be.
    #[serde(default)]
    pub lost_at: Option<String>,
    pub error: Option<String>,
    pub upstream_code: Option<u16>,
    pub duration_seconds: f64,
    /// How often an upstream was tried.
    pub attempts: u32,
    /// A sentence about `error`.
    #[serde(default)]
    pub detail: Option<String>,
    /// The body's length; `None`: not known.
    #[serde(default)]
    pub body_bytes: Option<u64>,
    /// The least number of them that the upstream's kernel has acknowledged.
    #[serde(default)]
    pub body_sent_bytes: u64,
    /// Over what it was last tried: a `new` connection, or a `pooled` one that had been idle.
    /// `None`: there was none.
    #[serde(default)]
    pub connection: Option<String>,
}

impl Delivery {
    /// How far its body got.
    pub fn body(&self) -> BodyProgress {
        BodyProgress { length: self.body_bytes, acknowledged: self.body_sent_bytes }
    }

    /// Whether there was a connection to the upstream.
    pub fn has_reached_upstream(&self) -> bool {
        ["response", "done"].contains(&self.stage.as_str())
    }
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

    /// Writes one down that ended at `time`: `words` are its id, method, path and source, `fill`
    /// has the rest.
    pub(super) fn add(&self, words: [&str; 4], time: Timestamp, fill: impl FnOnce(&mut Record)) {
        let part = &self.parts[PART.get() % self.parts.len()];
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        let Part { all, failures_of_meta, failures_of_others } = &mut *part;
        let record = all.next();
        record.number = self.next.fetch_add(1, Ordering::Relaxed);
        record.time = time;
        record.write(words);
        fill(record);
        if record.end != Step::Delivered {
            let failures = if record.counter.is_meta() { failures_of_meta } else { failures_of_others };
            failures.next().clone_from(record);
        }
    }

    /// Those after the number `after`, at most [`KEPT`], in the order of their numbers. A caller
    /// that goes on after the last number misses none. `prefix`: the prefix that counters belong
    /// to.
    pub fn after(&self, after: u64, prefix: impl Fn(CounterIndex) -> Option<String>) -> Vec<Delivery> {
        // Numbers are given under the parts' locks: those below `end` are written down. A number
        // beyond may be there while a smaller one is still coming to a part that was read before.
        let end = self.next.load(Ordering::Relaxed);
        // A number that was not given yet comes from an earlier process.
        let after = if after < end { after } else { 0 };
        let mut told: Vec<Delivery> = Vec::new();
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let new = part.all.records.iter().filter(|record| (after + 1..end).contains(&record.number));
            told.extend(new.map(|record| record.told(&prefix)));
        }
        told.sort_unstable_by_key(|delivery| delivery.number);
        told.split_off(told.len().saturating_sub(KEPT))
    }

    /// The latest that were not delivered, the newest first: at most [`KEPT_FAILURES`] of Meta's
    /// and as many of everybody else's, also those that [`Deliveries::after`] has forgotten.
    /// `prefix` as there.
    pub fn failures(&self, prefix: impl Fn(CounterIndex) -> Option<String>) -> Vec<Delivery> {
        let of_meta = self.latest(|part| &part.failures_of_meta, |_| true);
        let of_others = self.latest(|part| &part.failures_of_others, |_| true);
        told(&[of_meta, of_others].concat(), prefix)
    }

    /// The same of one upstream alone, as far as [`Deliveries::after`] knows them.
    pub fn failures_of(
        &self,
        upstream: &UpstreamMetrics,
        prefix: impl Fn(CounterIndex) -> Option<String>,
    ) -> Vec<Delivery> {
        let is_its = |record: &Record| record.upstream.as_deref().is_some_and(|its| ptr::eq(its, upstream));
        told(&self.latest(|part| &part.all, |record| record.end != Step::Delivered && is_its(record)), prefix)
    }

    /// The newest [`KEPT_FAILURES`] that are `wanted`, in no order. No worker waits until they are
    /// put into words.
    fn latest(&self, ring: impl Fn(&Part) -> &Ring, wanted: impl Fn(&Record) -> bool) -> Vec<Record> {
        let mut found = Vec::new();
        for part in &self.parts {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let wanted = ring(&part).newest_first().filter(|record| wanted(record));
            found.extend(wanted.take(KEPT_FAILURES).cloned());
        }
        found.sort_unstable_by_key(|record| Reverse(record.number));
        found.truncate(KEPT_FAILURES);
        found
    }
}

/// In words, the newest first.
fn told(records: &[Record], prefix: impl Fn(CounterIndex) -> Option<String>) -> Vec<Delivery> {
    let mut told = records.iter().map(|record| record.told(&prefix)).collect::<Vec<_>>();
    told.sort_unstable_by_key(|delivery| Reverse(delivery.number));
    told
}

impl Default for Part {
    fn default() -> Self {
        Self {
            all: Ring::new(KEPT),
            failures_of_meta: Ring::new(KEPT_FAILURES),
            failures_of_others: Ring::new(KEPT_FAILURES),
        }
    }
}

impl Ring {
    fn new(most: usize) -> Self {
        Self { most, records: Vec::new(), oldest: 0 }
    }

    fn newest_first(&self) -> impl Iterator<Item = &Record> {
        let (newer, older) = self.records.split_at(self.oldest);
        newer.iter().rev().chain(older.iter().rev())
    }

    fn next(&mut self) -> &mut Record {
        let at = match self.records.len() < self.most {
            true => {
                // All at once: the machine gives the memory only as it is written.
                self.records.reserve_exact(self.most - self.records.len());
                self.records.push(Record::default());
                self.records.len() - 1
            }
            false => {
                let oldest = self.oldest;
                self.oldest = (oldest + 1) % self.most;
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
            counter: CounterIndex::OTHER,
            upstream: None,
            end: Step::Failed,
            stage: "",
            code: None,
            upstream_code: None,
            error: None,
            lost_at: None,
            attempts: 0,
            detail: None,
            body: BodyProgress::default(),
            connection: None,
            duration: Duration::ZERO,
        }
    }
}

impl Record {
    /// One that is too long is cut: what is kept of 10,000 requests is kept for good.
    fn write(&mut self, [id, method, path, source]: [&str; 4]) {
        let kept = [
            start_of(id, MAX_ID_BYTES),
            start_of(method, MAX_METHOD_BYTES),
            start_of(path, MAX_PATH_BYTES),
            start_of(source, MAX_SOURCE_BYTES),
        ];
        self.words.clear();
        self.words.reserve_exact(kept.iter().map(|(word, cut)| word.len() + cut.len()).sum());
        for (at, (word, cut)) in kept.into_iter().enumerate() {
            self.words.push_str(word);
            self.words.push_str(cut);
            if let Some(end) = self.ends.get_mut(at) {
                *end = self.words.len();
            }
        }
    }

    fn told(&self, prefix: impl Fn(CounterIndex) -> Option<String>) -> Delivery {
        let [id, method, path] = self.ends;
        Delivery {
            number: self.number,
            time: format!("{:.3}", self.time),
            id: self.words[..id].into(),
            source: self.words[path..].into(),
            prefix: prefix(self.counter),
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
            lost_at: self.lost_at.map(|stage| stage.name().to_owned()),
            error: self.error.map(str::to_owned),
            upstream_code: self.upstream_code,
            duration_seconds: self.duration.as_secs_f64(),
            attempts: self.attempts,
            detail: self.detail.as_deref().map(str::to_owned),
            body_bytes: self.body.length,
            body_sent_bytes: self.body.acknowledged,
            connection: self.connection.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests;
