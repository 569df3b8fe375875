//! Handshakes under way: keys and entries of [`crate::abi::ATTEMPTS_META`] and
//! [`crate::abi::ATTEMPTS_OTHER`].

use crate::fingerprint::Fingerprint;

/// How long after its last SYN an attempt that is not completed has failed, in nanoseconds.
pub const ATTEMPT_TIMEOUT: u64 = 10_000_000_000;

/// How long after a RST that may be genuine an attempt has failed, in nanoseconds, unless the
/// kernel's TCP thought otherwise and completes it.
pub const AFTER_RESET: u64 = 100_000_000;

/// How long after its last handshake a block counts as a sender, in nanoseconds.
pub const PROOF_LASTS: u64 = 48 * 3600 * 1_000_000_000;

/// How long a completed attempt is kept, in nanoseconds, while there is room: copies of its SYN may
/// be under way.
pub const AFTER_COMPLETION: u64 = 1_000_000_000;

/// Which handshake a SYN belongs to: its source address, source port and sequence number. The
/// destination is left out, because REDIRECT and DNAT rewrite it before the packet reaches the
/// socket. An IPv4 address is mapped into IPv6 (RFC 4291 §2.5.5.2).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttemptKey {
    pub source: [u8; 16],
    /// Of the SYN.
    pub sequence: u32,
    pub source_port: u16,
    pub reserved: u16,
}
const _: () = assert!(size_of::<AttemptKey>() == 24);

/// A handshake under way, or one that ended a moment ago.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    pub phase: u64,
    /// From when on it has failed, as [`crate::abi::Counters::last_seen`].
    pub deadline: u64,
    /// SYN-ACKs that have left, and [`Attempt::ENDED`].
    pub answers: u64,
    /// When its first SYN came, in nanoseconds of CLOCK_MONOTONIC.
    pub begun: u64,
    /// When its first SYN-ACK left, likewise.
    pub answered: u64,
    /// Whose counters it belongs to.
    pub index: u32,
    /// The sequence number of the last SYN-ACK.
    pub answer_sequence: u32,
    pub evidence: Evidence,
    /// Of its first SYN, where that came from a prefix of Meta's.
    pub fingerprint: Fingerprint,
    pub reserved: u32,
}
const _: () = assert!(size_of::<Attempt>() == 64);

/// What was seen of an attempt. Each is 0 until it is set, once and for all: CPUs need not agree on
/// the order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// When it began, what leaves was seen on each guarded interface.
    pub is_watched: u8,
    /// A RST came that may be genuine.
    pub is_reset: u8,
    /// A RST left.
    pub is_refused: u8,
    /// A segment came that acknowledges the SYN-ACK.
    pub is_acknowledged: u8,
    /// The SYN came again after a SYN-ACK had left.
    pub is_repeated: u8,
    /// The SYN came again before a SYN-ACK had left.
    pub is_ignored: u8,
    /// To which its SYN came, in network byte order.
    pub port: [u8; 2],
}
const _: () = assert!(size_of::<Evidence>() == 8);

impl Attempt {
    /// Neither completed nor failed: the CPU that takes this phase away counts it as one or the
    /// other.
    pub const OPEN: u64 = 1;
    pub const COMPLETED: u64 = 2;
    /// About to be removed.
    pub const FAILED: u64 = 3;

    /// Added to [`Attempt::answers`] when it is open no more: no answer counts as the first from
    /// then on.
    pub const ENDED: u64 = 1 << 32;

    /// Whether a SYN-ACK has left.
    #[inline(always)]
    pub fn is_answered(&self) -> bool {
        self.answers as u32 != 0
    }
}
