//! Maps shared through pins: names, sizes, layouts. A pin folder outlives the process that made it, so whatever
//! changes here changes [`VERSION`] too.

/// The layout of everything below.
pub const VERSION: u32 = 1;

/// The XDP program's name.
pub const PROGRAM: &str = "hookgate";

/// `u32` index → [`Counters`], one set a CPU. Index 0 is [`OTHER`].
pub const COUNTERS: &str = "COUNTERS";
/// Meta's IPv4 prefixes → index.
pub const PREFIXES_V4: &str = "PREFIXES_V4";
/// Meta's IPv6 prefixes → index.
pub const PREFIXES_V6: &str = "PREFIXES_V6";
/// A bit a TCP port, [`PORTS_PER_WORD`] to a `u64`, lowest first.
pub const PORTS: &str = "PORTS";
/// `u32` index → [`Row`]: whose counters these are. For user space alone; the program never reads it.
pub const ROWS: &str = "ROWS";
/// One [`Settings`].
pub const SETTINGS: &str = "SETTINGS";

/// The index of whatever lies outside Meta's prefixes.
pub const OTHER: u32 = 0;
/// Sets of counters, [`OTHER`]'s included.
pub const CAPACITY: u32 = 4096;

pub const PORTS_PER_WORD: u32 = u64::BITS;
pub const PORT_WORDS: u32 = (u16::MAX as u32 + 1) / PORTS_PER_WORD;

/// What one CPU saw of one prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets: u64,
    /// Whole frames, as XDP sees them.
    pub bytes: u64,
    /// SYN set and ACK clear.
    pub syns: u64,
    /// The last packet's time: nanoseconds of CLOCK_MONOTONIC, in steps of a few milliseconds; 0: never.
    pub last_seen: u64,
}
const _: () = assert!(size_of::<Counters>() == 4 * size_of::<u64>());

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
    /// [`VERSION`] of whoever made the maps; 0: they were never finished.
    pub version: u32,
    pub mode: u32,
    /// When counting began, in seconds of Unix time.
    pub since: u64,
}
const _: () = assert!(size_of::<Settings>() == 2 * size_of::<u64>());

impl Settings {
    pub const OBSERVE: u32 = 0;
}

#[cfg(feature = "user")]
mod pod {
    use super::{Counters, Row, Settings};

    // SAFETY: repr(C) of integers alone, no padding (sizes asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Row {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Settings {}
}
