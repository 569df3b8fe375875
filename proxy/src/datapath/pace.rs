//! The least rate of a stranger's bodies: without one, a byte now and then would hold a slot in
//! flight for ever.

use std::time::Duration;

use tokio::time::Instant;

/// On average over `body_idle`.
const LEAST_BYTES_PER_SECOND: u64 = 1024;

/// How far a stranger's bodies have come, as of the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Since then it was the client who was waited for.
    since: Instant,
    /// What had been moved at the last look.
    bytes: u64,
}

impl Pace {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, bytes: 0 }
    }

    /// The upstream was waited for until now, which is no fault of the client's.
    pub(super) fn excuse(&mut self) {
        self.since = Instant::now();
    }

    /// When to look again.
    pub(super) fn due(&self, window: Duration) -> Instant {
        self.since + window
    }

    /// Looks after `window`: `bytes` have been moved in all. Whether they were enough.
    pub(super) fn is_kept(&mut self, bytes: u64, window: Duration) -> bool {
        let moved = bytes.saturating_sub(self.bytes);
        *self = Self { since: Instant::now(), bytes };
        u128::from(moved).saturating_mul(1000)
            >= u128::from(LEAST_BYTES_PER_SECOND).saturating_mul(window.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_kibibyte_a_second_is_enough_in_every_window() {
        let mut pace = Pace::new(Instant::now());
        for (moved, is_kept) in [(30 * 1024, true), (60 * 1024 - 1, false), (90 * 1024, true)] {
            assert_eq!(pace.due(WINDOW), Instant::now() + WINDOW);
            advance(WINDOW).await;
            assert_eq!(pace.is_kept(moved, WINDOW), is_kept, "{moved}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_the_upstream_was_waited_for_does_not_count() {
        let mut pace = Pace::new(Instant::now());
        advance(WINDOW).await;
        pace.excuse();
        assert_eq!(pace.due(WINDOW), Instant::now() + WINDOW);
    }
}
