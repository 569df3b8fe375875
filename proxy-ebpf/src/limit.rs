//! How many connections a stranger may open.

/// A token bucket, kept as the time at which it will be full again (GCRA): a bucket is one number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// In which one token comes in, in nanoseconds.
    pub interval: u64,
    /// How far from full an admitting bucket may be, in nanoseconds.
    pub tolerance: u64,
}

impl Limit {
    /// `burst` tokens at most, of which `per_second` come back. Both at least 1.
    pub fn new(per_second: u64, burst: u64) -> Self {
        let interval = 1_000_000_000 / per_second.max(1);
        Self { interval, tolerance: interval * (burst.max(1) - 1) }
    }

    /// Takes a token at the time `now` from a bucket that is full at `full_at` (0: never touched),
    /// both in nanoseconds. When it will be full then, or `None` when there is no token.
    #[inline(always)]
    pub fn admit(&self, full_at: u64, now: u64) -> Option<u64> {
        let full_at = if full_at > now { full_at } else { now };
        if full_at - now > self.tolerance { None } else { Some(full_at + self.interval) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_bucket_holds_a_burst_and_fills_at_its_rate() {
        let limit = Limit::new(20, 40);
        let (mut bucket, mut now) = (0, 5 * SECOND);
        let mut take = |now| limit.admit(bucket, now).inspect(|full_at| bucket = *full_at).is_some();
        assert_eq!((0..100).filter(|_| take(now)).count(), 40);
        now += SECOND / 20 - 1;
        assert!(!take(now));
        now += 1;
        assert!(take(now) && !take(now));
        now += SECOND;
        assert_eq!((0..100).filter(|_| take(now)).count(), 20);
        now += 3600 * SECOND;
        assert_eq!((0..100).filter(|_| take(now)).count(), 40, "never more than the burst");
    }

    #[test]
    fn a_burst_of_one_admits_one() {
        let limit = Limit::new(1, 1);
        let full_at = limit.admit(0, SECOND).unwrap();
        assert_eq!(limit.admit(full_at, 2 * SECOND - 1), None);
        assert!(limit.admit(full_at, 2 * SECOND).is_some());
    }
}
