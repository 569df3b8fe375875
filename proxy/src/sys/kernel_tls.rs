use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Puts a connected TCP socket under the kernel's TLS, which still encrypts nothing before it is given keys
/// (Documentation/networking/tls.rst).
///
/// Errors: `NotFound` where the kernel has no TLS, `NotConnected` for a socket that is not.
pub fn start_kernel_tls(socket: BorrowedFd<'_>) -> io::Result<()> {
    const NAME: &[u8] = b"tls";
    let length = NAME.len() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, hence open; the kernel reads `length` bytes, which is what `NAME` has.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_TCP, libc::TCP_ULP, NAME.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
