//! Handshakes, from the SYN that XDP saw to the result. The kernel's TCP says which were completed,
//! and one timer sweeps out what has failed: no process has to, and no peer can claim a handshake
//! by sending packets. (A timer in each attempt would be simpler. The kernel would have to allocate
//! it while a packet waits, and since 6.18 often can't.)
//!
//! Each SYN either begins an attempt, or belongs to one (same source and number), or is untracked;
//! each attempt ends once, by the CPU that takes its phase OPEN away. So always: syns =
//! retransmitted + completed + failed + open + untracked.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::bpf_map_delete_elem;
use aya_ebpf::helpers::generated::{
    bpf_for_each_map_elem, bpf_timer_init, bpf_timer_set_callback, bpf_timer_start,
};
use hookgate_ebpf::abi::{self, FIRST_PREFIX, SWEEP_INTERVAL, SWEEPS_STALLED, Settings, Sweep};
use hookgate_ebpf::attempt::{AFTER_COMPLETION, AFTER_RESET, ATTEMPT_TIMEOUT, Attempt, AttemptKey, Evidence};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::diagnostic::Diagnostic;
use hookgate_ebpf::fingerprint::{self, Fingerprint};
use hookgate_ebpf::packet::{Address, Flags, Packet, Segment};
use hookgate_ebpf::sampling::{self, Class};

use super::hide::hide;
use super::maps::{
    ATTEMPTS_META, ATTEMPTS_OTHER, Attempts, SWEEP, UNTRACKED, coarse_now, count_for, occupancy, proven,
    settings,
};
use super::socket::Socket;
use super::{answers, atomic, diagnostics, is_guarded, sources, transport};

const NOEXIST: u64 = 1;
const EEXIST: i32 = -17;
const CLOCK_MONOTONIC: u64 = 1;

/// What a segment that passes says about a handshake. Few do: a function of its own keeps it out of
/// the others' way.
#[inline(always)]
pub fn follow(frame: &impl Packet, segment: &Segment, index: u32, now: u64) {
    let opens = segment.flags.opens();
    let goes_on = segment.flags.goes_on();
    if opens || segment.flags.has(Flags::RST) || goes_on && answers::is_awaited(segment) {
        let key = AttemptKey {
            source: segment.source.mapped(),
            // What answers a SYN-ACK has the next number, data that comes before or without an ACK
            // too.
            sequence: if opens { segment.sequence } else { segment.sequence.wrapping_sub(1) },
            source_port: segment.source_port,
            reserved: 0,
        };
        if opens {
            let fingerprint = match index >= FIRST_PREFIX {
                true => fingerprint(frame, segment.tcp_at, segment.hop_limit),
                false => Fingerprint::default(),
            };
            opened(&key, segment.destination_port, index, now, fingerprint);
        } else if goes_on {
            acknowledged(&key, index, segment.acknowledgement);
        } else {
            reset(&key, index, now);
        }
    }
}

#[inline(never)]
fn fingerprint<P: Packet>(frame: &P, tcp_at: u32, hop_limit: u8) -> Fingerprint {
    let (mut frame, mut tcp_at): (*const P, _) = (frame, tcp_at as usize);
    // Else the compiler passes the addresses in the frame instead, as numbers of 32 bits, which the
    // verifier takes for no addresses. It also wants to see a bound of an offset; this one is
    // beyond all that the parser follows.
    // SAFETY: changes nothing.
    unsafe {
        asm!(
            "{frame} = {frame}",
            "{tcp_at} &= 0x7fff",
            frame = inout(reg) frame,
            tcp_at = inout(reg) tcp_at,
            options(pure, nomem, nostack)
        );
    }
    // SAFETY: the reference that it was made of.
    let seen =
        Fingerprint::with_hidden_state(unsafe { &*frame }, tcp_at, hop_limit, hide::<{ fingerprint::STATE }>);
    seen.map(|bits| hide::<{ Fingerprint::BITS }>(bits.into(), frame as u64) as u32)
}

#[inline(never)]
fn opened(key: &AttemptKey, port: u16, index: u32, now: u64, fingerprint: Fingerprint) {
    let is_tracked = is_swept(now)
        && match index >= FIRST_PREFIX {
            true => begin_or_repeat(&ATTEMPTS_META, key, port, index, now, fingerprint),
            false => begin_or_repeat(&ATTEMPTS_OTHER, key, port, index, now, fingerprint),
        };
    if !is_tracked {
        count_for(index, block(key), 1, |counters| &mut counters.untracked);
        if let Some(last) = UNTRACKED.get_ptr_mut(index) {
            // SAFETY: the map's own memory; what another CPU writes meanwhile is a time too.
            let last = unsafe { &mut *last };
            // A flood's CPUs need not fight for it.
            if *last != now {
                *last = now;
            }
        }
    }
}

/// Whether attempts ever end. If not, none begins.
#[inline(always)]
fn is_swept(now: u64) -> bool {
    // SAFETY: the map's own memory; the sweep writes it in one step.
    SWEEP.get_ptr_mut(0).is_some_and(|sweep| now < unsafe { (*sweep).last } + SWEEPS_STALLED)
}

/// A SYN begins an attempt or belongs to one. False when it can do neither.
#[inline(always)]
fn begin_or_repeat<const N: usize>(
    attempts: &'static Attempts<N>,
    key: &AttemptKey,
    port: u16,
    index: u32,
    now: u64,
    fingerprint: Fingerprint,
) -> bool {
    let is_watched = settings().is_some_and(|settings| settings.sees_answers != 0);
    let fresh = Attempt {
        phase: Attempt::OPEN,
        deadline: now + ATTEMPT_TIMEOUT,
        begun: transport::now(),
        index,
        fingerprint,
        evidence: Evidence { is_watched: is_watched.into(), port: port.to_be_bytes(), ..Evidence::default() },
        ..Attempt::default()
    };
    let Some(occupancy) = occupancy(Class::of(index)) else { return false };
    let halvings = sampling::halvings(occupancy.entries, N as u64);
    if halvings != 0 {
        if let Some(attempt) = attempts.get_ptr_mut(key) {
            return repeat(attempt, block(key), now);
        }
        // A flood's CPUs need not fight for it.
        if occupancy.since == 0 {
            occupancy.since = now;
        }
        if !must_be_followed(index, block(key)) && !sampling::is_followed(&key.source, halvings) {
            no_room(index, now);
            return false;
        }
    }
    match attempts.insert(key, fresh, NOEXIST) {
        Ok(()) => {
            atomic::add(&mut occupancy.entries, 1);
            true
        }
        // Inserting looks for it as well: most SYNs are first ones.
        Err(EEXIST) => attempts.get_ptr_mut(key).is_some_and(|attempt| repeat(attempt, block(key), now)),
        Err(_) => {
            no_room(index, now);
            false
        }
    }
}

/// Whether a source is one whose handshakes come about: then what fails of it counts.
#[inline(always)]
fn must_be_followed(index: u32, block: Block) -> bool {
    sampling::is_exempt(index) || index >= FIRST_PREFIX && proven(block).is_some()
}

#[inline(always)]
fn no_room(index: u32, now: u64) {
    diagnostics::occurred(
        match Class::of(index) {
            Class::Meta => Diagnostic::NoRoomForMeta,
            Class::Other => Diagnostic::NoRoomForOthers,
        },
        now,
    );
}

/// Removes an attempt from its table.
#[inline(always)]
fn remove(map: *mut c_void, key: *const AttemptKey, class: Class) {
    // SAFETY: one of the tables of attempts, and a key of its kind. It fails only when the entry is
    // gone.
    if unsafe { bpf_map_delete_elem(map, key.cast_mut().cast()) } == 0
        && let Some(occupancy) = occupancy(class)
    {
        atomic::add(&mut occupancy.entries, 1u64.wrapping_neg());
    }
}

/// A SYN for an attempt that is there. False when that is just being removed.
#[inline(always)]
fn repeat(attempt: *mut Attempt, block: Block, now: u64) -> bool {
    // SAFETY: the map's own memory. Other CPUs may change it meanwhile: `phase`, which decides, is
    // only swapped.
    let attempt = unsafe { &mut *attempt };
    match attempt.phase {
        Attempt::FAILED => return false,
        Attempt::OPEN => {
            attempt.deadline = now + ATTEMPT_TIMEOUT;
            if attempt.is_answered() {
                attempt.evidence.is_repeated = 1;
            } else {
                attempt.evidence.is_ignored = 1;
            }
        }
        _ => {}
    }
    count_for(attempt.index, block, 1, |counters| &mut counters.syns_retransmitted);
    true
}

/// A RST ends an attempt soon, not at once: whether it is genuine only the kernel's TCP knows,
/// which may yet complete the handshake.
#[inline(never)]
fn reset(key: &AttemptKey, index: u32, now: u64) {
    if let Some(attempt) = open(key, index) {
        attempt.evidence.is_reset = 1;
        attempt.deadline = now + AFTER_RESET;
    }
}

#[inline(never)]
fn acknowledged(key: &AttemptKey, index: u32, acknowledgement: u32) {
    if let Some(attempt) = open(key, index) {
        answers::acknowledged(attempt, acknowledgement);
    }
}

/// The attempt, if there is one and it is open.
#[inline(always)]
fn open(key: &AttemptKey, index: u32) -> Option<&'static mut Attempt> {
    let attempt = match index >= FIRST_PREFIX {
        true => ATTEMPTS_META.get_ptr_mut(key),
        false => ATTEMPTS_OTHER.get_ptr_mut(key),
    }?;
    // SAFETY: as in `repeat`.
    let attempt = unsafe { &mut *attempt };
    (attempt.phase == Attempt::OPEN).then_some(attempt)
}

/// The kernel's TCP has completed a handshake: of whichever socket, on whichever port, in whichever
/// namespace the packets were led to.
#[inline(always)]
pub fn completed(socket: &Socket) {
    let Some(key) = socket.attempt() else { return };
    let block = block(&key);
    let known = ATTEMPTS_META.get_ptr_mut(key).or_else(|| ATTEMPTS_OTHER.get_ptr_mut(key));
    if let Some(attempt) = known {
        // SAFETY: as in `repeat`.
        let attempt = unsafe { &mut *attempt };
        if atomic::swap(&mut attempt.phase, Attempt::COMPLETED) == Attempt::OPEN {
            attempt.deadline = coarse_now() + AFTER_COMPLETION;
            answers::stop_waiting(attempt, &key);
            succeeded(attempt.index, block, attempt.fingerprint);
            answers::classify_late(attempt, block);
            transport::measure(attempt);
            transport::watch(socket, attempt.index);
            leave(attempt, &key);
        }
        return;
    }
    // Its SYN found no room, then; or came before the guard, or past it.
    let is_ours = |netns| settings().is_some_and(|settings| settings.netns == netns);
    if !is_guarded(socket.local_port()) || !is_ours(socket.netns()) {
        return;
    }
    let index = sources::index(Address::from_mapped(key.source));
    let is_recent = |last: &u64| *last != 0 && coarse_now().saturating_sub(*last) < ATTEMPT_TIMEOUT;
    if UNTRACKED.get(index).is_some_and(is_recent) {
        count_for(index, block, 1u64.wrapping_neg(), |counters| &mut counters.untracked);
        succeeded(index, block, Fingerprint::default());
        transport::watch(socket, index);
    }
}

/// A completed attempt makes room, where there is little. With TCP Fast Open, its SYN-ACK is still
/// awaited.
#[inline(always)]
fn leave(attempt: &Attempt, key: &AttemptKey) {
    if attempt.evidence.is_watched != 0 && !attempt.is_answered() {
        return;
    }
    let class = Class::of(attempt.index);
    let (map, capacity): (*mut c_void, _) = match class {
        Class::Meta => (core::ptr::from_ref(&ATTEMPTS_META).cast_mut().cast(), abi::ATTEMPTS_META_CAPACITY),
        Class::Other => {
            (core::ptr::from_ref(&ATTEMPTS_OTHER).cast_mut().cast(), abi::ATTEMPTS_OTHER_CAPACITY)
        }
    };
    if occupancy(class).is_some_and(|occupancy| sampling::is_half_full(occupancy.entries, capacity.into())) {
        remove(map, key, class);
    }
}

#[inline(always)]
fn succeeded(index: u32, block: Block, fingerprint: Fingerprint) {
    if index >= FIRST_PREFIX {
        sources::prove(block, fingerprint, coarse_now());
    }
    count_for(index, block, 1, |counters| &mut counters.handshakes);
}

/// The function that a timer calls.
type Callback = extern "C" fn(*mut c_void, *mut u32, *mut Sweep) -> i64;

/// Sets the timer. Run again, by a newer version of this program, it puts that one's sweep in the
/// place of the old.
///
/// False when the kernel has no memory for it at the moment.
#[inline(always)]
pub fn begin_sweeps(callback: Callback) -> bool {
    let Some(sweep) = SWEEP.get_ptr_mut(0) else { return false };
    // SAFETY: an address within the map's element; nothing is read.
    let timer = unsafe { (&raw mut (*sweep).timer).cast() };
    // SAFETY: the map's own memory.
    unsafe { (*sweep).last = coarse_now() };
    // SAFETY: the timer of an element of that map, and a callback that takes what the map holds.
    // The first fails where there is a timer already, which serves as well.
    unsafe {
        bpf_timer_init(timer, core::ptr::from_ref(&SWEEP).cast_mut().cast(), CLOCK_MONOTONIC);
        bpf_timer_set_callback(timer, callback as *mut c_void) == 0
            && bpf_timer_start(timer, SWEEP_INTERVAL, 0) == 0
    }
}

pub extern "C" fn swept(_map: *mut c_void, _key: *mut u32, sweep: *mut Sweep) -> i64 {
    let now = sweep_out(sweep);
    diagnostics::log(now);
    0
}

/// For kernels whose verifier does not take aya-log's code.
pub extern "C" fn swept_quietly(_map: *mut c_void, _key: *mut u32, sweep: *mut Sweep) -> i64 {
    sweep_out(sweep);
    0
}

#[inline(always)]
fn sweep_out(sweep: *mut Sweep) -> u64 {
    let mut now = coarse_now();
    let callback: extern "C" fn(*mut c_void, *mut AttemptKey, *mut Attempt, *mut u64) -> i64 = end_when_due;
    let (callback, context) = (callback as *mut c_void, (&raw mut now).cast());
    // SAFETY: the element whose timer has called, a callback that takes what those maps hold, and
    // that timer.
    unsafe {
        (*sweep).last = now;
        bpf_for_each_map_elem(core::ptr::from_ref(&ATTEMPTS_META).cast_mut().cast(), callback, context, 0);
        bpf_for_each_map_elem(core::ptr::from_ref(&ATTEMPTS_OTHER).cast_mut().cast(), callback, context, 0);
        bpf_timer_start((&raw mut (*sweep).timer).cast(), SWEEP_INTERVAL, 0);
    }
    follow_all_where_there_is_room(Class::Meta, abi::ATTEMPTS_META_CAPACITY);
    follow_all_where_there_is_room(Class::Other, abi::ATTEMPTS_OTHER_CAPACITY);
    now
}

#[inline(always)]
fn follow_all_where_there_is_room(class: Class, capacity: u32) {
    if let Some(occupancy) = occupancy(class)
        && sampling::halvings(occupancy.entries, capacity.into()) == 0
    {
        occupancy.since = 0;
    }
}

extern "C" fn end_when_due(
    map: *mut c_void,
    key: *mut AttemptKey,
    attempt: *mut Attempt,
    now: *mut u64,
) -> i64 {
    // SAFETY: the kernel calls this with an entry of one of the maps of attempts, and with what
    // `swept` has handed over.
    let (attempt, of, now) = unsafe { (&mut *attempt, &*key, *now) };
    if now < attempt.deadline {
        return 0;
    }
    let class = Class::of(attempt.index);
    match atomic::swap(&mut attempt.phase, Attempt::FAILED) {
        Attempt::OPEN => {
            answers::stop_waiting(attempt, of);
            count_failed(attempt, of, now);
        }
        // With TCP Fast Open, the SYN-ACK leaves after the completion.
        Attempt::COMPLETED if attempt.evidence.is_watched != 0 && !attempt.is_answered() => {
            count_for(attempt.index, block(of), 1, |counters| &mut counters.handshakes_unseen);
        }
        _ => {}
    }
    remove(map, key, class);
    0
}

/// Where no program tells which were completed, it is not known that this one was not.
fn count_failed(attempt: &Attempt, key: &AttemptKey, now: u64) {
    let block = block(key);
    if settings().is_some_and(Settings::counts_handshakes) {
        answers::classify(attempt, key, block, now);
    } else {
        count_for(attempt.index, block, 1, |counters| &mut counters.untracked);
    }
}

#[inline(always)]
fn block(key: &AttemptKey) -> Block {
    Block::of(Address::from_mapped(key.source))
}
