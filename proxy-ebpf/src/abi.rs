//! Maps shared through pins: names, sizes, layouts. A pin folder outlives the process that made it,
//! so whatever changes here changes [`VERSION`] too.

use crate::fingerprint::Variants;
use crate::limit::Limit;
use crate::packet::{Address, Flags, Wire};
use crate::senders::Senders;

/// The layout of everything below.
pub const VERSION: u32 = 7;

/// The XDP program's name.
pub const PROGRAM: &str = "hookgate";
/// The same program for kernels that do not hand over frames in fragments (before Linux 5.18).
pub const PROGRAM_LINEAR: &str = "hookgate_linear";
/// The name of the XDP program that is run once, by hand, to begin the sweeps through the attempts.
pub const SWEEPS: &str = "begin_sweeps";
/// The name of the sock_ops program, which is told of each handshake that TCP completes.
pub const HANDSHAKES: &str = "handshakes";
/// The name of the tc program, which sees what leaves through guarded interfaces.
pub const ANSWERS: &str = "answers";

/// `u32` index → [`Counters`], one set a CPU. Index 0 is [`OTHER`]. At most [`CAPACITY`]; as many
/// as user space asks for.
pub const COUNTERS: &str = "COUNTERS";
/// Meta's IPv4 prefixes → index.
pub const PREFIXES_V4: &str = "PREFIXES_V4";
/// Meta's IPv6 prefixes → index.
pub const PREFIXES_V6: &str = "PREFIXES_V6";
/// IPv4 networks treated like Meta's → nothing of meaning.
pub const ALLOWED_V4: &str = "ALLOWED_V4";
/// IPv6 networks treated like Meta's → nothing of meaning.
pub const ALLOWED_V6: &str = "ALLOWED_V6";
/// A bit a TCP port, [`PORTS_PER_WORD`] to a `u64`, lowest first.
pub const PORTS: &str = "PORTS";
/// [`crate::attempt::AttemptKey`] → [`crate::attempt::Attempt`], for Meta's sources.
pub const ATTEMPTS_META: &str = "ATTEMPTS_META";
/// The same for everybody else's: a flood of theirs takes no room from Meta's.
pub const ATTEMPTS_OTHER: &str = "ATTEMPTS_OTHER";
/// [`crate::waiting::slot`] → how many attempts of its sources are answered and open, as `u64`.
pub const WAITING: &str = "WAITING";
/// One [`Sweep`].
pub const SWEEP: &str = "SWEEP";
/// `u32` index → when a SYN last found no room among the attempts, as [`Counters::last_seen`].
pub const UNTRACKED: &str = "UNTRACKED";
/// [`crate::block::Block`] of Meta's from which no handshake was completed yet → [`Seen`]. The
/// least recently seen gives way.
pub const SEEN: &str = "SEEN";
/// [`crate::block::Block`] of Meta's that has completed a handshake → [`Seen`]. No entry is
/// evicted: packets alone make none.
pub const PROVEN: &str = "PROVEN";
/// [`crate::block::Block`] of a stranger → [`Stranger`]. The least recently seen gives way.
pub const STRANGERS: &str = "STRANGERS";
/// A stranger's address → its bucket, as [`Limit::admit`] keeps it. The least recently seen goes.
pub const BUCKETS: &str = "BUCKETS";
/// [`crate::verdict::Reason`] → packets dropped, one count a CPU.
pub const DROPS: &str = "DROPS";
/// `u32` index → [`Row`]: whose counters these are. For user space alone.
pub const ROWS: &str = "ROWS";
/// `u32` index → [`Requests`]. For user space alone, which may map it into its memory.
pub const REQUESTS: &str = "REQUESTS";
/// `u32` index → [`crate::transport::Transport`], as many as [`COUNTERS`] has.
pub const TRANSPORT: &str = "TRANSPORT";
/// A connection's socket → the index that it counts at in [`TRANSPORT`]. For the program alone.
pub const SOCKETS: &str = "SOCKETS";
/// One [`Settings`].
pub const SETTINGS: &str = "SETTINGS";

/// The index of whatever lies outside Meta's prefixes and the allowed networks.
pub const OTHER: u32 = 0;
/// The index of the allowed networks.
pub const ALLOWED: u32 = 1;
/// The first index of a prefix.
pub const FIRST_PREFIX: u32 = 2;
/// Sets of counters, [`OTHER`]'s and [`ALLOWED`]'s included.
pub const CAPACITY: u32 = 4096;

/// The most allowed networks.
pub const ALLOWED_MOST: u32 = 1024;
/// Room for old and new ones, while they change.
pub const ALLOWED_CAPACITY: u32 = 2 * ALLOWED_MOST;
pub const ATTEMPTS_META_CAPACITY: u32 = 16384;
pub const ATTEMPTS_OTHER_CAPACITY: u32 = 8192;
pub const SEEN_CAPACITY: u32 = 4096;
pub const PROVEN_CAPACITY: u32 = 4096;
pub const STRANGERS_CAPACITY: u32 = 8192;
pub const BUCKETS_CAPACITY: u32 = 16384;

pub const PORTS_PER_WORD: u32 = u64::BITS;
pub const PORT_WORDS: u32 = (u16::MAX as u32 + 1) / PORTS_PER_WORD;

/// How often the attempts are swept, in nanoseconds: so much later than they might they fail.
pub const SWEEP_INTERVAL: u64 = 250_000_000;
/// How long after the last sweep it is certain that none will come, in nanoseconds.
pub const SWEEPS_STALLED: u64 = 5_000_000_000;
/// What was seen of one prefix, by one CPU, or of one block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets: u64,
    /// Whole frames.
    pub bytes: u64,
    /// The last packet's time: nanoseconds of CLOCK_MONOTONIC, in steps of milliseconds; 0: never.
    pub last_seen: u64,
    pub dropped: u64,
    /// SYN set and ACK clear. Each begins an attempt, belongs to one, or found no room.
    pub syns: u64,
    /// SYNs that belong to an attempt: same addresses, ports and sequence number.
    pub syns_retransmitted: u64,
    /// Attempts that the kernel's TCP completed.
    pub handshakes: u64,
    /// Of these, those whose SYN-ACK did not leave through a guarded interface.
    pub handshakes_unseen: u64,
    /// Attempts that were reset before that, or not completed within
    /// [`crate::attempt::ATTEMPT_TIMEOUT`].
    pub failed_by: FailedBy,
    /// Those among [`FailedBy::silent`] and [`FailedBy::unanswered`] of one SYN each, from a block
    /// without a handshake within [`crate::attempt::PROOF_LASTS`].
    pub unproven: Unproven,
    /// Those among the same of one SYN each, from a block with one, that look unlike those that
    /// completed it.
    pub suspect: Suspect,
    /// Those among `handshakes` whose SYN came more than once.
    pub late_by: LateBy,
    /// SYNs with an unknown result: they found no room among the attempts, or no program told of
    /// handshakes. One that found none and is completed after all counts among `handshakes`
    /// instead, maybe on another CPU: only the sum over all CPUs has a meaning.
    pub untracked: u64,
    pub fins: u64,
    pub rsts: u64,
}
const _: () = assert!(size_of::<Counters>() == 24 * size_of::<u64>());

impl Counters {
    /// Counts a packet that passes; `add` adds to a count.
    #[inline(always)]
    pub fn pass(&mut self, flags: Flags, wire: Wire, now: u64, add: impl Fn(&mut u64, u64)) {
        add(&mut self.packets, wire.packets);
        add(&mut self.bytes, wire.bytes);
        self.last_seen = now;
        if flags.is_notable() {
            if flags.opens() {
                add(&mut self.syns, 1);
            }
            if flags.has(Flags::FIN) {
                add(&mut self.fins, 1);
            }
            if flags.has(Flags::RST) {
                add(&mut self.rsts, 1);
            }
        }
    }

    #[inline(always)]
    pub fn drop(&mut self, wire: Wire, now: u64) {
        self.packets += wire.packets;
        self.bytes += wire.bytes;
        self.last_seen = now;
        self.dropped += wire.packets;
    }

    /// All but the last packet's time.
    pub fn counts_mut(&mut self) -> [&mut u64; 23] {
        let Self {
            packets,
            bytes,
            last_seen: _,
            dropped,
            syns,
            syns_retransmitted,
            handshakes,
            handshakes_unseen,
            failed_by: FailedBy { reset, refused, uncompleted, unheard, silent, unanswered, unclassified },
            unproven: Unproven { silent: unproven_silent, unanswered: unproven_unanswered },
            suspect: Suspect { silent: suspect_silent, unanswered: suspect_unanswered },
            late_by: LateBy { unanswered: late_unanswered, unheard: late_unheard },
            untracked,
            fins,
            rsts,
        } = self;
        [
            packets,
            bytes,
            dropped,
            syns,
            syns_retransmitted,
            handshakes,
            handshakes_unseen,
            reset,
            refused,
            uncompleted,
            unheard,
            silent,
            unanswered,
            unclassified,
            unproven_silent,
            unproven_unanswered,
            suspect_silent,
            suspect_unanswered,
            late_unanswered,
            late_unheard,
            untracked,
            fins,
            rsts,
        ]
    }

    /// Adds what another CPU saw.
    pub fn add(&mut self, more: &Self) {
        self.packets += more.packets;
        self.bytes += more.bytes;
        self.last_seen = self.last_seen.max(more.last_seen);
        self.dropped += more.dropped;
        self.syns += more.syns;
        self.syns_retransmitted += more.syns_retransmitted;
        self.handshakes += more.handshakes;
        self.handshakes_unseen += more.handshakes_unseen;
        self.failed_by.add(&more.failed_by);
        self.unproven.silent += more.unproven.silent;
        self.unproven.unanswered += more.unproven.unanswered;
        self.suspect.silent += more.suspect.silent;
        self.suspect.unanswered += more.suspect.unanswered;
        self.late_by.unanswered += more.late_by.unanswered;
        self.late_by.unheard += more.late_by.unheard;
        self.untracked = self.untracked.wrapping_add(more.untracked);
        self.fins += more.fins;
        self.rsts += more.rsts;
    }
}

/// Attempts that have failed, by the first that applies.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailedBy {
    /// The peer has reset it.
    pub reset: u64,
    /// This machine has reset it.
    pub refused: u64,
    /// The peer has acknowledged the SYN-ACK, and this machine's TCP has not completed the
    /// handshake.
    pub uncompleted: u64,
    /// The SYN came again after a SYN-ACK had left.
    pub unheard: u64,
    /// A SYN-ACK left, and nothing came after it.
    pub silent: u64,
    /// No SYN-ACK left.
    pub unanswered: u64,
    /// When it began, what leaves was not seen on each guarded interface.
    pub unclassified: u64,
}
const _: () = assert!(size_of::<FailedBy>() == 7 * size_of::<u64>());

impl FailedBy {
    pub fn sum(&self) -> u64 {
        let Self { reset, refused, uncompleted, unheard, silent, unanswered, unclassified } = self;
        reset + refused + uncompleted + unheard + silent + unanswered + unclassified
    }

    fn add(&mut self, more: &Self) {
        self.reset += more.reset;
        self.refused += more.refused;
        self.uncompleted += more.uncompleted;
        self.unheard += more.unheard;
        self.silent += more.silent;
        self.unanswered += more.unanswered;
        self.unclassified += more.unclassified;
    }
}

/// Failed attempts that prove nothing: their sources may be forged.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unproven {
    pub silent: u64,
    pub unanswered: u64,
}

/// Failed attempts whose sources are probably forged: neither the hop limit nor the TCP options of
/// their SYN are those of the block's senders.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspect {
    pub silent: u64,
    pub unanswered: u64,
}

/// Completed attempts whose SYN came again, by the answer to the first one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateBy {
    /// No SYN-ACK had left when the SYN came again.
    pub unanswered: u64,
    /// A SYN-ACK had left.
    pub unheard: u64,
}

/// What sweeps the attempts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sweep {
    pub timer: bpf_timer,
    /// When they were swept last, as [`Counters::last_seen`]; 0: never.
    pub last: u64,
}
const _: () = assert!(size_of::<Sweep>() == 24);

/// The kernel's own `struct bpf_timer`; it finds the one in a map's values by this name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct bpf_timer {
    opaque: [u64; 2],
}

/// A /24 or /48 of Meta's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub counters: Counters,
    /// In which prefix the block lies: a generation of [`Settings`], and the index in that one. One
    /// number, since other CPUs write it too.
    place: u64,
    /// When a handshake was completed last, as [`Counters::last_seen`]; 0: never.
    pub proven_at: u64,
    /// What SYNs of its completed attempts looked like.
    pub variants: Variants,
}
const _: () = assert!(size_of::<Seen>() == 27 * size_of::<u64>());

impl Seen {
    /// The index of the prefix in which it lies; `None` when that is not known of this generation.
    #[inline(always)]
    pub fn index(&self, generation: u32) -> Option<u32> {
        let (known, index) = ((self.place >> 32) as u32, self.place as u32);
        if known == generation { Some(index) } else { None }
    }

    /// What is said of an odd generation is not believed.
    #[inline(always)]
    pub fn set_index(&mut self, generation: u32, index: u32) {
        let generation = if generation.is_multiple_of(2) { generation } else { 0 };
        self.place = u64::from(generation) << 32 | u64::from(index);
    }
}

/// A /24 or /48 of which packets passed that `strict` would have dropped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stranger {
    pub packets: u64,
    pub syns: u64,
    /// As [`Counters::last_seen`].
    pub last_seen: u64,
}
const _: () = assert!(size_of::<Stranger>() == 3 * size_of::<u64>());

/// How far a prefix's connections and requests got after the kernel had handed them over.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    pub accepted: u64,
    pub tls: u64,
    pub tls_failed: u64,
    pub requests: u64,
    pub delivered: u64,
    pub refused: u64,
    pub failed: u64,
    pub reserved: u64,
}
const _: () = assert!(size_of::<Requests>() == 64);

/// Whose counters an index holds. A prefix keeps its index, also while it is withdrawn.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Network byte order; an IPv4 address takes the first four bytes.
    pub address: [u8; 16],
    pub length: u8,
    pub family: u8,
    pub in_force: u8,
    pub reserved: u8,
}
const _: () = assert!(size_of::<Row>() == 20 && align_of::<Row>() == 1);

impl Row {
    /// [`Row::family`] of an index that was never given to a prefix.
    pub const UNUSED: u8 = 0;
    pub const V4: u8 = 4;
    pub const V6: u8 = 6;
}

/// How the guard was started.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// [`VERSION`] of the program that made the maps; 0: they were never finished.
    pub version: u32,
    pub mode: u32,
    /// When counting began, in seconds of Unix time.
    pub since: u64,
    /// For [`Settings::LIMIT`].
    pub limit: Limit,
    /// The network namespace whose TCP completes the handshakes, as SO_NETNS_COOKIE names it; 0: no
    /// program tells of them.
    pub netns: u64,
    /// Of the prefixes of each family. Even: what [`Seen`] says of a prefix in the same generation
    /// is true. Odd: the prefixes are being changed, or one is longer than a
    /// [`crate::block::Block`], and each packet has to be looked up. Never 0.
    pub generation_v4: u32,
    pub generation_v6: u32,
    /// Whether what leaves is seen on each guarded interface, without which no failure can be
    /// classified.
    pub sees_answers: u32,
    /// 0: there are no networks treated like Meta's.
    pub has_allowed: u32,
    /// Of the prefixes of a family whose generation is even, all.
    pub senders: Senders,
}
const _: () = assert!(size_of::<Settings>() == 7 * size_of::<u64>() + size_of::<Senders>());

impl Settings {
    pub const OBSERVE: u32 = 0;
    pub const LIMIT: u32 = 1;
    pub const STRICT: u32 = 2;

    /// Whether the kernel's TCP tells of completed handshakes.
    #[inline(always)]
    pub fn counts_handshakes(&self) -> bool {
        self.netns != 0
    }

    #[inline(always)]
    pub fn generation(&self, address: Address) -> u32 {
        match address {
            Address::V4(_) => self.generation_v4,
            Address::V6(_) => self.generation_v6,
        }
    }

    /// Whether a source may be in one of Meta's prefixes.
    #[inline(always)]
    pub fn may_be_metas(&self, source: Address) -> bool {
        self.generation(source) % 2 == 1 || self.senders.may_have(source)
    }
}

#[cfg(feature = "user")]
mod pod {
    use crate::attempt::{Attempt, AttemptKey};
    use crate::kernel_drops::{Dropped, Layout};
    use crate::transport::Transport;

    use super::{Counters, Requests, Row, Seen, Settings, Stranger, Sweep};

    // SAFETY: repr(C) of integers alone, no padding (sizes asserted above): every bit pattern is a
    // value.
    unsafe impl aya::Pod for Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for AttemptKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Attempt {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Seen {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Stranger {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Requests {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Row {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
    // SAFETY: as above. The kernel shows zeros for the timer, and keeps its own when an element is
    // written.
    unsafe impl aya::Pod for Sweep {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Dropped {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Layout {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Transport {}
    // SAFETY: a transparent integer.
    unsafe impl aya::Pod for crate::block::Block {}
}
