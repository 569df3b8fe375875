//! When a certificate is due. Times are seconds of Unix time.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use super::store::Attempts;

/// After the first failure; doubled by each further one, up to [`MAX_DELAY`].
const RETRY: Duration = Duration::from_secs(60);
const MAX_DELAY: Duration = Duration::from_secs(6 * 3600);
/// So long after a certificate no other is asked for, or a quarter of its lifetime if that is
/// shorter.
const MIN_DELAY_SECONDS: i64 = 3600;

/// A certificate's lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lifetime {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Lifetime {
    /// When two thirds have passed.
    pub(super) fn two_thirds(self) -> i64 {
        self.not_before + self.seconds() / 3 * 2
    }

    fn seconds(self) -> i64 {
        (self.not_after - self.not_before).max(0)
    }

    /// Whatever its authority says.
    fn latest(self) -> i64 {
        self.not_after - self.seconds() / 8
    }
}

/// When to ask the authority for a certificate. `current`: the one in force, if it has every name;
/// `suggested`: when its authority wants it renewed; `eager`: the operator has started or reloaded,
/// and may have mended what failed; `random`: from 0 to 1.
pub(super) fn due(
    current: Option<Lifetime>,
    suggested: Option<i64>,
    attempts: Attempts,
    eager: bool,
    random: f64,
) -> i64 {
    let wanted = current
        .map_or(i64::MIN, |lifetime| suggested.map_or(lifetime.two_thirds(), |at| at.min(lifetime.latest())));
    let spaced = attempts.last.map_or(i64::MIN, |last| last + spacing(current, attempts, eager, random));
    wanted.max(spaced).max(attempts.not_before.unwrap_or(i64::MIN))
}

fn spacing(current: Option<Lifetime>, attempts: Attempts, eager: bool, random: f64) -> i64 {
    match (attempts.failures, current) {
        (0, None) => 0,
        (0, Some(lifetime)) => MIN_DELAY_SECONDS.min(lifetime.seconds() / 4),
        (failures, _) => {
            let retry = match (eager, attempts.refused_settings) {
                (true, _) => RETRY,
                (false, Some(_)) => MAX_DELAY,
                (false, None) => backoff(failures, random),
            };
            i64::try_from(retry.as_secs()).unwrap_or(i64::MAX)
        }
    }
}

fn backoff(failures: u32, random: f64) -> Duration {
    let doubled = RETRY.saturating_mul(1 << (failures - 1).min(16));
    doubled.min(MAX_DELAY).mul_f64(0.5 + random / 2.0)
}

/// From 0 to 1.
pub(super) fn random_share() -> f64 {
    // RandomState is seeded from the system's randomness; 53 bits are what an f64 holds.
    (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64
}

/// A moment between two others.
pub(super) fn within(start: i64, end: i64, random: f64) -> i64 {
    start + ((end - start).max(0) as f64 * random) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const LIFETIME: Lifetime = Lifetime { not_before: 1000 * DAY, not_after: 1090 * DAY };

    #[test]
    fn when_a_certificate_is_due() {
        let never = Attempts::default();
        let attempts = |last, failures, not_before| Attempts {
            last: Some(last),
            failures,
            not_before,
            refused_settings: None,
        };
        let refused = Attempts { refused_settings: Some(1), ..attempts(0, 1, None) };
        let short = Lifetime { not_before: 0, not_after: 20 };
        for (current, suggested, attempts, eager, expected) in [
            (None, None, never, false, i64::MIN),
            (Some(LIFETIME), None, never, false, 1060 * DAY),
            // The authority knows better, but not so well as to let it run out.
            (Some(LIFETIME), Some(1001 * DAY), never, false, 1001 * DAY),
            (Some(LIFETIME), Some(1070 * DAY), never, false, 1070 * DAY),
            (Some(LIFETIME), Some(2000 * DAY), never, false, 1090 * DAY - 90 * DAY / 8),
            // One was just got and seems due again: a wrong clock, or an authority that says so
            // each time.
            (Some(LIFETIME), Some(0), attempts(1000 * DAY, 0, None), true, 1000 * DAY + 3600),
            (Some(short), Some(0), attempts(0, 0, None), false, 5),
            // Other names than before.
            (None, None, attempts(1000 * DAY, 0, None), false, 1000 * DAY),
            // Failures.
            (None, None, attempts(0, 1, None), false, 60),
            (None, None, attempts(0, 2, None), false, 120),
            (None, None, attempts(0, 2, None), true, 60),
            (None, None, attempts(0, 40, None), false, 6 * 3600),
            (None, None, attempts(0, u32::MAX, None), false, 6 * 3600),
            (None, None, attempts(0, 2, Some(7200)), true, 7200),
            (Some(short), None, attempts(13, 1, None), false, 73),
            // A refusal that only the operator can mend.
            (None, None, refused, false, 6 * 3600),
            (None, None, refused, true, 60),
        ] {
            assert_eq!(
                due(current, suggested, attempts, eager, 1.0),
                expected,
                "{current:?} {suggested:?} {attempts:?}"
            );
        }
        assert_eq!(due(None, None, attempts(0, 1, None), false, 0.0), 30, "half of it is left to chance");
    }

    #[test]
    fn chance_stays_within() {
        assert_eq!((within(10, 20, 0.0), within(10, 20, 0.5), within(10, 5, 0.9)), (10, 15, 10));
        assert!((0.0..1.0).contains(&random_share()) && random_share() != random_share());
    }
}
