//! What the programs could not do. They take down when; the sweep logs it, through aya-log: it runs
//! on one CPU and four times a second, whatever a flood does.

use aya_log_ebpf::warn;
use hookgate_ebpf::diagnostic::Diagnostic;

use super::maps::DIAGNOSTICS;

#[inline(always)]
pub fn occurred(diagnostic: Diagnostic, now: u64) {
    if let Some(occurrence) = DIAGNOSTICS.get_ptr_mut(diagnostic as u32) {
        // SAFETY: the map's own memory; what another CPU writes meanwhile is a time too.
        let last = unsafe { &mut (*occurrence).last };
        // A flood's CPUs need not fight for it.
        if *last != now {
            *last = now;
        }
    }
}

/// To be called by the sweep alone.
#[inline(always)]
pub fn log(now: u64) {
    if is_due(Diagnostic::NoRoomForMeta, now) {
        warn!((), "more attempts of Meta's sources than there is room for: only some are followed");
    }
    if is_due(Diagnostic::NoRoomForOthers, now) {
        warn!((), "more attempts of other sources than there is room for: only some are followed");
    }
    if is_due(Diagnostic::NoRoomForProven, now) {
        warn!((), "no room among the networks that have completed a handshake: a flood may evict new ones");
    }
}

/// Whether it must be logged; that it was is taken down.
#[inline(always)]
fn is_due(diagnostic: Diagnostic, now: u64) -> bool {
    let Some(occurrence) = DIAGNOSTICS.get_ptr_mut(diagnostic as u32) else { return false };
    // SAFETY: as above; `logged` is the sweep's alone.
    let occurrence = unsafe { &mut *occurrence };
    let is_due = occurrence.is_due(now);
    if is_due {
        occurrence.logged = now;
    }
    is_due
}
