//! Whose a source is: Meta's, an allowed network's, a stranger's; asked in this order.

use aya_ebpf::btf_maps::lpm_trie::Key;
use hookgate_ebpf::abi::{self, Counters, Seen, Settings};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::diagnostic::Diagnostic;
use hookgate_ebpf::fingerprint::Fingerprint;
use hookgate_ebpf::packet::Address;

use super::maps::{self, ALLOWED_V4, ALLOWED_V6, PREFIXES_V4, PREFIXES_V6, PROVEN, SEEN};
use super::{atomic, diagnostics};

const NOEXIST: u64 = 1;

/// An entry with no counts. It is no value on the stack, which has 512 bytes for a program and all
/// that it calls.
static NOTHING: [u64; size_of::<Seen>() / size_of::<u64>()] = [0; _];

#[inline(always)]
fn nothing_seen() -> &'static Seen {
    // SAFETY: an entry is integers without padding, as many as these.
    unsafe { &*(&raw const NOTHING).cast() }
}
const EEXIST: i32 = -17;

/// Numbers in [`Counters`], and which of them is no count.
const COUNTS: usize = size_of::<Counters>() / size_of::<u64>();
const LAST_SEEN: usize = core::mem::offset_of!(Counters, last_seen) / size_of::<u64>();

/// The index of the longest of Meta's prefixes that holds a source, and the entry of its block.
pub struct Meta {
    pub index: u32,
    /// `None` only when there is no memory for one.
    pub seen: Option<&'static mut Seen>,
}

impl Meta {
    #[inline(always)]
    pub fn find(source: Address, settings: &Settings) -> Option<Self> {
        if !settings.may_be_metas(source) {
            return None;
        }
        let block = Block::of(source);
        let generation = settings.generation(source);
        let proven = maps::proven(block);
        if let Some(seen) = &proven
            && let Some(index) = seen.index(generation)
        {
            return Some(Self { index, seen: proven });
        }
        let index = prefix(source)?;
        match proven {
            Some(seen) => {
                seen.set_index(generation, index);
                Some(Self { index, seen: Some(seen) })
            }
            None => Some(Self { index, seen: maps::seen(block).or_else(|| insert(block)) }),
        }
    }
}

/// A handshake was completed from there: the peer that did that gets packets at this address, and
/// no flood of others that only use it takes its place. What was counted of it so far comes along.
#[inline(never)]
pub fn prove(block: Block, fingerprint: Fingerprint, now: u64) {
    // There, or no room: then it stays where it is.
    let is_new = match PROVEN.insert(block, nothing_seen(), NOEXIST) {
        Ok(()) => true,
        Err(EEXIST) => false,
        Err(_) => return diagnostics::occurred(Diagnostic::NoRoomForProven, now),
    };
    let Some(proven) = maps::proven(block) else { return };
    proven.proven_at = now;
    let variants = proven.variants.with(fingerprint);
    // Handshakes of one block need not fight for it.
    if proven.variants != variants {
        proven.variants = variants;
    }
    if !is_new {
        return;
    }
    let Some(seen) = maps::seen(block) else { return };
    proven.counters.last_seen = seen.counters.last_seen;
    // The former entry stays: another CPU may be about to count there. One count after the other:
    // the stack has no room for references to all.
    let (from, to) = (&raw mut seen.counters, &raw mut proven.counters);
    for count in (0..COUNTS).filter(|count| *count != LAST_SEEN) {
        // SAFETY: counters are integers of 64 bits alone, as many as these.
        let (from, to) = unsafe { (&mut *from.cast::<u64>().add(count), &mut *to.cast::<u64>().add(count)) };
        atomic::add(to, atomic::swap(from, 0));
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

/// The index of the longest of Meta's prefixes that holds an address.
#[inline(always)]
pub fn prefix(source: Address) -> Option<u32> {
    match source {
        Address::V4(address) => PREFIXES_V4.get(&Key::new(32, address)),
        Address::V6(address) => PREFIXES_V6.get(&Key::new(128, address)),
    }
    .copied()
}

/// Another CPU may have been faster: then its entry serves.
#[inline(never)]
fn insert(block: Block) -> Option<&'static mut Seen> {
    SEEN.insert(block, nothing_seen(), NOEXIST).ok();
    maps::seen(block)
}
