use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

// asm-generic/socket.h
const SO_NETNS_COOKIE: libc::c_int = 71;

/// The number by which the kernel tells this process's network namespace from all others, ever
/// (Linux 5.14).
///
/// Errors: an older kernel.
pub fn netns_cookie() -> io::Result<u64> {
    // Any socket will do: it asks for its namespace's.
    let socket = UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0"))?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, and to `length` how many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_keeps_its_cookie() {
        let cookie = netns_cookie().unwrap();
        assert_ne!(cookie, 0);
        assert_eq!(netns_cookie().unwrap(), cookie);
    }
}
