use std::io;
use std::mem;

/// Whether something keeps the machine's clock right, as far as the kernel has been told
/// (adjtimex(2)).
///
/// Errors: the kernel refuses to say.
pub fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: `timex` consists of integers, for which all zeros is a value; `modes` 0 asks and
    // changes nothing.
    let mut state: libc::timex = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a whole `timex` of ours, which the kernel fills in and does not
    // keep.
    match unsafe { libc::adjtimex(&mut state) } {
        -1 => Err(io::Error::last_os_error()),
        status => Ok(status != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0),
    }
}
