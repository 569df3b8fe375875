//! The service manager's watchdog hears from time to time that every thread runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// Checks the threads that serve.
pub(super) struct Watchdog {
    heartbeats: Vec<Arc<AtomicU64>>,
    /// `None`: the service manager has no watchdog.
    interval: Option<Duration>,
}

/// The heartbeat of one thread.
pub(super) struct Heartbeat {
    count: Arc<AtomicU64>,
    interval: Option<Duration>,
}

impl Watchdog {
    /// For `threads`, and a service manager that expects a sign of life within `timeout`.
    pub(super) fn new(threads: usize, timeout: Option<Duration>) -> Self {
        // A notification may be late, and another one after it.
        Self {
            heartbeats: (0..threads).map(|_| Arc::default()).collect(),
            interval: timeout.map(|timeout| timeout / 3),
        }
    }

    /// One for each thread, to be run there.
    pub(super) fn heartbeats(&self) -> impl Iterator<Item = Heartbeat> + '_ {
        self.heartbeats.iter().map(|count| Heartbeat { count: Arc::clone(count), interval: self.interval })
    }

    /// Calls `alive` from time to time while every thread runs.
    ///
    /// Errors: `alive`'s.
    pub(super) async fn run<E>(self, alive: impl Fn() -> Result<(), E>) -> Result<(), E> {
        let Some(interval) = self.interval else { return Ok(()) };
        let counts = || self.heartbeats.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        loop {
            let before = counts();
            sleep(interval).await;
            if before.iter().zip(counts()).all(|(before, now)| *before != now) {
                alive()?;
            }
        }
    }
}

impl Heartbeat {
    /// Beats for ever; a task of the thread.
    pub(super) async fn run(self) {
        let Some(interval) = self.interval else { return };
        loop {
            self.count.fetch_add(1, Ordering::Relaxed);
            sleep(interval / 3).await;
        }
    }
}
