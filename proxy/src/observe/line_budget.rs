use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Counter;

/// Lines a second that refused requests of strangers may add to the log, all strangers together.
const LINES_PER_SECOND: u64 = 20;
/// How many such lines may come at once.
const BURST_LINES: u64 = 200;
/// How often the log says how many lines were left out.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

const NANOS_PER_LINE: u64 = 1_000_000_000 / LINES_PER_SECOND;

/// A token bucket: strangers cannot fill the log, however many requests they send.
#[derive(Debug)]
pub(super) struct LineBudget {
    begun: Instant,
    /// When the bucket is full again, in nanoseconds since `begun`.
    full_at: AtomicU64,
    left_out: AtomicU64,
    /// All that were left out, ever.
    pub(super) left_out_lines: Counter,
    /// Since when `left_out` counts, in nanoseconds since `begun`.
    counted_since: AtomicU64,
}

impl LineBudget {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            full_at: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            left_out_lines: Counter::default(),
            counted_since: AtomicU64::new(0),
        }
    }

    /// Whether one more line may be written; one that may not is counted.
    pub(super) fn take(&self) -> bool {
        let now = self.now();
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now) + NANOS_PER_LINE;
            (full_at - now <= BURST_LINES * NANOS_PER_LINE).then_some(full_at)
        });
        if taken.is_err() {
            self.left_out_lines.add(1);
            if self.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
                self.counted_since.store(now, Ordering::Relaxed);
            }
        }
        taken.is_ok()
    }

    /// How many lines were left out, when it is time to say so.
    pub(super) fn report(&self) -> Option<u64> {
        if self.left_out.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let counted_for = self.now().saturating_sub(self.counted_since.load(Ordering::Relaxed));
        if counted_for < nanos(REPORT_INTERVAL) {
            return None;
        }
        // Another thread may have reported them in the meantime.
        Some(self.left_out.swap(0, Ordering::Relaxed)).filter(|left_out| *left_out > 0)
    }

    fn now(&self) -> u64 {
        nanos(self.begun.elapsed())
    }
}

/// Enough for 584 years.
fn nanos(duration: Duration) -> u64 {
    duration.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_to_the_rate_and_counted() {
        let budget = LineBudget::new();
        advance(Duration::from_secs(1)).await;
        let taken = |budget: &LineBudget| (0..1000).filter(|_| budget.take()).count() as u64;
        assert_eq!(taken(&budget), BURST_LINES);
        assert_eq!(budget.report(), None, "more may come");
        advance(Duration::from_secs(1)).await;
        assert_eq!(taken(&budget), LINES_PER_SECOND);
        advance(REPORT_INTERVAL).await;
        assert_eq!(budget.report(), Some(2000 - BURST_LINES - LINES_PER_SECOND));
        assert_eq!(budget.report(), None);
        assert_eq!(taken(&budget), BURST_LINES);
    }
}
