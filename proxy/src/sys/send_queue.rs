use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// How many bytes written to a TCP socket its peer has not acknowledged, whether they were sent or
/// not (SIOCOUTQ).
///
/// Errors: not a TCP socket.
pub fn send_queue_bytes(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int, and `bytes` is one. TIOCOUTQ is SIOCOUTQ's other name,
    // with the same number.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // The kernel never says less than 0.
    Ok(bytes.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_a_peer_has_acknowledged_leaves_the_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        assert_eq!(send_queue_bytes(ours.as_fd()).unwrap(), 0);
        ours.set_nonblocking(true).unwrap();
        let mut written = 0;
        // More than the peer's kernel takes while the peer does not read.
        while let Ok(count) = ours.write(&[0; 1 << 16]) {
            written += count;
        }
        let queued = send_queue_bytes(ours.as_fd()).unwrap() as usize;
        assert!(queued > 0 && queued < written, "{queued} of {written}");
        let mut read = vec![0; written];
        theirs.read_exact(&mut read).unwrap();
        assert!((0..100).any(|_| {
            std::thread::yield_now();
            send_queue_bytes(ours.as_fd()).unwrap() == 0
        }));
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        assert!(send_queue_bytes(file.as_fd()).is_err());
    }
}
