//! Why an attempt failed: tc sees the SYN-ACKs and RSTs that leave for it, XDP what comes after.
//!
//! Established traffic pays little for it. Of what leaves, only segments with SYN or RST are
//! looked up. Of what comes, only segments of sources that have an attempt which is answered and
//! open. An array counts these by a hash of the source.

use hookgate_ebpf::attempt::{Attempt, AttemptKey, PROOF_LASTS};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::event::Failure;
use hookgate_ebpf::packet::{Address, Flags, Segment};
use hookgate_ebpf::waiting;

use super::maps::{self, ATTEMPTS_META, ATTEMPTS_OTHER, count_for, proven};
use super::{atomic, log, transport};

/// A SYN-ACK or RST leaves.
#[inline(always)]
pub fn answered(segment: &Segment) {
    let key = AttemptKey {
        source: segment.destination.mapped(),
        // Both acknowledge the SYN, which takes one number.
        sequence: segment.acknowledgement.wrapping_sub(1),
        source_port: segment.destination_port,
        reserved: 0,
    };
    let known = ATTEMPTS_META.get_ptr_mut(key).or_else(|| ATTEMPTS_OTHER.get_ptr_mut(key));
    let Some(attempt) = known else { return };
    // SAFETY: the map's own memory. What other CPUs write too is added in one step, or set once and
    // for all.
    let attempt = unsafe { &mut *attempt };
    if segment.flags.has(Flags::RST) {
        attempt.evidence.is_refused = 1;
        return;
    }
    attempt.answer_sequence = segment.sequence;
    if attempt.answered == 0 {
        attempt.answered = transport::now();
    }
    if atomic::fetch_add(&mut attempt.answers, 1) == 0
        && let Some(waiting) = maps::waiting(slot(&key))
    {
        atomic::add(waiting, 1);
    }
}

/// Whether an attempt of this source, or of another with the same slot, is answered and open.
#[inline(always)]
pub fn is_awaited(segment: &Segment) -> bool {
    maps::waiting(waiting::slot(segment.source, segment.source_port)).is_some_and(|waiting| *waiting != 0)
}

/// A segment that acknowledges came. One with another number than the SYN-ACK has is forged, or
/// belongs to nothing.
#[inline(always)]
pub fn acknowledged(attempt: &mut Attempt, acknowledgement: u32) {
    if attempt.is_answered() && acknowledgement == attempt.answer_sequence.wrapping_add(1) {
        attempt.evidence.is_acknowledged = 1;
    }
}

/// The attempt is open no more. To be called once.
#[inline(always)]
pub fn stop_waiting(attempt: &mut Attempt, key: &AttemptKey) {
    if atomic::fetch_add(&mut attempt.answers, Attempt::ENDED) != 0
        && let Some(waiting) = maps::waiting(slot(key))
    {
        atomic::add(waiting, 1u64.wrapping_neg());
    }
}

#[inline(always)]
fn slot(key: &AttemptKey) -> u32 {
    waiting::slot(Address::from_mapped(key.source), key.source_port)
}

/// Counts a failed attempt in the first class that applies.
#[inline(always)]
pub fn classify(attempt: &Attempt, key: &AttemptKey, block: Block, now: u64) {
    let index = attempt.index;
    let evidence = attempt.evidence;
    let why = if evidence.is_watched == 0 {
        count_for(index, block, 1, |counters| &mut counters.failed_by.unclassified);
        Failure::Unclassified
    } else if evidence.is_reset != 0 {
        count_for(index, block, 1, |counters| &mut counters.failed_by.reset);
        Failure::Reset
    } else if evidence.is_refused != 0 {
        count_for(index, block, 1, |counters| &mut counters.failed_by.refused);
        Failure::Refused
    } else if evidence.is_acknowledged != 0 {
        count_for(index, block, 1, |counters| &mut counters.failed_by.uncompleted);
        Failure::Uncompleted
    } else if evidence.is_repeated != 0 {
        count_for(index, block, 1, |counters| &mut counters.failed_by.unheard);
        Failure::Unheard
    } else if attempt.is_answered() {
        count_for(index, block, 1, |counters| &mut counters.failed_by.silent);
        match doubt(attempt, block, now) {
            Some(Doubt::Unproven) => count_for(index, block, 1, |counters| &mut counters.unproven.silent),
            Some(Doubt::Suspect) => count_for(index, block, 1, |counters| &mut counters.suspect.silent),
            None => {}
        }
        Failure::Silent
    } else {
        count_for(index, block, 1, |counters| &mut counters.failed_by.unanswered);
        match doubt(attempt, block, now) {
            Some(Doubt::Unproven) => count_for(index, block, 1, |counters| &mut counters.unproven.unanswered),
            Some(Doubt::Suspect) => count_for(index, block, 1, |counters| &mut counters.suspect.unanswered),
            None => {}
        }
        Failure::NoSynAck
    };
    log::failed(&key.source, u16::from_be_bytes(evidence.port), why);
}

/// Why a source may be forged.
enum Doubt {
    /// No handshake was completed from its block for long.
    Unproven,
    /// The SYN looks unlike those of the block's completed attempts.
    Suspect,
}

/// Of an attempt that was not answered, or silent after that. A forged source sends no SYN again.
#[inline(always)]
fn doubt(attempt: &Attempt, block: Block, now: u64) -> Option<Doubt> {
    if attempt.evidence.is_ignored != 0 {
        return None;
    }
    match proven(block).filter(|seen| now < seen.proven_at + PROOF_LASTS) {
        None => Some(Doubt::Unproven),
        Some(seen) if seen.variants.are_unlike(attempt.fingerprint) => Some(Doubt::Suspect),
        Some(_) => None,
    }
}

/// Counts a completed attempt whose SYN came again by the answer to the first SYN.
#[inline(always)]
pub fn classify_late(attempt: &Attempt, block: Block) {
    let evidence = attempt.evidence;
    if evidence.is_watched == 0 {
        return;
    }
    if evidence.is_ignored != 0 {
        count_for(attempt.index, block, 1, |counters| &mut counters.late_by.unanswered);
    } else if evidence.is_repeated != 0 {
        count_for(attempt.index, block, 1, |counters| &mut counters.late_by.unheard);
    }
}
