//! How a SYN looks, apart from its addresses and numbers: its hop limit, and the layout of its TCP
//! options. Who forges an address can forge these as well, but has to know them.

use crate::packet::Packet;

/// How much hop limits of one sender differ at most: routes change, and rarely by more hops. Each
/// more makes it easier to hit one by chance.
const MAX_HOPS_APART: u8 = 2;

/// Options begin behind these bytes of a TCP header (RFC 9293 §3.1).
const TCP_HEADER: usize = 20;
/// Where its length is, in words of four bytes.
const DATA_OFFSET: usize = 12;
/// The least length, and the most words of options.
const HEADER_WORDS: usize = 5;
const MAX_OPTION_WORDS: usize = 10;

/// The fingerprint of one SYN. The default is that of a SYN whose options were not seen.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(u32);

impl Fingerprint {
    const KNOWN: u32 = 1 << 24;
    const HOP_LIMIT: u32 = 16;
    /// Those that are used.
    pub const BITS: i32 = 0x01ff_ffff;

    #[inline(always)]
    pub fn new(hop_limit: u8, options: u16) -> Self {
        Self(Self::KNOWN | u32::from(hop_limit) << Self::HOP_LIMIT | u32::from(options))
    }

    /// Of the SYN whose TCP header begins at `tcp_at`.
    #[inline(always)]
    pub fn of(packet: &impl Packet, tcp_at: usize, hop_limit: u8) -> Self {
        Self::with_hidden_state(packet, tcp_at, hop_limit, |state, _| state)
    }

    /// The same for a verifier, which would follow each state of the parser: `hide` returns its
    /// first argument as a number of which only the bits in [`STATE`] are known to be used. The
    /// second one is any number.
    #[inline(always)]
    pub fn with_hidden_state(
        packet: &impl Packet,
        tcp_at: usize,
        hop_limit: u8,
        hide: impl Fn(u64, u64) -> u64,
    ) -> Self {
        match hash_options(packet, tcp_at, hide) {
            Some(options) => Self::new(hop_limit, options),
            None => Self::default(),
        }
    }

    /// With the same bits in another way, for a verifier.
    #[inline(always)]
    pub fn map(self, change: impl Fn(u32) -> u32) -> Self {
        Self(change(self.0))
    }

    #[inline(always)]
    fn is_known(self) -> bool {
        self.0 & Self::KNOWN != 0
    }

    #[inline(always)]
    fn has_hop_limit_of(self, other: Self) -> bool {
        let [one, two] = [self, other].map(|of| (of.0 >> Self::HOP_LIMIT) as u8);
        one.abs_diff(two) <= MAX_HOPS_APART
    }

    #[inline(always)]
    fn has_options_of(self, other: Self) -> bool {
        self.0 as u16 == other.0 as u16
    }
}

/// Fingerprints of a block's completed attempts: the latest two that differ, the latest in the
/// lower half. One number, since CPUs write it at once.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variants(u64);

impl Variants {
    /// Another attempt was completed.
    #[inline(always)]
    pub fn with(self, latest: Fingerprint) -> Self {
        if !latest.is_known() {
            return self;
        }
        let [first, second] = self.fingerprints();
        let is_first = first.has_hop_limit_of(latest) && first.has_options_of(latest);
        let other = if is_first && first.is_known() { second } else { first };
        Self(u64::from(other.0) << 32 | u64::from(latest.0))
    }

    /// Whether neither the hop limit nor the options are those of any variant. What is not known
    /// differs from nothing.
    #[inline(always)]
    pub fn are_unlike(self, fingerprint: Fingerprint) -> bool {
        let [first, second] = self.fingerprints();
        let differs = |variant: Fingerprint| {
            !variant.is_known()
                || !variant.has_hop_limit_of(fingerprint) && !variant.has_options_of(fingerprint)
        };
        first.is_known() && fingerprint.is_known() && differs(first) && differs(second)
    }

    #[inline(always)]
    fn fingerprints(self) -> [Fingerprint; 2] {
        [Fingerprint(self.0 as u32), Fingerprint((self.0 >> 32) as u32)]
    }
}

/// A hash of the options of the TCP header at `tcp_at`: kinds and lengths in their order, and the
/// values that a system always sends alike. `None`: they cannot be read.
#[inline(always)]
fn hash_options(packet: &impl Packet, tcp_at: usize, hide: impl Fn(u64, u64) -> u64) -> Option<u16> {
    let [length, _] = packet.read::<2>(tcp_at + DATA_OFFSET)?;
    let words = usize::from(length >> 4).checked_sub(HEADER_WORDS)?;
    const OFFSET_BASIS: u32 = 0x811c_9dc5;
    let mut options = Options { hash: OFFSET_BASIS, state: Options::KIND };
    for word in 0..MAX_OPTION_WORDS {
        if word >= words {
            break;
        }
        let bytes: [u8; 4] = packet.read(tcp_at + TCP_HEADER + 4 * word)?;
        for byte in bytes {
            options.take(byte);
            options.state = hide(options.state, u64::from(options.hash));
        }
    }
    Some(options.hash())
}

/// Bits of [`Options::state`] that are used.
pub const STATE: i32 = 0x00ff_ff03;

/// A list of TCP options, taken in byte by byte.
struct Options {
    /// FNV-1a.
    hash: u32,
    /// What the next byte is, in the lowest byte; above, of an option's value, its kind and how
    /// many bytes are still to come.
    state: u64,
}

impl Options {
    const KIND: u64 = 0;
    const LENGTH: u64 = 1;
    const VALUE: u64 = 2;
    /// Of no meaning: the list has ended, or is malformed.
    const PADDING: u64 = 3;

    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    const WINDOW_SCALE: u8 = 3;

    #[inline(always)]
    fn state(next: u64, kind: u8, left: u8) -> u64 {
        next | u64::from(kind) << 8 | u64::from(left) << 16
    }

    #[inline(always)]
    fn take(&mut self, byte: u8) {
        let (kind, left) = ((self.state >> 8) as u8, (self.state >> 16) as u8);
        self.state = match self.state & 3 {
            Self::KIND => {
                self.mix(byte);
                match byte {
                    Self::END => Self::PADDING,
                    Self::NO_OPERATION => Self::KIND,
                    _ => Self::state(Self::LENGTH, byte, 0),
                }
            }
            Self::LENGTH => {
                self.mix(byte);
                match byte {
                    0 | 1 => Self::PADDING,
                    2 => Self::KIND,
                    _ => Self::state(Self::VALUE, kind, byte.wrapping_sub(2)),
                }
            }
            Self::VALUE => {
                // Timestamps, cookies and keys differ from SYN to SYN.
                if kind == Self::SEGMENT_SIZE || kind == Self::WINDOW_SCALE {
                    self.mix(byte);
                }
                match left {
                    1 => Self::KIND,
                    _ => Self::state(Self::VALUE, kind, left.wrapping_sub(1)),
                }
            }
            _ => Self::PADDING,
        };
    }

    #[inline(always)]
    fn mix(&mut self, byte: u8) {
        const PRIME: u32 = 0x0100_0193;
        self.hash = (self.hash ^ u32::from(byte)).wrapping_mul(PRIME);
    }

    #[inline(always)]
    fn hash(&self) -> u16 {
        (self.hash ^ self.hash >> 16) as u16
    }
}

#[cfg(test)]
mod tests;
