//! A TLS session over TCP. rustls keeps state and keys; the worker lends the memory for records,
//! and only while it is in use.

mod end;
mod handover;
mod pass;
mod quiet;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, CommonState, Error, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Buffer, Buffers, KernelTls, Size, StrangersHandshakes};
use end::{Intent, Progress, RustlsConnection, content_that_fits};
use handover::rest_of_record;
pub use pass::PassError;

/// The most content that a record has (RFC 8446 §5.1).
pub(super) const RECORD_CONTENT_BYTES: usize = 16 * 1024;
/// A handshake message may take so much until it is whole; rustls itself refuses messages longer
/// than 64 KiB. A stranger's has to fit into what a record takes.
const MAX_HANDSHAKE_BYTES: usize = 80 * 1024;

/// One end of a TLS session and its socket.
pub struct Session {
    tcp: TcpStream,
    end: RustlsConnection,
    /// Read and not decrypted yet: part of a record, once all records have been looked at.
    incoming: Buffer,
    /// Encrypted and not sent yet.
    outgoing: Buffer,
    /// Decrypted before anybody asked for it.
    ahead: Buffer,
    /// The peer has said that nothing more comes.
    has_ended: bool,
    /// We have said so.
    has_closed: bool,
    /// Nothing can be received or sent any more.
    failure: Option<Error>,
    /// Takes the session over after the handshake, if it can.
    kernel: Option<KernelTls>,
    /// Records are read one by one, so that nothing of what follows the handshake is.
    one_by_one: bool,
    /// So much of a handshake message may wait for the rest.
    most_handshake_bytes: usize,
    buffers: Rc<Buffers>,
}

impl Session {
    /// A server's handshake; a stranger's takes its turns among `strangers`.
    ///
    /// Errors: `InvalidData` with a [`rustls::Error`] within where TLS failed; `Other` with a
    /// [`super::QueueFull`] within; `ConnectionAborted` where the client has sent nothing at all;
    /// otherwise the socket's.
    pub async fn accept(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        kernel: Option<KernelTls>,
        buffers: &Rc<Buffers>,
        strangers: Option<&StrangersHandshakes>,
    ) -> io::Result<Self> {
        let end = UnbufferedServerConnection::new(config).map_err(invalid)?;
        let mut session = Self::new(tcp, RustlsConnection::Server(end), kernel, buffers);
        if strangers.is_some() {
            session.most_handshake_bytes = Size::Record.bytes();
        }
        session.handshake(strangers).await
    }

    /// A client's handshake with the server `name`.
    ///
    /// Errors: as with [`Session::accept`].
    pub async fn connect(
        tcp: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
        kernel: Option<KernelTls>,
        buffers: &Rc<Buffers>,
    ) -> io::Result<Self> {
        let end = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        Self::new(tcp, RustlsConnection::Client(end), kernel, buffers).handshake(None).await
    }

    fn new(tcp: TcpStream, end: RustlsConnection, kernel: Option<KernelTls>, buffers: &Rc<Buffers>) -> Self {
        let [incoming, outgoing, ahead] = std::array::from_fn(|_| Buffer::new(buffers));
        let buffers = Rc::clone(buffers);
        Self {
            tcp,
            end,
            incoming,
            outgoing,
            ahead,
            has_ended: false,
            has_closed: false,
            failure: None,
            kernel,
            one_by_one: false,
            most_handshake_bytes: MAX_HANDSHAKE_BYTES,
            buffers,
        }
    }

    async fn handshake(mut self, strangers: Option<&StrangersHandshakes>) -> io::Result<Self> {
        let mut has_received = false;
        loop {
            let turn = match strangers.filter(|_| !self.incoming.is_empty()) {
                Some(strangers) => Some(strangers.turn().await.map_err(io::Error::other)?),
                None => None,
            };
            while self.step_ahead(Intent::Receive)? == Progress::Continue {}
            drop(turn);
            poll_fn(|cx| self.poll_flush(cx)).await?;
            if !self.state().is_handshaking() {
                return Ok(self);
            }
            let received = poll_fn(|cx| self.poll_receive(cx)).await;
            received.map_err(|error| if has_received { error } else { self.never_begun(error) })?;
            has_received = true;
            self.one_by_one = self.kernel.is_some_and(KernelTls::is_at_once);
        }
    }

    /// What ended a handshake of which nothing had come.
    fn never_begun(&self, error: io::Error) -> io::Error {
        match self.end {
            RustlsConnection::Server(_) => io::Error::new(io::ErrorKind::ConnectionAborted, error),
            RustlsConnection::Client(_) => error,
        }
    }

    /// What was negotiated, and the peer's certificate.
    pub fn state(&self) -> &CommonState {
        match &self.end {
            RustlsConnection::Client(client) => client,
            RustlsConnection::Server(server) => server,
        }
    }

    /// The socket beneath.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// How many bytes are encrypted and not the kernel's yet.
    pub fn unsent_bytes(&self) -> u64 {
        self.outgoing.filled().len() as u64
    }

    /// How much is read at a time from now on.
    pub fn want(&mut self, size: Size) {
        // With the long body goes the opportunity.
        self.one_by_one &= size == Size::Large;
        self.incoming.want(size);
    }

    /// Appends what the peer has sent to `content`: at least a byte, or ready with 0 when it has
    /// closed.
    ///
    /// Errors: `UnexpectedEof` where the connection ends without close_notify; as with
    /// [`Session::accept`].
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, content: &mut Buffer) -> Poll<io::Result<usize>> {
        let before = content.len();
        if !self.ahead.is_empty() {
            content.extend(self.ahead.filled());
            self.ahead.consume(self.ahead.len());
        }
        loop {
            while !self.has_ended && (content.len() == before || self.fits_another(content)) {
                match self.step(Intent::Receive, &mut |bytes| content.extend(bytes)) {
                    Ok(Progress::Continue) => {}
                    Ok(Progress::NeedsInput | Progress::Done) => break,
                    Ok(Progress::PeerClosed) => self.has_ended = true,
                    // What came before the fault comes first; the fault is remembered.
                    Err(_) if content.len() > before => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if content.len() > before || self.has_ended {
                return Poll::Ready(Ok(content.len().saturating_sub(before)));
            }
            // It may have answered, to a key update for example.
            if let Poll::Ready(sent) = self.poll_flush(cx) {
                sent?;
            }
            ready!(self.poll_receive(cx))?;
        }
    }

    /// Whether there may be another whole record, and room for its content.
    fn fits_another(&self, content: &Buffer) -> bool {
        !self.incoming.is_empty() && content.room() >= RECORD_CONTENT_BYTES
    }

    /// Encrypts what is in `parts`, or the start of it, and sends it; what cannot be sent at once
    /// flushing sends.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let taken = self.encrypt(parts)?;
        let encrypted = self.outgoing.len();
        match self.poll_flush(cx) {
            // Nothing has left: nothing was written.
            Poll::Ready(Err(error)) if self.outgoing.len() == encrypted => Poll::Ready(Err(error)),
            // If it has broken in the middle, the next one to send will hear of it.
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn encrypt(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut parts = parts.iter().filter(|part| !part.is_empty()).peekable();
        let Some(first) = parts.next() else { return Ok(0) };
        if first.len() >= RECORD_CONTENT_BYTES || parts.peek().is_none() {
            self.outgoing.want(if first.len() > RECORD_CONTENT_BYTES { Size::Large } else { Size::Record });
            let taken = first.len().min(content_that_fits(self.outgoing.space().len()));
            return self.grant(Intent::Send(first.get(..taken).unwrap_or_default())).map(|()| taken);
        }
        // What belongs together goes in one record.
        let mut gathered = Buffer::new(&self.buffers);
        for part in [first].into_iter().chain(parts) {
            let taken = part.len().min(RECORD_CONTENT_BYTES.saturating_sub(gathered.len()));
            gathered.extend(part.get(..taken).unwrap_or_default());
        }
        self.grant(Intent::Send(gathered.filled())).map(|()| gathered.len())
    }

    /// Says that nothing more will come: close_notify, then the end of the stream.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.has_closed && self.failure.is_none() {
            self.has_closed = true;
            self.grant(Intent::Close)?;
        }
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    /// Goes on until the intent is fulfilled.
    fn grant(&mut self, intent: Intent<'_>) -> io::Result<()> {
        loop {
            match self.step_ahead(intent)? {
                Progress::Continue => {}
                Progress::PeerClosed => self.has_ended = true,
                Progress::Done => return Ok(()),
                Progress::NeedsInput => return Err(io::ErrorKind::NotConnected.into()),
            }
        }
    }

    /// A step in which unrequested content may come.
    fn step_ahead(&mut self, intent: Intent<'_>) -> io::Result<Progress> {
        let mut ahead = std::mem::replace(&mut self.ahead, Buffer::new(&self.buffers));
        let step = self.step(intent, &mut |bytes| ahead.extend(bytes));
        self.ahead = ahead;
        step
    }

    /// Has rustls look at what was read, as far as it goes at once; `take` is given what was
    /// decrypted.
    fn step(&mut self, intent: Intent<'_>, take: &mut dyn FnMut(&[u8])) -> io::Result<Progress> {
        if let Some(error) = &self.failure {
            return Err(invalid(error.clone()));
        }
        let records = self.incoming.filled_mut();
        let (used, step) = self.end.process(records, intent, take, &mut self.outgoing);
        self.incoming.consume(used);
        step.map_err(|error| {
            self.failure = Some(error.clone());
            self.send_alert();
            invalid(error)
        })
    }

    /// Tells the peer what went wrong, if rustls has something to tell and the socket takes it.
    fn send_alert(&mut self) {
        while self.state().wants_write() {
            let (_, step) = self.end.process(&mut [], Intent::Receive, &mut |_| {}, &mut self.outgoing);
            if step != Ok(Progress::Continue) {
                break;
            }
        }
        // The session has failed already: whether the peer hears of it changes nothing here.
        if let Ok(sent) = self.tcp.try_write(self.outgoing.filled()) {
            self.outgoing.consume(sent);
        }
    }

    /// Sends everything that waits.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.tcp).poll_write(cx, self.outgoing.filled()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => self.outgoing.consume(sent),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.outgoing.shrink();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once. Memory is taken only where there is something to read.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Poll::Ready(ready) = self.tcp.poll_read_ready(cx) else {
            self.incoming.shrink();
            return Poll::Pending;
        };
        ready?;
        self.incoming.grow_if_full(self.most_handshake_bytes);
        let most = if self.one_by_one { rest_of_record(self.incoming.filled()) } else { usize::MAX };
        let space = self.incoming.space();
        if space.is_empty() {
            return Poll::Ready(Err(invalid(Error::General("a handshake message is too long".into()))));
        }
        let most = most.min(space.len());
        let mut to = ReadBuf::new(space.split_at_mut(most).0);
        let polled = Pin::new(&mut self.tcp).poll_read(cx, &mut to);
        let count = to.filled().len();
        self.incoming.filled_more(count);
        self.incoming.release_if_empty();
        match ready!(polled) {
            Ok(()) if count == 0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            outcome => Poll::Ready(outcome),
        }
    }
}

pub(super) fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl AsyncRead for Session {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let session = self.get_mut();
        let mut content = std::mem::replace(&mut session.ahead, Buffer::new(&session.buffers));
        let filled = match content.is_empty() {
            true => session.poll_fill(cx, &mut content).map_ok(|_| ()),
            false => Poll::Ready(Ok(())),
        };
        let count = content.len().min(to.remaining());
        to.put_slice(content.first(count));
        content.consume(count);
        session.ahead = content;
        filled
    }
}
