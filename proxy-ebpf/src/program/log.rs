//! The log: events for a reader, while there is one.
//!
//! Whether there is one is asked before an event is counted, and it is logged after: so a reader
//! that sums up counts before it begins and after it has ended finds each logged event counted.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use hookgate_ebpf::event::{Cause, EVENT_LIMIT, Failure, SNAP_BYTES};
use hookgate_ebpf::packet::{Address, Packet, Unparsed};
use hookgate_ebpf::verdict::Reason;

use super::maps::{LOG, LOG_READER, coarse_now, count_drop, events};

/// The reader's session; 0: there is none.
#[inline(always)]
fn session(now: u64) -> u32 {
    match LOG_READER.get(0) {
        Some(reader) if now < reader.until => reader.session(),
        _ => 0,
    }
}

/// Counts a frame that is dropped, of `packets` on the wire.
#[inline(always)]
pub fn dropped(frame: &impl Packet, source: Address, port: u16, reason: Reason, packets: u64, now: u64) {
    let session = session(now);
    count_drop(reason, packets);
    if session != 0 {
        let [high, low] = source.words();
        write(frame, high, low, packed(port, Cause::Dropped(reason)), session);
    }
}

/// Counts a packet that passes, and may carry TCP to a guarded port.
#[inline(always)]
pub fn passed_unparsed(frame: &impl Packet, source: Address, port: u16, why: Unparsed) {
    let [high, low] = source.words();
    count_unparsed(frame, high, low, packed(port, Cause::Unparsed(why)));
}

/// The same, from a source that is left to user space to find in the frame.
#[inline(always)]
pub fn unparsed(frame: &impl Packet, why: Unparsed) {
    count_unparsed(frame, 0, 0, packed(0, Cause::Unparsed(why)));
}

#[inline(never)]
fn count_unparsed(frame: &impl Packet, high: u64, low: u64, packed: u64) {
    count(frame, high, low, packed);
}

/// Counts a failed attempt.
#[inline(never)]
pub fn failed(source: &[u8; 16], port: u16, why: Failure) {
    let [high, low] = Address::V6(*source).words();
    count(&NoFrame, high, low, packed(port, Cause::Failed(why)));
}

/// The port, and the cause's number below it.
#[inline(always)]
fn packed(port: u16, cause: Cause) -> u64 {
    u64::from(port) << 32 | u64::from(cause.number())
}

#[inline(always)]
fn count(frame: &impl Packet, high: u64, low: u64, packed: u64) {
    let session = session(coarse_now());
    if let Some(events) = events(packed as u32) {
        events.counted += 1;
    }
    if session != 0 {
        write(frame, high, low, packed, session);
    }
}

/// Logs an event, if there is a token for it and room.
#[inline(never)]
fn write(frame: &impl Packet, high: u64, low: u64, packed: u64, session: u32) {
    let (port, cause) = ((packed >> 32) as u16, packed as u32);
    let Some(events) = events(cause) else { return };
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    let Some(full_at) = EVENT_LIMIT.admit(events.full_at, time) else { return };
    events.full_at = full_at;
    let Some(mut record) = LOG.reserve(0) else { return };
    let (event, bytes) = (record.as_mut_ptr(), frame.snap_bytes() as u32);
    // SAFETY: memory for one event, which the kernel has given; each write is within it, and the
    // source begins at a multiple of 8.
    unsafe {
        let to = (&raw mut (*event).frame).cast::<[u8; 2]>();
        let mut words = 0;
        // Two at a time: the verifier does not see that a single one was checked.
        while words < SNAP_BYTES / 2 {
            let Some(word) = frame.snap(2 * words) else { break };
            to.add(words).write(word);
            words += 1;
        }
        let head = &raw mut (*event).head;
        (&raw mut (*head).time).write(time);
        (&raw mut (*head).session).write(session);
        (&raw mut (*head).cause).write(cause);
        (&raw mut (*head).source).cast::<[u64; 2]>().write([high.to_be(), low.to_be()]);
        (&raw mut (*head).port).write(port);
        (&raw mut (*head).captured).write(2 * words as u16);
        (&raw mut (*head).bytes).write(bytes);
    }
    record.submit(0);
}

/// What an attempt has.
struct NoFrame;

impl Packet for NoFrame {
    #[inline(always)]
    fn read<const N: usize>(&self, _: usize) -> Option<[u8; N]> {
        None
    }

    #[inline(always)]
    fn bytes(&self) -> u64 {
        0
    }

    #[inline(always)]
    fn reaches(&self, _: usize) -> bool {
        false
    }
}
