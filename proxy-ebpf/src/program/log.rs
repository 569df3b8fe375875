//! The log: events for a reader, while there is one.
//!
//! Whether there is one is asked before an event is counted, and it is logged after: so a reader
//! that sums up counts before it begins and after it has ended finds each logged event counted.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use hookgate_ebpf::event::{Cause, EVENT_LIMIT, EventHead, Failure, SNAP_BYTES};
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
        write(frame, &source.mapped(), port, Cause::Dropped(reason).number(), session);
    }
}

/// Counts a packet that passes, and may carry TCP to a guarded port. `source`, as far as it is
/// known, is mapped.
#[inline(never)]
pub fn unparsed(frame: &impl Packet, source: &[u8; 16], port: u16, why: Unparsed) {
    count(frame, source, port, Cause::Unparsed(why));
}

/// Counts a failed attempt.
#[inline(never)]
pub fn failed(source: &[u8; 16], port: u16, why: Failure) {
    count(&NoFrame, source, port, Cause::Failed(why));
}

#[inline(always)]
fn count(frame: &impl Packet, source: &[u8; 16], port: u16, cause: Cause) {
    let session = session(coarse_now());
    if let Some(events) = events(cause.number()) {
        events.counted += 1;
    }
    if session != 0 {
        write(frame, source, port, cause.number(), session);
    }
}

/// Logs an event, if there is a token for it and room.
#[inline(never)]
fn write(frame: &impl Packet, source: &[u8; 16], port: u16, cause: u32, session: u32) {
    let Some(events) = events(cause) else { return };
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_ns() };
    let Some(full_at) = EVENT_LIMIT.admit(events.full_at, time) else { return };
    events.full_at = full_at;
    let Some(mut record) = LOG.reserve(0) else { return };
    let (event, bytes) = (record.as_mut_ptr(), frame.snap_bytes() as u32);
    // SAFETY: memory for one event, which the kernel has given; each write is within it.
    unsafe {
        let to = (&raw mut (*event).frame).cast::<[u8; 2]>();
        let mut words = 0;
        // Two at a time: the verifier does not see that a single one was checked.
        while words < SNAP_BYTES / 2 {
            let Some(word) = frame.snap(2 * words) else { break };
            to.add(words).write(word);
            words += 1;
        }
        let captured = 2 * words as u16;
        let head = EventHead { time, session, cause, source: *source, port, captured, bytes };
        (&raw mut (*event).head).write(head);
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
