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

    #[inline(always)]
    pub fn new(hop_limit: u8, options: u16) -> Self {
        Self(Self::KNOWN | u32::from(hop_limit) << Self::HOP_LIMIT | u32::from(options))
    }

    /// Of the SYN whose TCP header begins at `tcp_at`.
    #[inline(always)]
    pub fn of(packet: &impl Packet, tcp_at: usize, hop_limit: u8) -> Self {
        match hash_options(packet, tcp_at) {
            Some(options) => Self::new(hop_limit, options),
            None => Self::default(),
        }
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
fn hash_options(packet: &impl Packet, tcp_at: usize) -> Option<u16> {
    let [length, _] = packet.read::<2>(tcp_at + DATA_OFFSET)?;
    let words = usize::from(length >> 4).checked_sub(HEADER_WORDS)?;
    let mut options = Options::default();
    for word in 0..MAX_OPTION_WORDS {
        if word >= words {
            break;
        }
        let bytes: [u8; 4] = packet.read(tcp_at + TCP_HEADER + 4 * word)?;
        bytes.into_iter().for_each(|byte| options.take(byte));
    }
    Some(options.hash())
}

/// A list of TCP options, taken in byte by byte.
struct Options {
    /// FNV-1a.
    hash: u32,
    next: Next,
    kind: u8,
    /// Bytes of the option's value that are still to come.
    left: u8,
}

/// What the next byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Kind,
    Length,
    Value,
    /// Of no meaning: the list has ended, or is malformed.
    Padding,
}

impl Default for Options {
    fn default() -> Self {
        const OFFSET_BASIS: u32 = 0x811c_9dc5;
        Self { hash: OFFSET_BASIS, next: Next::Kind, kind: 0, left: 0 }
    }
}

impl Options {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const SEGMENT_SIZE: u8 = 2;
    const WINDOW_SCALE: u8 = 3;

    #[inline(always)]
    fn take(&mut self, byte: u8) {
        match self.next {
            Next::Kind => {
                self.mix(byte);
                self.kind = byte;
                self.next = match byte {
                    Self::END => Next::Padding,
                    Self::NO_OPERATION => Next::Kind,
                    _ => Next::Length,
                };
            }
            Next::Length => {
                self.mix(byte);
                self.left = byte.wrapping_sub(2);
                self.next = match byte {
                    0 | 1 => Next::Padding,
                    2 => Next::Kind,
                    _ => Next::Value,
                };
            }
            Next::Value => {
                // Timestamps, cookies and keys differ from SYN to SYN.
                if self.kind == Self::SEGMENT_SIZE || self.kind == Self::WINDOW_SCALE {
                    self.mix(byte);
                }
                self.left = self.left.wrapping_sub(1);
                if self.left == 0 {
                    self.next = Next::Kind;
                }
            }
            Next::Padding => {}
        }
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
