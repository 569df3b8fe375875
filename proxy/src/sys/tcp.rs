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
    // linux/tcp.h, struct tcp_info, in words of four bytes: `tcpi_unacked`, `tcpi_last_ack_recv`, `tcpi_notsent_bytes`.
    const UNACKED: usize = 6;
    const LAST_ACK_RECV: usize = 14;
    const NOTSENT_BYTES: usize = 36;
    let mut info = [0u32; NOTSENT_BYTES + 1];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, hence open; the kernel writes at most `length` bytes to `info`, and to `length`
    // how many.
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
}
