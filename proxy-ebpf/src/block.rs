//! Announced prefixes are too coarse to tell one sender from another: blocks are all of the same
//! size.

use crate::packet::Address;

/// An IPv4 /24 or an IPv6 /48, as the key of a map: the family in the highest byte, the network in
/// the lowest ones.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block(u64);

/// How long the prefixes that blocks stand for are.
pub const V4_LENGTH: u8 = 24;
pub const V6_LENGTH: u8 = 48;

const FAMILY: u32 = 56;
const V4: u64 = 4;
const V6: u64 = 6;

impl Block {
    /// The block in which an address lies.
    #[inline(always)]
    pub fn of(address: Address) -> Self {
        match address {
            Address::V4([a, b, c, _]) => Self(V4 << FAMILY | u64::from_be_bytes([0, 0, 0, 0, 0, a, b, c])),
            Address::V6([a, b, c, d, e, f, ..]) => {
                Self(V6 << FAMILY | u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
            }
        }
    }

    /// Its first address.
    pub fn address(self) -> Address {
        let [family, _, a, b, c, d, e, f] = self.0.to_be_bytes();
        if u64::from(family) == V4 {
            return Address::V4([d, e, f, 0]);
        }
        let mut address = [0; 16];
        address[..6].copy_from_slice(&[a, b, c, d, e, f]);
        Address::V6(address)
    }

    /// In bits.
    pub fn length(self) -> u8 {
        match self.address() {
            Address::V4(_) => V4_LENGTH,
            Address::V6(_) => V6_LENGTH,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_knows_its_network() {
        let v4 = Block::of(Address::V4([157, 240, 1, 7]));
        assert_eq!((v4.address(), v4.length()), (Address::V4([157, 240, 1, 0]), 24));
        assert_eq!(v4, Block::of(Address::V4([157, 240, 1, 255])));
        assert_ne!(v4, Block::of(Address::V4([157, 240, 2, 7])));

        let mut address = [0xff; 16];
        let v6 = Block::of(Address::V6(address));
        address[6..].fill(0);
        assert_eq!((v6.address(), v6.length()), (Address::V6(address), 48));
        address[5] = 0;
        assert_ne!(v6, Block::of(Address::V6(address)));
    }

    #[test]
    fn families_do_not_mix() {
        assert_ne!(Block::of(Address::V4([0; 4])), Block::of(Address::V6([0; 16])));
    }
}
