use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

/// How far the peer's kernel has followed what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// All of it: nothing waits to be acknowledged, or to be sent at all.
    pub all: bool,
    /// How long ago the peer last acknowledged anything; exact to a few milliseconds.
    pub last: Duration,
}

/// Asks a connected TCP socket (TCP_INFO).
///
/// Errors: it is no TCP socket, or the kernel does not say so much.
pub fn acknowledged(socket: BorrowedFd<'_>) -> io::Result<Acknowledged> {
    // linux/tcp.h, struct tcp_info, in words of four bytes: `tcpi_unacked`, `tcpi_last_ack_recv`,
    // `tcpi_notsent_bytes`.
    const UNACKED: usize = 6;
    const LAST_ACK_RECV: usize = 14;
    const NOTSENT_BYTES: usize = 36;
    let mut info = [0u32; NOTSENT_BYTES + 1];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, hence open; the kernel writes at most `length` bytes to
    // `info`, and to `length` how many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    match result {
        0 if length as usize == size_of_val(&info) => Ok(Acknowledged {
            all: info[UNACKED] == 0 && info[NOTSENT_BYTES] == 0,
            last: Duration::from_millis(info[LAST_ACK_RECV].into()),
        }),
        0 => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

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
    fn what_the_peer_has_read_was_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        server.write_all(b"hello").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        let said = acknowledged(client.as_fd()).unwrap();
        assert!(said.all && said.last < Duration::from_secs(5), "{said:?}");
    }

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
