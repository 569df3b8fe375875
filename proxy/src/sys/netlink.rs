use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// From now on the kernel adds its words to the errors that it answers on a netlink socket (Linux
/// 4.12).
///
/// Errors: an older kernel.
pub fn enable_extended_acks(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads as many bytes of `on` as it is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_NETLINK,
            libc::NETLINK_EXT_ACK,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
