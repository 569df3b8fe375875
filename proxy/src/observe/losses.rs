use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use hookgate_ebpf::abi;

use super::{FailedPosts, Loss, OpenPosts, clock};
use crate::prefixes::CounterIndex;
use crate::sys::Shared;

/// Connections and POSTs of Meta and the operator, and what was lost of them, by prefix, upstream
/// and cause. Counting takes a lock only where something was lost.
#[derive(Debug)]
pub struct Losses {
    /// [`CELLS`] numbers a prefix.
    carried: Shared,
    /// POSTs that have begun and not ended, or of which no figures tell yet that hookgate cut them.
    pub open_posts: OpenPosts,
    lost: Mutex<HashMap<Loss, u64>>,
    /// Those that may be made good.
    pub failed_posts: FailedPosts,
    /// When something was lost last, in seconds since 1970.
    latest: AtomicI64,
}

/// POSTs, and connections.
const CELLS: usize = 2;
/// The most that is told apart between two samples.
const MAX_ENTRIES: usize = 4096;

impl Losses {
    /// Errors: no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            carried: Shared::private(abi::CAPACITY as usize * CELLS)?,
            open_posts: OpenPosts::private()?,
            lost: Mutex::default(),
            failed_posts: FailedPosts::default(),
            latest: AtomicI64::new(0),
        })
    }

    pub fn count_post(&self, counter: CounterIndex) {
        self.count(counter, 0);
    }

    pub fn count_connection(&self, counter: CounterIndex) {
        self.count(counter, 1);
    }

    /// POSTs and connections since the process started.
    pub fn carried(&self, counter: CounterIndex) -> (u64, u64) {
        let value = |cell| self.cell(counter, cell).map_or(0, |cell| cell.load(Ordering::Relaxed));
        (value(0), value(1))
    }

    pub fn lose(&self, loss: Loss) {
        self.note(clock::now().as_second());
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = lost.len() < MAX_ENTRIES || lost.contains_key(&loss);
        let loss =
            if has_room { loss } else { Loss { upstream: None, counter: CounterIndex::OTHER, ..loss } };
        *lost.entry(loss).or_default() += 1;
    }

    /// Something of Meta's was lost at this time, in seconds since 1970.
    pub fn note(&self, time: i64) {
        self.latest.fetch_max(time, Ordering::Relaxed);
    }

    /// When something of Meta's was lost last.
    pub fn latest(&self) -> i64 {
        self.latest.load(Ordering::Relaxed)
    }

    /// What was lost since this was called last.
    pub fn take(&self) -> HashMap<Loss, u64> {
        std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self, counter: CounterIndex, cell: usize) {
        // Counts order nothing else.
        if let Some(cell) = self.cell(counter, cell) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn cell(&self, counter: CounterIndex, cell: usize) -> Option<&std::sync::atomic::AtomicU64> {
        self.carried.get(counter.get() * CELLS + cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Cause, LostAt};

    fn loss(upstream: &str) -> Loss {
        let (lost_at, cause) = (LostAt::Upstream, Cause::Status(500));
        Loss { counter: CounterIndex::numbered(7), upstream: Some(upstream.into()), lost_at, cause }
    }

    #[test]
    fn losses_are_taken_once() {
        let losses = Losses::new().unwrap();
        losses.lose(loss("a.example"));
        losses.lose(loss("a.example"));
        assert_eq!(losses.take(), HashMap::from([(loss("a.example"), 2)]));
        assert!(losses.take().is_empty());
    }

    #[test]
    fn what_is_told_apart_has_a_bound_and_nothing_is_forgotten() {
        let losses = Losses::new().unwrap();
        for number in 0..2 * MAX_ENTRIES {
            losses.lose(loss(&format!("{number}.example")));
        }
        let taken = losses.take();
        assert_eq!(taken.len(), MAX_ENTRIES + 1);
        assert_eq!(taken.values().sum::<u64>(), 2 * MAX_ENTRIES as u64);
    }
}
