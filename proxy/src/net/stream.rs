use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Buffer, KernelSession, Pipe, Session};
use crate::sys::{acknowledged, send_queue_bytes};

/// A connection, with TLS or without.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Session>),
    /// With TLS, of which the kernel does the most.
    Kernel(Box<KernelSession>),
    /// The kernel did not take a session's keys, and its socket is closed.
    Lost,
    /// Without a socket, for tests in paused time.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

impl Stream {
    /// Reads once, behind what is in `buffer`, which must have space. Ready with 0 at the end of
    /// the input. Memory is taken only where there is something to read.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => {
                ready!(tcp.poll_read_ready(cx))?;
                poll_read_into(tcp, cx, buffer)
            }
            Self::Tls(tls) => tls.poll_fill(cx, buffer),
            Self::Kernel(tls) => tls.poll_fill(cx, buffer),
            Self::Lost => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => poll_read_into(stream, cx, buffer),
        }
    }

    /// The socket, where what comes from it may be spliced: it is content, or must be read for
    /// once.
    pub fn source(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Kernel(tls) => tls.source(),
            Self::Tls(_) | Self::Lost => None,
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }

    /// Content has come from [`Self::source`].
    pub fn passed_content(&mut self) {
        if let Self::Kernel(tls) = self {
            tls.passed_content();
        }
    }

    /// Whether it takes the content of pipes.
    pub fn takes_pipes(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Kernel(_))
    }

    /// Sends what is in a pipe, or the start of it; only for streams that take pipes.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => pipe.poll_drain(cx, tcp),
            Self::Kernel(tls) => tls.poll_drain(cx, pipe),
            Self::Tls(_) | Self::Lost => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Whether its content may go through pipes, if not now then when [`Self::hand_over`] has been
    /// called often enough.
    pub fn may_be_spliced(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Kernel(_) => true,
            Self::Tls(tls) => tls.may_be_handed_over(),
            Self::Lost => false,
            #[cfg(test)]
            Self::Memory(_) => false,
        }
    }

    /// Gives a session to the kernel where that can be now.
    ///
    /// Errors: the session has failed, or the kernel does not take the keys, and the connection is
    /// lost.
    pub fn hand_over(&mut self) -> io::Result<()> {
        let Self::Tls(tls) = self else { return Ok(()) };
        let Some(kernel) = tls.opportunity()? else { return Ok(()) };
        if let Self::Tls(tls) = std::mem::replace(self, Self::Lost) {
            *self = tls.hand_over(kernel)?;
        }
        Ok(())
    }

    /// The socket beneath; `None` where it is lost.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(tls) => Some(tls.tcp()),
            Self::Kernel(tls) => Some(tls.tcp()),
            Self::Lost => None,
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }

    /// The most bytes that the peer's kernel may not have acknowledged: those in the socket's
    /// queue, and in the session before it. With TLS they are records, which are longer than their
    /// content.
    pub fn unacknowledged_bytes(&self) -> u64 {
        let queued = self.tcp().map(|tcp| send_queue_bytes(tcp.as_fd()));
        let in_session = match self {
            Self::Tls(tls) => tls.unsent_bytes(),
            Self::Plain(_) | Self::Kernel(_) | Self::Lost => 0,
            // What was written has arrived.
            #[cfg(test)]
            Self::Memory(_) => return 0,
        };
        // Where the kernel does not tell, nothing is known to have arrived.
        queued.and_then(Result::ok).map_or(u64::MAX, |queued| u64::from(queued).saturating_add(in_session))
    }

    /// Whether it may be kept for another request.
    pub fn may_be_kept(&self) -> bool {
        match self {
            Self::Plain(_) | Self::Tls(_) => true,
            Self::Kernel(tls) => tls.may_be_kept(),
            Self::Lost => false,
            #[cfg(test)]
            Self::Memory(_) => true,
        }
    }
}

impl Stream {
    /// Whether nothing of what was read is left that could be taken for the next response, nor a
    /// close of the peer's.
    pub fn holds_nothing(&mut self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => tls.holds_nothing(),
            Self::Kernel(tls) => tls.holds_nothing(),
            Self::Lost => false,
            #[cfg(test)]
            Self::Memory(_) => true,
        }
    }

    /// Whether the peer is known to have closed, without asking the kernel.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_ended(),
            Self::Kernel(tls) => tls.has_ended(),
            Self::Lost => true,
            #[cfg(test)]
            Self::Memory(_) => false,
        }
    }

    /// Whether the peer has neither closed nor sent anything but session tickets, as far as the
    /// kernel knows by now. Part of a record may become anything, so it counts as something.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(tcp) => matches!(peek(tcp), Err(error) if error.kind() == io::ErrorKind::WouldBlock),
            Self::Tls(tls) => tls.is_quiet(),
            Self::Kernel(tls) => tls.is_quiet(),
            Self::Lost => false,
            #[cfg(test)]
            Self::Memory(_) => true,
        }
    }

    /// Ready when the peer has said that nothing more comes, or has reset the connection. Behind
    /// content that it has sent before, its end is not seen. Takes no content away.
    pub fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(tcp) = self.tcp() else { return Poll::Pending };
            if ready!(tcp.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            // Where the kernel has nothing, the next round waits for it.
            match tcp.try_io(Interest::READABLE, || peek(tcp)) {
                Ok(0) => return Poll::Ready(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                // Of the kernel's TLS this may be an alert, which the next read takes.
                Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => return Poll::Pending,
                Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
            let Self::Tls(tls) = self else { return Poll::Pending };
            if !tls.is_quiet() && tls.has_ended() {
                return Poll::Ready(());
            }
            if tls.holds_content() {
                return Poll::Pending;
            }
        }
    }

    /// Whether the peer's kernel has acknowledged everything, or anything since then. Where this
    /// kernel cannot say, it has.
    pub fn has_been_acknowledged_since(&self, then: Instant) -> bool {
        /// The kernel's clock is no finer than this.
        const TICK: Duration = Duration::from_millis(20);
        let acknowledged = self.tcp().and_then(|tcp| acknowledged(tcp.as_fd()).ok());
        acknowledged.is_none_or(|so_far| so_far.all || so_far.last + TICK < then.elapsed())
    }

    /// Whether the runtime has noticed something on the socket that [`Self::is_quiet`] should look
    /// at. Costs next to nothing where it has not.
    pub fn has_news(&self) -> bool {
        let Some(tcp) = self.tcp() else { return true };
        let news = tcp.try_io(Interest::READABLE, || peek(tcp));
        !matches!(news, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Reads once into the buffer's space.
fn poll_read_into(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    buffer: &mut Buffer,
) -> Poll<io::Result<usize>> {
    let space = buffer.space();
    debug_assert!(!space.is_empty());
    let mut to = ReadBuf::new(space);
    let outcome = Pin::new(stream).poll_read(cx, &mut to);
    let count = to.filled().len();
    buffer.filled_more(count);
    buffer.release_if_empty();
    outcome.map_ok(|()| count)
}

/// Looks for a byte to read, and leaves it there.
fn peek(tcp: &TcpStream) -> io::Result<usize> {
    let (_, count) = recv(tcp, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(count)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, to),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, to),
            Self::Kernel(tls) => {
                if to.remaining() > 0 {
                    let count = ready!(tls.poll_read(cx, to.initialize_unfilled()))?;
                    to.advance(count);
                }
                Poll::Ready(Ok(()))
            }
            Self::Lost => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_read(cx, to),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, from),
            Self::Tls(tls) => tls.poll_write(cx, from),
            Self::Kernel(tls) => tls.poll_write(cx, from),
            Self::Lost => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(cx, from),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // What was written is the kernel's already.
            Self::Plain(_) | Self::Kernel(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
            Self::Lost => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => tls.poll_shutdown(cx),
            Self::Kernel(tls) => tls.poll_shutdown(cx),
            Self::Lost => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
