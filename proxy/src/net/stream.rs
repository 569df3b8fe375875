use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Buffer, Session};

/// A connection, with TLS or without.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<Session>),
}

impl Stream {
    /// Whether the peer has shown a certificate, in this handshake or in the one that it resumes.
    pub fn has_peer_certificate(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.state().peer_certificates().is_some_and(|chain| !chain.is_empty()),
        }
    }

    /// Reads once, behind what lies in `buffer`, which must have space. Ready with 0 at the end of the input. Only
    /// whoever has something to read takes memory for it.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut Buffer) -> Poll<io::Result<usize>> {
        let tcp = match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => return tls.poll_fill(cx, buffer),
        };
        ready!(tcp.poll_read_ready(cx))?;
        let space = buffer.space();
        debug_assert!(!space.is_empty());
        let mut to = ReadBuf::new(space);
        let outcome = Pin::new(tcp).poll_read(cx, &mut to);
        let count = to.filled().len();
        buffer.filled_more(count);
        buffer.release_if_empty();
        outcome.map_ok(|()| count)
    }

    /// The socket, where its bytes are content and nothing else.
    pub fn spliceable(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(tcp) => Some(tcp),
            Self::Tls(_) => None,
        }
    }

    /// The socket beneath.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, to),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, to),
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
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // What was written is the kernel's already.
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => tls.poll_shutdown(cx),
        }
    }
}
