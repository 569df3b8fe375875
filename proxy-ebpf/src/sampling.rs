//! Which attempts are followed where more are under way than there is room for. The nearer a table
//! is to being full, the fewer begin: so there is always room for the sources that must be
//! followed.

use crate::abi::{ALLOWED, FIRST_PREFIX};

/// A [`Class`] → its [`Occupancy`].
pub const OCCUPANCY: &str = "OCCUPANCY";

/// Whose attempts share a table.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Meta = 0,
    Other = 1,
}

impl Class {
    pub const ALL: [Self; 2] = [Self::Meta, Self::Other];

    /// Of the counters at an index.
    #[inline(always)]
    pub fn of(index: u32) -> Self {
        if index >= FIRST_PREFIX { Self::Meta } else { Self::Other }
    }
}

/// How full a table of attempts is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// How many attempts are in it.
    pub entries: u64,
    /// Since when not all are followed, as [`crate::abi::Counters::last_seen`]; 0: all are.
    pub since: u64,
}
const _: () = assert!(size_of::<Occupancy>() == 16);

/// How many times the share of sources that are followed is halved: from three quarters full on,
/// once for each 64th of the room.
#[inline(always)]
pub fn halvings(entries: u64, capacity: u64) -> u32 {
    let begin = capacity / 4 * 3;
    if entries < begin { 0 } else { 1 + ((entries - begin) / (capacity / 64)) as u32 }
}

/// Whether a source, mapped, is among those. A source that is followed at one share is at all
/// greater ones.
#[inline(always)]
pub fn is_followed(source: &[u8; 16], halvings: u32) -> bool {
    /// As for [`crate::abi::waiting_slot`].
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *source;
    let (high, low) =
        (u64::from_be_bytes([a, b, c, d, e, f, g, h]), u64::from_be_bytes([i, j, k, l, m, n, o, p]));
    // Twice, since senders may choose addresses that differ in a few bits.
    let product = (high ^ low).wrapping_mul(FACTOR);
    let hash = (product ^ product >> 32).wrapping_mul(FACTOR) >> 32;
    halvings == 0 || hash >> (32 - if halvings < 32 { halvings } else { 31 }) == 0
}

/// Whether attempts of the allowed networks, which are few, are at this index.
#[inline(always)]
pub fn is_exempt(index: u32) -> bool {
    index == ALLOWED
}

/// Whether a table is so full that attempts leave it when they are completed.
#[inline(always)]
pub fn is_half_full(entries: u64, capacity: u64) -> bool {
    entries >= capacity / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Address;

    #[test]
    fn the_fuller_the_table_the_fewer_are_followed() {
        const CAPACITY: u64 = 16384;
        let halvings = |entries| halvings(entries, CAPACITY);
        assert_eq!([0, 12287, 12288, 12543, 12544, 16383, 16384].map(halvings), [0, 0, 1, 1, 2, 16, 17]);
    }

    #[test]
    fn the_share_of_sources_is_as_told() {
        const SOURCES: u32 = 1 << 16;
        let source = |number: u32| Address::V4((0x9df0_0000 | number).to_be_bytes()).mapped();
        for halvings in 0..8 {
            let followed = (0..SOURCES).filter(|number| is_followed(&source(*number), halvings)).count();
            let told = f64::from(SOURCES) / f64::from(1u32 << halvings);
            assert!((followed as f64 - told).abs() < 4.0 * told.sqrt() + 1.0, "{followed} of {told}");
            let is_subset = |number: u32| {
                !is_followed(&source(number), halvings + 1) || is_followed(&source(number), halvings)
            };
            assert!((0..SOURCES).all(is_subset));
        }
    }
}
