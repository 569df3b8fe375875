//! Delays of handshakes, and what connections had to send again, as the kernel's TCP tells it.
//!
//! A connection's handshake marks its socket. What is told later counts where the mark says, in
//! whichever namespace the socket is: no other program's callbacks and no other guard's connections
//! come in between.

use core::arch::asm;

use aya_ebpf::bindings::{
    BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_RETRANS_CB_FLAG, BPF_SOCK_OPS_RTO_CB_FLAG,
};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use hookgate_ebpf::attempt::Attempt;
use hookgate_ebpf::transport::{Delays, Transport, bucket};

use super::atomic;
use super::maps::{SOCKETS, TRANSPORT};
use super::socket::Socket;

const CALLBACKS: u32 = BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_RTO_CB_FLAG;

/// Nanoseconds of CLOCK_MONOTONIC, exact.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// An attempt was completed just now.
#[inline(never)]
pub fn measure(attempt: &Attempt) {
    let Some(transport) = transport(attempt.index) else { return };
    let now = now();
    count(&mut transport.established, now.saturating_sub(attempt.begun));
    if attempt.answers as u32 == 1 {
        count(&mut transport.round_trip, now.saturating_sub(attempt.answered));
    }
}

#[inline(always)]
fn count(delays: &mut Delays, nanoseconds: u64) {
    let mut bucket = bucket(nanoseconds);
    // The compiler knows that this is in bounds. The verifier has to see it checked.
    // SAFETY: changes nothing.
    unsafe { asm!("{bucket} = {bucket}", bucket = inout(reg) bucket, options(pure, nomem, nostack)) };
    if let Some(count) = delays.get_mut(bucket) {
        atomic::add(count, 1);
    }
}

/// What this connection sends again counts at an index.
#[inline(always)]
pub fn watch(socket: &Socket, mut index: u32) {
    let of = socket.socket();
    if of.is_null() {
        return;
    }
    let sockets = core::ptr::from_ref(&SOCKETS).cast_mut().cast();
    let value = core::ptr::from_mut(&mut index).cast();
    // SAFETY: a map of socket storage, a socket, and a value of the map's type.
    let mark = unsafe { bpf_sk_storage_get(sockets, of.cast(), value, BPF_SK_STORAGE_GET_F_CREATE.into()) };
    if !mark.is_null() {
        socket.call_back(CALLBACKS);
    }
}

/// A connection has sent segments again.
#[inline(always)]
pub fn retransmitted(socket: &Socket) {
    // The first sequence number, how many segments, and 0 when they were sent.
    let [segments, error] = [1, 2].map(|nth| socket.argument(nth));
    if error == 0
        && let Some(transport) = watched(socket)
    {
        atomic::add(&mut transport.segments_retransmitted, segments.into());
    }
}

/// A connection has waited for an acknowledgement in vain.
#[inline(always)]
pub fn timed_out(socket: &Socket) {
    if let Some(transport) = watched(socket) {
        atomic::add(&mut transport.timeouts, 1);
    }
}

#[inline(always)]
fn watched(socket: &Socket) -> Option<&'static mut Transport> {
    let of = socket.socket();
    if of.is_null() {
        return None;
    }
    let sockets = core::ptr::from_ref(&SOCKETS).cast_mut().cast();
    // SAFETY: a map of socket storage, and a socket; without a value nothing is made.
    let mark = unsafe { bpf_sk_storage_get(sockets, of.cast(), core::ptr::null_mut(), 0) }.cast::<u32>();
    // SAFETY: null, or the map's own memory.
    transport(*unsafe { mark.as_ref() }?)
}

#[inline(always)]
fn transport(index: u32) -> Option<&'static mut Transport> {
    // SAFETY: the map's own memory. Other CPUs write it too, in one step.
    TRANSPORT.get_ptr_mut(index).map(|transport| unsafe { &mut *transport })
}
