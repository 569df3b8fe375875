//! Which sources may be in one of Meta's prefixes, by what their addresses begin with: most
//! strangers are known to be such without a look-up.

use crate::packet::Address;

const BITS: u32 = 10;
const WORDS: usize = (1 << BITS) / u64::BITS as usize;
/// The bits of an IPv6 address that are hashed: those that registries assign.
const V6_BITS: u32 = 32;

/// A set of beginnings of addresses. It may hold more than was added, and never less.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Senders {
    /// By the first ten bits.
    v4: [u64; WORDS],
    /// By a hash of the first 32.
    v6: [u64; WORDS],
}
const _: () = assert!(size_of::<Senders>() == 2 * WORDS * size_of::<u64>());

impl Senders {
    /// Adds all addresses whose first `length` bits are those of `address`.
    pub fn add(&mut self, address: Address, length: u8) {
        let length = u32::from(length);
        match address {
            Address::V4(_) => {
                // Those of a short prefix follow each other.
                for at in 0..1 << BITS.saturating_sub(length) {
                    set(&mut self.v4, slot(address) + at);
                }
            }
            Address::V6([a, b, c, d, ..]) => {
                let free = V6_BITS.saturating_sub(length);
                if free >= BITS {
                    self.v6 = [u64::MAX; WORDS];
                    return;
                }
                let first = u32::from_be_bytes([a, b, c, d]);
                for at in 0..1 << free {
                    set(&mut self.v6, hash(first | at));
                }
            }
        }
    }

    /// Whether an address may be among them.
    #[inline(always)]
    pub fn may_have(&self, address: Address) -> bool {
        let slot = slot(address);
        let words = match address {
            Address::V4(_) => &self.v4,
            Address::V6(_) => &self.v6,
        };
        // The mask is what the kernel's verifier wants to see.
        words[(slot / u64::BITS) as usize & (WORDS - 1)] >> (slot % u64::BITS) & 1 == 1
    }
}

fn set(words: &mut [u64; WORDS], slot: u32) {
    words[(slot / u64::BITS) as usize & (WORDS - 1)] |= 1 << (slot % u64::BITS);
}

#[inline(always)]
fn slot(address: Address) -> u32 {
    match address {
        Address::V4([a, b, ..]) => u32::from(u16::from_be_bytes([a, b])) >> (u16::BITS - BITS),
        Address::V6([a, b, c, d, ..]) => hash(u32::from_be_bytes([a, b, c, d])),
    }
}

/// 2^32 divided by the golden ratio (Knuth, TAOCP 6.4): its product's highest bits depend on all
/// bits.
#[inline(always)]
fn hash(first: u32) -> u32 {
    first.wrapping_mul(0x9e37_79b9) >> (u32::BITS - BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v6(first: u32) -> Address {
        let [a, b, c, d] = first.to_be_bytes();
        Address::V6([a, b, c, d, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7])
    }

    #[test]
    fn what_was_added_is_there_and_most_else_is_not() {
        let mut senders = Senders::default();
        for (address, length) in [
            (Address::V4([157, 240, 0, 0]), 17),
            (Address::V4([57, 144, 0, 0]), 14),
            (Address::V4([8, 0, 0, 0]), 7),
            (v6(0x2a03_2880), 36),
            (v6(0x2620_0000), 29),
        ] {
            senders.add(address, length);
        }
        for [a, b] in [[157, 240], [157, 192], [57, 144], [57, 147], [8, 0], [9, 255]] {
            assert!(senders.may_have(Address::V4([a, b, 3, 4])), "{a}.{b}");
        }
        for [a, b] in [[157, 0], [157, 191], [58, 144], [10, 0], [7, 255], [203, 0]] {
            assert!(!senders.may_have(Address::V4([a, b, 3, 4])), "{a}.{b}");
        }
        assert!(senders.may_have(v6(0x2a03_2880)));
        assert!((0..8).all(|at| senders.may_have(v6(0x2620_0000 | at))));
        let others = (0..1000).filter(|at| senders.may_have(v6(0x2001_0db8 + at * 0x1_0001))).count();
        assert!(others < 30, "{others}");
    }

    #[test]
    fn a_short_prefix_has_all_that_is_in_it() {
        let mut senders = Senders::default();
        senders.add(Address::V4([0; 4]), 0);
        senders.add(v6(0x2000_0000), 3);
        for first in [0, 0x2fff_1234, 0x3fff_ffff] {
            assert!(senders.may_have(v6(first)));
            let [a, b, c, d] = (first << 2).to_be_bytes();
            assert!(senders.may_have(Address::V4([a, b, c, d])));
        }
    }
}
