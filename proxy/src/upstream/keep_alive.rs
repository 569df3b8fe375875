//! What an upstream does with idle connections, learnt from watching it: many servers close them
//! early and never say so, and a POST that is sent at that moment is lost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a lesson holds.
const LESSON: Duration = Duration::from_secs(600);
/// How long one holds that a restart of the upstream would explain as well.
const SHORT_LESSON: Duration = Duration::from_secs(10);
/// A close that comes sooner belongs to the response before it, not to idleness.
const AT_ONCE: Duration = Duration::from_millis(250);
/// Closes that are noticed within this time happened together.
const TOGETHER: Duration = Duration::from_millis(250);
/// What is idle for no longer can be used before anything is known of the upstream: no common
/// server closes sooner, except those that close at once.
const SAFE_IDLE: Duration = Duration::from_secs(1);
/// How much longer than a candidate's idle time another connection must have been seen open: more
/// than a round trip.
const MARGIN: Duration = Duration::from_millis(500);

/// Shared by all workers, and by the configurations in which the upstream is at the same place.
/// What each request reads are numbers without order among them: one that is a moment old does no
/// harm.
#[derive(Debug)]
pub(super) struct KeepAlive {
    /// The times below count from here, in milliseconds.
    begun: Instant,
    /// Connections that are idle for longer are not used …
    max_idle: AtomicU64,
    /// … before this time.
    max_idle_until: AtomicU64,
    /// No request that cannot be repeated goes over a connection that was used, before this time.
    unused_until: AtomicU64,
    /// The longest that a connection was seen idle and open since the last early close.
    outlived: AtomicU64,
    closes: Mutex<Closes>,
}

/// What the next early close is compared with.
#[derive(Debug, Default)]
struct Closes {
    /// When the last one was noticed, and how long that connection had been idle.
    last: Option<(Instant, Duration)>,
    /// When the last one at once was noticed, and how many there were in a row.
    at_once: Option<(Instant, u32)>,
}

/// A connection that its upstream has closed, or that no longer leads anywhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed {
    pub(super) made: Instant,
    /// How many responses had come over it.
    pub(super) responses: u32,
    pub(super) idle: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            max_idle: AtomicU64::default(),
            max_idle_until: AtomicU64::default(),
            unused_until: AtomicU64::default(),
            outlived: AtomicU64::default(),
            closes: Mutex::default(),
        }
    }
}

impl KeepAlive {
    /// Whether a connection that has been idle for `idle` may be used. `is_repeatable`: the request
    /// may be sent again if the connection dies of it.
    pub(super) fn may_use(&self, idle: Duration, is_repeatable: bool, now: Instant) -> bool {
        let (idle, now) = (millis(idle), self.since_begun(now));
        let is_too_old =
            now < self.max_idle_until.load(Ordering::Relaxed) && idle > self.max_idle.load(Ordering::Relaxed);
        if is_too_old || is_repeatable {
            return !is_too_old;
        }
        let seen = self.outlived.load(Ordering::Relaxed).saturating_sub(millis(MARGIN));
        now >= self.unused_until.load(Ordering::Relaxed) && idle <= seen.max(millis(SAFE_IDLE))
    }

    /// A connection is open after having been idle for so long.
    pub(super) fn is_open_after(&self, idle: Duration) {
        let idle = millis(idle);
        if idle > self.outlived.load(Ordering::Relaxed) {
            self.outlived.fetch_max(idle, Ordering::Relaxed);
        }
    }

    /// A second response has come over a connection.
    pub(super) fn was_used_again(&self) {
        if self.unused_until.load(Ordering::Relaxed) > 0 {
            self.unused_until.store(0, Ordering::Relaxed);
            self.closes().at_once = None;
        }
    }

    /// The upstream has closed an idle connection.
    pub(super) fn closed(&self, closed: Closed, now: Instant) {
        let mut closes = self.closes();
        if closed.idle < AT_ONCE {
            return self.closed_at_once(closed, &mut closes, now);
        }
        let together = |(at, idle): (Instant, Duration)| {
            now.duration_since(at) < TOGETHER && idle.abs_diff(closed.idle) > TOGETHER
        };
        // Connections of different age that close together tell of a restart, not of a time limit.
        let is_restart = closes.last.is_some_and(together);
        closes.last = Some((now, closed.idle));
        self.outlived.store(0, Ordering::Relaxed);
        if is_restart {
            let until = self.since_begun(now + SHORT_LESSON);
            self.max_idle_until.fetch_min(until, Ordering::Relaxed);
            return;
        }
        let half = millis(closed.idle / 2);
        let known = self.max_idle.load(Ordering::Relaxed);
        let holds = self.since_begun(now) < self.max_idle_until.load(Ordering::Relaxed);
        // A lesson that is much longer than the one in force does not prolong it, which may have
        // been wrong.
        if !holds || half <= known + known / 4 {
            self.max_idle.store(if holds { half.min(known) } else { half }, Ordering::Relaxed);
            self.max_idle_until.store(self.since_begun(now + LESSON), Ordering::Relaxed);
        }
    }

    /// Once may have been a restart. Again, by a connection that was made since, it is what the
    /// upstream does.
    fn closed_at_once(&self, closed: Closed, closes: &mut Closes, now: Instant) {
        let count = match closes.at_once {
            _ if closed.responses > 1 => return,
            Some((at, _)) if closed.made < at => return,
            Some((_, count)) => count + 1,
            None => 1,
        };
        closes.at_once = Some((now, count));
        let lesson = if count == 1 { SHORT_LESSON } else { LESSON };
        self.unused_until.store(self.since_begun(now + lesson), Ordering::Relaxed);
    }

    fn closes(&self) -> MutexGuard<'_, Closes> {
        self.closes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_begun(&self, time: Instant) -> u64 {
        millis(time.saturating_duration_since(self.begun))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// One that was made `idle` ago, and closed now.
    fn closed(keep_alive: &KeepAlive, idle: Duration, responses: u32) {
        let now = Instant::now();
        keep_alive.closed(Closed { made: now - idle, responses, idle }, now);
    }

    fn uses(keep_alive: &KeepAlive, idle: Duration) -> [bool; 2] {
        [true, false].map(|is_repeatable| keep_alive.may_use(idle, is_repeatable, Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_close_half_its_age_is_the_limit_for_ten_minutes() {
        advance(ms(10_000)).await;
        let keep_alive = KeepAlive::default();
        advance(ms(5000)).await;
        keep_alive.is_open_after(ms(20_000));
        assert_eq!(uses(&keep_alive, ms(4900)), [true, true]);
        closed(&keep_alive, ms(5000), 3);
        assert_eq!(uses(&keep_alive, ms(2501)), [false, false]);
        assert_eq!(uses(&keep_alive, ms(2500)), [true, false], "what cannot be repeated wants more");
        assert_eq!(uses(&keep_alive, ms(1000)), [true, true]);
        keep_alive.is_open_after(ms(4900));
        assert_eq!(uses(&keep_alive, ms(2500)), [true, true]);
        advance(LESSON - ms(1)).await;
        assert_eq!(uses(&keep_alive, ms(2501)), [false, false]);
        advance(ms(1)).await;
        assert_eq!(uses(&keep_alive, ms(2501)), [true, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lesson_is_renewed_by_its_like_and_sharpened_by_a_shorter_one() {
        let keep_alive = KeepAlive::default();
        advance(ms(20_000)).await;
        closed(&keep_alive, ms(5000), 1);
        advance(LESSON / 2).await;
        closed(&keep_alive, ms(5100), 1);
        closed(&keep_alive, ms(5100), 1);
        advance(LESSON / 2).await;
        assert!(!uses(&keep_alive, ms(2501))[0]);
        closed(&keep_alive, ms(2000), 1);
        assert_eq!([1000, 1001].map(|idle| uses(&keep_alive, ms(idle))[0]), [true, false]);
        // A short one that may have been wrong ends in its time, whatever comes meanwhile.
        advance(LESSON - ms(1000)).await;
        closed(&keep_alive, ms(5000), 1);
        advance(ms(1000)).await;
        assert!(uses(&keep_alive, ms(1001))[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_is_a_short_lesson() {
        let keep_alive = KeepAlive::default();
        advance(ms(20_000)).await;
        for idle in [300, 4000, 9000] {
            closed(&keep_alive, ms(idle), 2);
            advance(ms(10)).await;
        }
        assert_eq!(uses(&keep_alive, ms(1000)), [false, false]);
        advance(SHORT_LESSON).await;
        assert_eq!(uses(&keep_alive, ms(1000)), [true, true]);
        // Connections that have been idle together close together.
        for idle in [5000, 5010] {
            closed(&keep_alive, ms(idle), 2);
        }
        advance(SHORT_LESSON).await;
        assert_eq!(uses(&keep_alive, ms(2501)), [false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_closes_after_each_response_gets_nothing_that_cannot_be_repeated() {
        let keep_alive = KeepAlive::default();
        advance(ms(20_000)).await;
        closed(&keep_alive, ms(0), 1);
        assert_eq!(uses(&keep_alive, ms(0)), [true, false]);
        advance(SHORT_LESSON).await;
        assert_eq!(uses(&keep_alive, ms(0)), [true, true], "it may have been a restart");
        closed(&keep_alive, ms(100), 1);
        advance(LESSON - ms(1)).await;
        assert_eq!(uses(&keep_alive, ms(0)), [true, false]);
        keep_alive.was_used_again();
        assert_eq!(uses(&keep_alive, ms(0)), [true, true], "it does not close after each");
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_close_at_once_are_one_close_and_later_ones_are_none() {
        let keep_alive = KeepAlive::default();
        advance(ms(20_000)).await;
        let now = Instant::now();
        for made in [ms(900), ms(500), ms(100)] {
            keep_alive.closed(Closed { made: now - made, responses: 1, idle: ms(50) }, now);
        }
        advance(SHORT_LESSON).await;
        assert_eq!(uses(&keep_alive, ms(0)), [true, true]);
        // The hundredth response may be the last of a connection.
        closed(&keep_alive, ms(0), 100);
        assert_eq!(uses(&keep_alive, ms(0)), [true, true]);
    }
}
