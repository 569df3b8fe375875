//! Where the attempts that are answered and open are counted, by a hash of their source.

use crate::packet::Address;

const BITS: u32 = 12;
pub const SLOTS: u32 = 1 << BITS;

/// The slot of a source.
#[inline(always)]
pub fn slot(source: Address, source_port: u16) -> u32 {
    /// 2^64 divided by the golden ratio (Knuth, TAOCP 6.4): its product's highest bits depend on
    /// all bits.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let address = match source {
        Address::V4(address) => u64::from(u32::from_be_bytes(address)),
        Address::V6([a, b, c, d, e, f, g, h, rest @ ..]) => {
            u64::from_be_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_be_bytes(rest)
        }
    };
    let product = (address ^ u64::from(source_port) << 32).wrapping_mul(FACTOR);
    (product >> (u64::BITS - BITS)) as u32
}
