//! Numbers of which the verifier would know too much: it goes on with each value that it knows by
//! itself.

use core::arch::asm;

/// Returns `number`, which has no other bits than `BITS`. The verifier does not see that `any`,
/// which it does not know, less itself is 0.
#[inline(always)]
pub fn hide<const BITS: i32>(mut number: u64, any: u64) -> u64 {
    // SAFETY: changes nothing else.
    unsafe {
        asm!(
            "{zero} -= {any}",
            "{number} += {zero}",
            "{number} &= {bits}",
            zero = inout(reg) any => _,
            any = in(reg) any,
            number = inout(reg) number,
            bits = const BITS,
            options(pure, nomem, nostack)
        );
    }
    number
}
