//! The way from the threads that relay to the one that keeps the ledger.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{IdKey, Report};

/// The number of reports at which the ledger's thread is woken.
const WAKE: usize = 64;
/// What comes above is not written down.
const MAX_WAITING: usize = 8192;
/// The same in bytes of bodies.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// How many are kept to be filled again, and with how many events each.
const MAX_FREE: usize = 256;
const MAX_FREE_EVENTS: usize = 64;

/// What has ended and is not in the ledger yet. A relaying thread takes a lock for a moment, and
/// memory only if the ledger is slower than it.
pub struct Intake {
    key: IdKey,
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Report>,
    /// Of the bodies.
    bytes: usize,
    free: Vec<Report>,
    /// Some had no room.
    has_missed: bool,
}

impl Intake {
    pub fn new(key: IdKey) -> Self {
        Self { key, queue: Mutex::default(), filled: Condvar::new() }
    }

    /// The key of the ids.
    pub fn key(&self) -> &IdKey {
        &self.key
    }

    /// A report to fill; what it says is of no meaning.
    pub fn report(&self) -> Report {
        let free = self.lock().free.pop();
        free.unwrap_or_default()
    }

    pub fn add(&self, report: Report) {
        let mut queue = self.lock();
        let bytes = queue.bytes.saturating_add(report.body.bytes.len());
        if queue.waiting.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES {
            queue.has_missed = true;
            return;
        }
        queue.bytes = bytes;
        queue.waiting.push(report);
        if queue.waiting.len() == WAKE {
            self.filled.notify_one();
        }
    }

    /// Waits until there is much to do, or the time is over.
    pub fn wait(&self, most: Duration) {
        let queue = self.lock();
        let is_little = |queue: &mut Queue| queue.waiting.len() < WAKE;
        drop(self.filled.wait_timeout_while(queue, most, is_little));
    }

    /// Moves what waits into `reports`, which is empty. Whether any had no room since.
    pub fn take(&self, reports: &mut Vec<Report>) -> bool {
        let mut queue = self.lock();
        std::mem::swap(&mut queue.waiting, reports);
        queue.bytes = 0;
        std::mem::take(&mut queue.has_missed)
    }

    /// Takes reports back to be filled again.
    pub fn give_back(&self, reports: &mut Vec<Report>) {
        let mut queue = self.lock();
        let room = MAX_FREE.saturating_sub(queue.free.len());
        let small = |report: &Report| report.observation.events.capacity() <= MAX_FREE_EVENTS;
        queue.free.extend(reports.drain(..).filter(small).take(room));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}
