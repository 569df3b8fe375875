//! Counts that other CPUs change at the same time. (In Rust this target's atomics can only load and
//! store.)

use core::arch::asm;

/// Adds in one step.
#[inline(always)]
pub fn add(place: &mut u64, count: u64) {
    // SAFETY: reads and writes that number alone.
    unsafe { asm!("lock *(u64 *)({place} + 0) += {count}", place = in(reg) place, count = in(reg) count) }
}

/// Adds in one step and returns what was there.
#[inline(always)]
pub fn fetch_add(place: &mut u64, count: u64) -> u64 {
    let mut value = count;
    // SAFETY: as above.
    unsafe {
        asm!("{value} = atomic_fetch_add((u64 *)({place} + 0), {value})", value = inout(reg) value, place = in(reg) place)
    };
    value
}

/// Puts `new` there and returns what was there, in one step.
#[inline(always)]
pub fn swap(place: &mut u64, new: u64) -> u64 {
    let mut value = new;
    // SAFETY: as above.
    unsafe {
        asm!("{value} = xchg_64({place} + 0, {value})", value = inout(reg) value, place = in(reg) place)
    };
    value
}
