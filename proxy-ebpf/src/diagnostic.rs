//! What the programs could not do, for hookgate's log.

/// [`Diagnostic`] → [`Occurrence`].
pub const DIAGNOSTICS: &str = "DIAGNOSTICS";
/// As [`crate::abi::SWEEPS`], without diagnostics.
pub const QUIET_SWEEPS: &str = "begin_quiet";

/// How long one kind is not logged again, in nanoseconds.
pub const DIAGNOSTIC_INTERVAL: u64 = 10_000_000_000;

#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diagnostic {
    /// A SYN of Meta's began no attempt, for want of room.
    NoRoomForMeta = 0,
    /// A SYN of another source began none.
    NoRoomForOthers = 1,
    /// A block that has completed a handshake found no room among those that no flood evicts.
    NoRoomForProven = 2,
}

impl Diagnostic {
    pub const ALL: [Self; 3] = [Self::NoRoomForMeta, Self::NoRoomForOthers, Self::NoRoomForProven];
}

/// Both as [`crate::abi::Counters::last_seen`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occurrence {
    /// When it happened last.
    pub last: u64,
    /// When that was logged last.
    pub logged: u64,
}
const _: () = assert!(size_of::<Occurrence>() == 16);

impl Occurrence {
    /// Whether it must be logged now, and is not the same that has been.
    #[inline(always)]
    pub fn is_due(&self, now: u64) -> bool {
        self.last > self.logged && (self.logged == 0 || now >= self.logged + DIAGNOSTIC_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_logged_at_once_and_then_each_interval() {
        let mut occurrence = Occurrence::default();
        assert!(!occurrence.is_due(5), "it never happened");
        occurrence.last = 5;
        assert!(occurrence.is_due(6));
        occurrence.logged = 6;
        assert!(!occurrence.is_due(6 + DIAGNOSTIC_INTERVAL), "not again since");
        occurrence.last = 7;
        assert!(!occurrence.is_due(5 + DIAGNOSTIC_INTERVAL));
        assert!(occurrence.is_due(6 + DIAGNOSTIC_INTERVAL));
    }
}
