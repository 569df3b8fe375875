use std::io;

/// tgkill(2): a signal for one thread of any process; 0 only tries whether it may be sent.
///
/// Errors: the call's.
pub fn signal_thread(process: u32, thread: u32, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: the call takes numbers alone.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
