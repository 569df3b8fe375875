//! Whose a source is: Meta's, an allowed network's, a stranger's; asked in this order.

use aya_ebpf::btf_maps::lpm_trie::Key;
use hookgate_ebpf::abi::{self, Seen, Settings};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::packet::Address;

use super::maps::{self, ALLOWED_V4, ALLOWED_V6, PREFIXES_V4, PREFIXES_V6, SEEN};

const NOEXIST: u64 = 1;

/// The index of the longest of Meta's prefixes that holds a source, and the entry of its block.
pub struct Meta {
    pub index: u32,
    /// `None` only when there is no memory for one.
    pub seen: Option<&'static mut Seen>,
}

impl Meta {
    #[inline(always)]
    pub fn find(source: Address, settings: &Settings) -> Option<Self> {
        let block = Block::of(source);
        let generation = settings.generation(source);
        let mut seen = maps::seen(block);
        if let Some(known) = &seen
            && known.generation == generation
        {
            return Some(Self { index: known.index, seen });
        }
        let index = prefix(source)?;
        if seen.is_none() {
            seen = insert(block);
        }
        if let Some(seen) = &mut seen {
            seen.index = index;
            // An odd one is never compared with: see `Settings`.
            seen.generation = if generation % 2 == 0 { generation } else { 0 };
        }
        Some(Self { index, seen })
    }
}

/// The index of a source's counters.
#[inline(always)]
pub fn index(source: Address) -> u32 {
    match prefix(source) {
        Some(index) => index,
        None if is_allowed(source) => abi::ALLOWED,
        None => abi::OTHER,
    }
}

#[inline(always)]
pub fn is_allowed(source: Address) -> bool {
    match source {
        Address::V4(address) => ALLOWED_V4.get(&Key::new(32, address)),
        Address::V6(address) => ALLOWED_V6.get(&Key::new(128, address)),
    }
    .is_some()
}

#[inline(always)]
fn prefix(source: Address) -> Option<u32> {
    match source {
        Address::V4(address) => PREFIXES_V4.get(&Key::new(32, address)),
        Address::V6(address) => PREFIXES_V6.get(&Key::new(128, address)),
    }
    .copied()
}

/// Another CPU may have been faster: then its entry serves.
#[inline(never)]
fn insert(block: Block) -> Option<&'static mut Seen> {
    SEEN.insert(block, Seen::default(), NOEXIST).ok();
    maps::seen(block)
}
