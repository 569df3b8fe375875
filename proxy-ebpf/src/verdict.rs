//! What becomes of a stranger's packet. Meta's and the allowed networks' always pass, and are never asked about here.

use crate::abi::Settings;
use crate::packet::Flags;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Drop(Reason),
}

/// Why a packet is dropped; the number is an index into the map of drops.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Mode `strict` lets no stranger in.
    Strict = 0,
    /// One SYN more than mode `limit` allows its source.
    Limited = 1,
    /// Flags that no TCP sends.
    Garbage = 2,
    /// A first fragment with the ports, and without the flags.
    Fragment = 3,
    /// A chain of extension headers that is longer than any honest one.
    Extensions = 4,
}

impl Reason {
    pub const ALL: [Self; 5] = [Self::Strict, Self::Limited, Self::Garbage, Self::Fragment, Self::Extensions];
}

/// `admits_syn`: whether the source may send one more SYN now; asked at most once.
#[inline(always)]
pub fn of_stranger(mode: u32, flags: Flags, admits_syn: impl FnOnce() -> bool) -> Verdict {
    match mode {
        Settings::LIMIT | Settings::STRICT if flags.are_garbage() => Verdict::Drop(Reason::Garbage),
        Settings::STRICT => Verdict::Drop(Reason::Strict),
        Settings::LIMIT if flags.opens() && !admits_syn() => Verdict::Drop(Reason::Limited),
        _ => Verdict::Pass,
    }
}

/// Of a stranger's packet whose flags we do not see and the receiver will; `reason` says why not.
#[inline(always)]
pub fn of_hidden(mode: u32, reason: Reason) -> Verdict {
    match mode {
        Settings::LIMIT | Settings::STRICT => Verdict::Drop(reason),
        _ => Verdict::Pass,
    }
}

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

    /// Takes a token at the time `now` from a bucket that is full at `full_at` (0: never touched), both in
    /// nanoseconds. When it will be full then, or `None` when there is no token.
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
    fn modes_decide_as_the_contract_says() {
        let (syn, ack, null) = (Flags(0x02), Flags(0x10), Flags(0));
        let strict = Verdict::Drop(Reason::Strict);
        let limited = Verdict::Drop(Reason::Limited);
        let garbage = Verdict::Drop(Reason::Garbage);
        for (mode, flags, admits, expected) in [
            (Settings::OBSERVE, syn, false, Verdict::Pass),
            (Settings::OBSERVE, null, false, Verdict::Pass),
            (Settings::LIMIT, syn, true, Verdict::Pass),
            (Settings::LIMIT, syn, false, limited),
            (Settings::LIMIT, ack, false, Verdict::Pass),
            (Settings::LIMIT, null, true, garbage),
            (Settings::STRICT, syn, true, strict),
            (Settings::STRICT, ack, true, strict),
            (Settings::STRICT, null, true, garbage),
            (77, null, false, Verdict::Pass),
        ] {
            assert_eq!(of_stranger(mode, flags, || admits), expected, "mode {mode}, {flags:?}");
        }
    }

    #[test]
    fn what_hides_its_flags_is_dropped_where_flags_count() {
        for (mode, expected) in [
            (Settings::OBSERVE, Verdict::Pass),
            (Settings::LIMIT, Verdict::Drop(Reason::Fragment)),
            (Settings::STRICT, Verdict::Drop(Reason::Fragment)),
            (77, Verdict::Pass),
        ] {
            assert_eq!(of_hidden(mode, Reason::Fragment), expected, "mode {mode}");
        }
    }

    #[test]
    fn garbage_takes_no_token() {
        of_stranger(Settings::LIMIT, Flags(0x03), || unreachable!("SYN and FIN"));
        of_stranger(Settings::LIMIT, Flags(0x10), || unreachable!("no SYN"));
    }

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
