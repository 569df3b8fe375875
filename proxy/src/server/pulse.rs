//! Whether every thread still turns: what a service manager's watchdog is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// Looks at the threads that serve.
pub(super) struct Pulse {
    beats: Vec<Arc<AtomicU64>>,
    /// `None`: nobody wants to know.
    every: Option<Duration>,
}

/// One thread's.
pub(super) struct Beat {
    count: Arc<AtomicU64>,
    every: Option<Duration>,
}

impl Pulse {
    /// Of `threads`, for whoever expects a word in each `watchdog` at least.
    pub(super) fn new(threads: usize, watchdog: Option<Duration>) -> Self {
        // Two words may come late before one is missed.
        Self { beats: (0..threads).map(|_| Arc::default()).collect(), every: watchdog.map(|limit| limit / 3) }
    }

    /// For each thread what it has to keep going.
    pub(super) fn beats(&self) -> impl Iterator<Item = Beat> + '_ {
        self.beats.iter().map(|count| Beat { count: Arc::clone(count), every: self.every })
    }

    /// Says from time to time that all of them turn, while they do.
    ///
    /// Errors: whoever is told has gone.
    pub(super) async fn tell<E>(self, alive: impl Fn() -> Result<(), E>) -> Result<(), E> {
        let Some(every) = self.every else { return Ok(()) };
        let counts = || self.beats.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        loop {
            let before = counts();
            sleep(every).await;
            if before.iter().zip(counts()).all(|(before, now)| *before != now) {
                alive()?;
            }
        }
    }
}

impl Beat {
    /// For ever, as a task of the thread.
    pub(super) async fn keep(self) {
        let Some(every) = self.every else { return };
        loop {
            self.count.fetch_add(1, Ordering::Relaxed);
            sleep(every / 3).await;
        }
    }
}
