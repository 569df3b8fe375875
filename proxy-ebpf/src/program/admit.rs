use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use hookgate_ebpf::abi::{ALLOWED, OTHER, Settings, Stranger};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::limit::Limit;
use hookgate_ebpf::packet::{Address, Packet, Segment, Unparsed};
use hookgate_ebpf::verdict::{self, Reason, Verdict};

use super::maps::{BUCKETS, STRANGERS, coarse_now, counters, settings};
use super::sources::{self, Meta, is_allowed};
use super::{atomic, attempts, log};

/// Counts a segment to a guarded port, and says what becomes of it.
#[inline(always)]
pub fn admit(frame: &impl Packet, segment: &Segment) -> u32 {
    let Some(settings) = settings() else { return XDP_PASS };
    let (wire, now) = (frame.on_wire(segment.data_at), coarse_now());
    if let Some(meta) = Meta::find(segment.source, settings) {
        if let Some(counters) = counters(meta.index) {
            counters.pass(segment.flags, wire, now, |count, more| *count += more);
        }
        if let Some(seen) = meta.seen {
            seen.counters.pass(segment.flags, wire, now, atomic::add);
        }
        attempts::follow(frame, segment, meta.index, now);
        return XDP_PASS;
    }
    let is_allowed = settings.has_allowed != 0 && is_allowed(segment.source);
    let verdict = if is_allowed {
        Verdict::Pass
    } else {
        verdict::of_stranger(settings.mode, segment.flags, || admits_syn(segment.source, settings))
    };
    let index = if is_allowed { ALLOWED } else { OTHER };
    let Some(counters) = counters(index) else { return XDP_PASS };
    match verdict {
        Verdict::Pass => {
            counters.pass(segment.flags, wire, now, |count, more| *count += more);
            if !is_allowed {
                remember(segment, wire.packets, now);
            }
            attempts::follow(frame, segment, index, now);
            XDP_PASS
        }
        Verdict::Drop(reason) => {
            counters.drop(wire, now);
            log::dropped(frame, segment.source, segment.destination_port, reason, wire.packets, now);
            XDP_DROP
        }
    }
}

/// Says what becomes of a packet whose flags are not to be seen, `reason` being why; counts it.
/// `port`: 0 where it is not seen either.
#[inline(always)]
pub fn admit_hidden(frame: &impl Packet, source: Address, port: u16, reason: Reason) -> u32 {
    let Some(settings) = settings() else { return XDP_PASS };
    let [high, low] = source.words();
    if verdict::of_hidden(settings.mode, reason) == Verdict::Pass || index_of(high, low) != OTHER {
        let why = match reason {
            Reason::Fragment => Unparsed::ShortFragment,
            _ => Unparsed::LongChain,
        };
        log::passed_unparsed(frame, source, port, why);
        return XDP_PASS;
    }
    let now = coarse_now();
    // Where its headers end is not known. The kernel bundles no such packets.
    let wire = frame.on_wire(0);
    if let Some(counters) = counters(OTHER) {
        counters.drop(wire, now);
    }
    log::dropped(frame, source, port, reason, wire.packets, now);
    XDP_DROP
}

/// Of a source in two numbers, and in a function of its own: else the compiler may look up IPv4 and
/// IPv6 at one place, with bytes that an IPv4 address has not written, and the verifier of Linux
/// 5.15 refuses the program.
#[inline(never)]
fn index_of(high: u64, low: u64) -> u32 {
    let mapped = u128::from(high) << 64 | u128::from(low);
    sources::index(Address::from_mapped(mapped.to_be_bytes()))
}

/// Takes a token from the source's bucket. Two CPUs at the same bucket may take one for two.
#[inline(always)]
fn admits_syn(source: Address, settings: &Settings) -> bool {
    let limit: &Limit = &settings.limit;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let key = bucket(source);
    if let Some(full_at) = BUCKETS.get_ptr_mut(key) {
        // SAFETY: the map's own memory; what another CPU writes meanwhile is a number too.
        let full_at = unsafe { &mut *full_at };
        return limit.admit(*full_at, now).map(|later| *full_at = later).is_some();
    }
    if let Some(full_at) = limit.admit(0, now) {
        BUCKETS.insert(key, full_at, 0).ok();
    }
    true
}

/// An IPv4 address, or an IPv6 /64: what one machine has.
#[inline(always)]
fn bucket(source: Address) -> [u64; 2] {
    match source {
        Address::V4(address) => [0, 0xffff << 32 | u64::from(u32::from_be_bytes(address))],
        Address::V6([a, b, c, d, e, f, g, h, ..]) => [u64::from_be_bytes([a, b, c, d, e, f, g, h]), 0],
    }
}

/// A source that `strict` would have dropped.
#[inline(always)]
fn remember(segment: &Segment, packets: u64, now: u64) {
    let block = Block::of(segment.source);
    let syns = u64::from(segment.flags.opens());
    if let Some(stranger) = STRANGERS.get_ptr_mut(block) {
        // SAFETY: the map's own memory; other CPUs add to the same counts, and write times too.
        let stranger = unsafe { &mut *stranger };
        atomic::add(&mut stranger.packets, packets);
        atomic::add(&mut stranger.syns, syns);
        stranger.last_seen = now;
    } else {
        STRANGERS.insert(block, Stranger { packets, syns, last_seen: now }, 0).ok();
    }
}
