//! What becomes of a stranger's packet. Meta's and the allowed networks' always pass, and are never
//! asked about here.

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
