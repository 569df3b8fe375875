//! All maps, also those that only user space looks at: so they come from one place, with types.

use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::btf_map;
use hookgate_ebpf::abi::{self, Counters, FIRST_PREFIX, Requests, Row, Seen, Settings, Stranger, Sweep};
use hookgate_ebpf::attempt::{Attempt, AttemptKey};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::diagnostic::{Diagnostic, Occurrence};
use hookgate_ebpf::event::{self, Event, Events, Reader};
use hookgate_ebpf::kernel_drops::{self, Dropped, Layout};
use hookgate_ebpf::sampling::{Class, Occupancy};
use hookgate_ebpf::transport::Transport;
use hookgate_ebpf::verdict::Reason;
use hookgate_ebpf::waiting;

use super::atomic;

const CAPACITY: usize = abi::CAPACITY as usize;
const ALLOWED: usize = abi::ALLOWED_CAPACITY as usize;

#[btf_map]
static COUNTERS: PerCpuArray<Counters, CAPACITY> = PerCpuArray::new();
#[btf_map]
pub static PREFIXES_V4: LpmTrie<[u8; 4], u32, CAPACITY> = LpmTrie::new();
#[btf_map]
pub static PREFIXES_V6: LpmTrie<[u8; 16], u32, CAPACITY> = LpmTrie::new();
#[btf_map]
pub static ALLOWED_V4: LpmTrie<[u8; 4], u32, ALLOWED> = LpmTrie::new();
#[btf_map]
pub static ALLOWED_V6: LpmTrie<[u8; 16], u32, ALLOWED> = LpmTrie::new();
#[btf_map]
static PORTS: Array<u64, { abi::PORT_WORDS as usize }> = Array::new();
#[btf_map]
pub static ATTEMPTS_META: Attempts<{ abi::ATTEMPTS_META_CAPACITY as usize }> = HashMap::new();
#[btf_map]
pub static ATTEMPTS_OTHER: Attempts<{ abi::ATTEMPTS_OTHER_CAPACITY as usize }> = HashMap::new();
/// Written by several CPUs at once.
#[btf_map]
static WAITING: Array<u64, { waiting::SLOTS as usize }> = Array::new();
#[btf_map]
pub static SWEEP: Array<Sweep, 1> = Array::new();
#[btf_map]
pub static UNTRACKED: Array<u64, CAPACITY> = Array::new();
#[btf_map]
pub static SEEN: LruHashMap<Block, Seen, { abi::SEEN_CAPACITY as usize }> = LruHashMap::new();
#[btf_map]
pub static PROVEN: HashMap<Block, Seen, { abi::PROVEN_CAPACITY as usize }> = HashMap::new();
#[btf_map]
pub static STRANGERS: LruHashMap<Block, Stranger, { abi::STRANGERS_CAPACITY as usize }> = LruHashMap::new();
/// An IPv4 address mapped into IPv6, or an IPv6 /64 with zeros behind.
#[btf_map]
pub static BUCKETS: LruHashMap<[u64; 2], u64, { abi::BUCKETS_CAPACITY as usize }> = LruHashMap::new();
#[btf_map]
static DROPS: PerCpuArray<u64, { Reason::ALL.len() }> = PerCpuArray::new();
#[btf_map]
static ROWS: Array<Row, CAPACITY> = Array::new();
#[btf_map]
static REQUESTS: Array<Requests, CAPACITY, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map]
pub static TRANSPORT: Array<Transport, CAPACITY> = Array::new();
#[btf_map]
pub static SOCKETS: SkStorage<u32> = SkStorage::new();
#[btf_map]
pub static KERNEL_DROPS: HashMap<Dropped, u64, { kernel_drops::CAPACITY as usize }> = HashMap::new();
#[btf_map]
pub static SKB_LAYOUT: Array<Layout, 1> = Array::new();
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
static EVENTS: PerCpuArray<Events, { event::CAUSES as usize }> = PerCpuArray::new();
#[btf_map]
pub static LOG_READER: Array<Reader, 1> = Array::new();
#[btf_map]
pub static LOG: RingBuf<Event, { event::LOG_BYTES as usize }> = RingBuf::new();

#[btf_map]
pub static DIAGNOSTICS: Array<Occurrence, { Diagnostic::ALL.len() }> = Array::new();
#[btf_map]
static OCCUPANCY: Array<Occupancy, { Class::ALL.len() }> = Array::new();

pub type Attempts<const N: usize> = HashMap<AttemptKey, Attempt, N>;

pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

#[inline(always)]
pub fn is_guarded(port: u16) -> bool {
    let port = u32::from(port);
    PORTS.get(port / abi::PORTS_PER_WORD).is_some_and(|word| word >> (port % abi::PORTS_PER_WORD) & 1 == 1)
}

#[inline(always)]
pub fn counters(index: u32) -> Option<&'static mut Counters> {
    // SAFETY: the map's own memory, this CPU's alone while the program runs.
    COUNTERS.get_ptr_mut(index).map(|counters| unsafe { &mut *counters })
}

/// The entry of a block of Meta's that has proved to be a sender.
#[inline(always)]
pub fn proven(block: Block) -> Option<&'static mut Seen> {
    // SAFETY: the map's own memory. Other CPUs write it too: what they count is added in one step,
    // the rest is one number each, of which any is true.
    PROVEN.get_ptr_mut(block).map(|seen| unsafe { &mut *seen })
}

/// The entry of any other block of Meta's.
#[inline(always)]
pub fn seen(block: Block) -> Option<&'static mut Seen> {
    // SAFETY: as above; an entry that gives way to another meanwhile stays memory of this map.
    SEEN.get_ptr_mut(block).map(|seen| unsafe { &mut *seen })
}

/// Counts something that is not the packet at hand, for a prefix and the block in it: adds `more`
/// to one of the counts.
#[inline(never)]
pub fn count_for(index: u32, block: Block, more: u64, count: impl Fn(&mut Counters) -> &mut u64) {
    if let Some(counters) = counters(index) {
        let count = count(counters);
        *count = count.wrapping_add(more);
    }
    if index >= FIRST_PREFIX
        && let Some(seen) = proven(block).or_else(|| seen(block))
    {
        atomic::add(count(&mut seen.counters), more);
    }
}

/// How many attempts with a source of this slot were answered and are open.
#[inline(always)]
pub fn waiting(slot: u32) -> Option<&'static mut u64> {
    // SAFETY: the map's own memory. Other CPUs write it too, in one step.
    WAITING.get_ptr_mut(slot).map(|waiting| unsafe { &mut *waiting })
}

/// How full the table is that attempts of an index are in.
#[inline(always)]
pub fn occupancy(class: Class) -> Option<&'static mut Occupancy> {
    // SAFETY: the map's own memory. Other CPUs write it too: entries are counted in one step, the
    // rest is a time.
    OCCUPANCY.get_ptr_mut(class as u32).map(|occupancy| unsafe { &mut *occupancy })
}

#[inline(always)]
pub fn count_drop(reason: Reason, packets: u64) {
    if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: as for `counters`.
        unsafe { *count += packets };
    }
}

/// What was logged of a cause, by number.
#[inline(always)]
pub fn events(cause: u32) -> Option<&'static mut Events> {
    // SAFETY: as for `counters`.
    EVENTS.get_ptr_mut(cause).map(|events| unsafe { &mut *events })
}

/// Nanoseconds of CLOCK_MONOTONIC, in steps of a few milliseconds.
#[inline(always)]
pub fn coarse_now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}
