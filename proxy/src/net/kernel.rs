//! A TLS session whose records the kernel encrypts and decrypts. What is not application data stays
//! ours: alerts, session tickets, key updates.

pub mod control;
mod quiet;
mod support;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, InvalidMessage,
    ProtocolVersion, SupportedCipherSuite,
};
use tokio::io::{AsyncWrite as _, Interest};
use tokio::net::TcpStream;

use super::session::{RECORD_CONTENT_BYTES, invalid};
use super::{Buffer, Pipe};
use crate::sys::{KeyUse, Received, receive_record, send_record, set_kernel_tls_keys};
use control::{Control, ControlError, Demand, Role, unexpected};
pub use support::{KernelTls, NoKernelTls};

/// One end of a session and its socket, which has the keys.
pub struct KernelSession {
    tcp: TcpStream,
    end: End,
    version: ProtocolVersion,
    /// Whether it can be given other keys.
    rekeys: bool,
    /// Whether the kernel shows that part of a record has come.
    shows_parts: bool,
    control: Control,
    /// The peer is owed other keys for what we send.
    key_update_pending: bool,
    /// Records sent with these keys, at most.
    sent_records: u64,
    /// The most that may be sent with one key (RFC 8446 §5.5).
    most_records: u64,
    /// The peer has said that nothing more comes.
    has_ended: bool,
    /// We have said so.
    has_closed: bool,
    /// Nothing can be received or sent any more.
    failure: Option<Error>,
}

/// What rustls keeps of a session: the secrets that come next, and what resumes it.
enum End {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// What a read gives.
enum Incoming {
    Nothing,
    /// Something that is no application data.
    Control,
    /// Number of bytes read; 0 at end of stream.
    Content(usize),
}

/// With this number of records left, no other request is begun.
const SPARE_RECORDS: u64 = 1 << 20;
/// More do not come of one write or pipe.
const MAX_RECORDS_AT_ONCE: u64 = 1 << 10;
/// Records of a pipe's that end early: they take 16 pieces of memory each, and a pipe of 1 MiB has
/// 256.
const SHORT_RECORDS: usize = 256 / 16 + 1;

impl KernelSession {
    /// Gives a client's keys to `tcp`, which has been put under the kernel's TLS. Nothing may have
    /// been read that is not decrypted, nor encrypted that is not sent.
    ///
    /// Errors: the kernel does not take them, and the connection cannot go on.
    pub(super) fn of_client(
        tcp: TcpStream,
        client: UnbufferedClientConnection,
        kernel: KernelTls,
    ) -> io::Result<Self> {
        let (secrets, rest) = client.dangerous_into_kernel_connection().map_err(invalid)?;
        let (version, suite) = (rest.protocol_version(), rest.negotiated_cipher_suite());
        Self::new(tcp, End::Client(rest), version, suite, kernel).with_keys(&secrets)
    }

    /// The same of a server.
    ///
    /// Errors: as with [`Self::of_client`].
    pub(super) fn of_server(
        tcp: TcpStream,
        server: UnbufferedServerConnection,
        kernel: KernelTls,
    ) -> io::Result<Self> {
        let (secrets, rest) = server.dangerous_into_kernel_connection().map_err(invalid)?;
        let (version, suite) = (rest.protocol_version(), rest.negotiated_cipher_suite());
        Self::new(tcp, End::Server(rest), version, suite, kernel).with_keys(&secrets)
    }

    fn new(
        tcp: TcpStream,
        end: End,
        version: ProtocolVersion,
        suite: SupportedCipherSuite,
        kernel: KernelTls,
    ) -> Self {
        Self {
            tcp,
            end,
            version,
            rekeys: kernel.rekeys() && version == ProtocolVersion::TLSv1_3,
            shows_parts: kernel.shows_parts(),
            control: Control::default(),
            key_update_pending: false,
            sent_records: 0,
            most_records: match suite {
                SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
                SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            },
            has_ended: false,
            has_closed: false,
            failure: None,
        }
    }

    fn with_keys(mut self, secrets: &ExtractedSecrets) -> io::Result<Self> {
        self.set_keys(KeyUse::Transmit, &secrets.tx)?;
        self.set_keys(KeyUse::Receive, &secrets.rx)?;
        self.sent_records = secrets.tx.0;
        Ok(self)
    }

    fn set_keys(
        &self,
        key_use: KeyUse,
        (sequence, secrets): &(u64, ConnectionTrafficSecrets),
    ) -> io::Result<()> {
        set_kernel_tls_keys(self.tcp.as_fd(), key_use, self.version, *sequence, secrets).map_err(|error| {
            io::Error::new(error.kind(), format!("the kernel does not take the session's keys: {error}"))
        })
    }

    /// The socket beneath.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The socket, which gives content as if there were no TLS, and an error for what only
    /// [`Self::poll_fill`] understands.
    pub fn source(&self) -> Option<&TcpStream> {
        (!self.has_ended && self.failure.is_none()).then_some(&self.tcp)
    }

    /// Content has come from [`Self::source`].
    pub fn passed_content(&mut self) {
        self.control.passed_content();
    }

    /// Whether it may be kept for another request.
    pub fn may_be_kept(&self) -> bool {
        self.failure.is_none()
            && (self.rekeys || self.sent_records.saturating_add(SPARE_RECORDS) < self.most_records)
    }

    /// Appends what the peer has sent to `content`: at least a byte, or ready with 0 when it has
    /// closed.
    ///
    /// Errors: `UnexpectedEof` where the connection ends without close_notify; `InvalidData` with a
    /// [`rustls::Error`] within where TLS failed; otherwise the socket's.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, content: &mut Buffer) -> Poll<io::Result<usize>> {
        self.poll_content(cx, |session| {
            let received = session.receive(content.space());
            if let Ok(Incoming::Content(count)) = received {
                content.filled_more(count);
            }
            content.release_if_empty();
            received
        })
    }

    /// The same into a slice, which must not be empty.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_content(cx, |session| session.receive(to))
    }

    fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
        mut receive: impl FnMut(&mut Self) -> io::Result<Incoming>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.has_ended {
                return Poll::Ready(Ok(0));
            }
            ready!(self.tcp.poll_read_ready(cx))?;
            if let Incoming::Content(count) = receive(self)? {
                return Poll::Ready(Ok(count));
            }
        }
    }

    fn receive(&mut self, to: &mut [u8]) -> io::Result<Incoming> {
        debug_assert!(!to.is_empty());
        let received = self.tcp.try_io(Interest::READABLE, || receive_record(self.tcp.as_fd(), to));
        self.look_at(received, to)
    }

    fn look_at(&mut self, received: io::Result<Option<Received>>, bytes: &[u8]) -> io::Result<Incoming> {
        if let Some(error) = &self.failure {
            return Err(invalid(error.clone()));
        }
        let handled = match received {
            // Anybody could have sent the end of the TCP connection.
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Some(Received { content_type: ContentType::ApplicationData, length })) => match length {
                _ if !self.control.is_empty() => Err(unexpected(ContentType::ApplicationData)),
                // Empty records may come, and mean nothing.
                0 => return Ok(Incoming::Control),
                length => {
                    self.control.passed_content();
                    return Ok(Incoming::Content(length));
                }
            },
            Ok(Some(Received { content_type, length })) => {
                let payload = bytes.get(..length).unwrap_or_default();
                self.control(content_type, payload).map(|()| Incoming::Control)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Incoming::Nothing),
            Err(error) => match error.raw_os_error() {
                Some(libc::EBADMSG) => Err((AlertDescription::BadRecordMac, Error::DecryptError)),
                Some(libc::EMSGSIZE) => {
                    Err((AlertDescription::RecordOverflow, Error::PeerSentOversizedRecord))
                }
                Some(libc::EINVAL) => {
                    let error = InvalidMessage::UnknownProtocolVersion.into();
                    Err((AlertDescription::ProtocolVersion, error))
                }
                _ => return Err(error),
            },
        };
        let got = handled.map_err(|fault| self.fail(fault))?;
        match &self.failure {
            Some(error) => Err(invalid(error.clone())),
            None => Ok(got),
        }
    }

    fn control(&mut self, content_type: ContentType, bytes: &[u8]) -> Result<(), ControlError> {
        self.control.add(content_type, bytes)?;
        let role = Role {
            is_client: matches!(self.end, End::Client(_)),
            is_tls13: self.version == ProtocolVersion::TLSv1_3,
        };
        while !self.has_ended
            && let Some(demand) = self.control.next_demand(role)?
        {
            self.meet(demand)?;
        }
        Ok(())
    }

    fn meet(&mut self, demand: Demand) -> Result<(), ControlError> {
        match (demand, &mut self.end) {
            (Demand::End, _) => self.has_ended = true,
            (Demand::Fail(description), _) => self.failure = Some(Error::AlertReceived(description)),
            (Demand::Ticket(payload), End::Client(client)) => client
                .handle_new_session_ticket(&payload)
                .map_err(|error| (AlertDescription::DecodeError, error))?,
            (Demand::KeyUpdate { is_requested }, _) => self.key_update(is_requested)?,
            (Demand::Renegotiation, _) => self.say([1, AlertDescription::NoRenegotiation.into()]),
            (Demand::Nothing | Demand::Ticket(_), _) => {}
        }
        Ok(())
    }

    fn key_update(&mut self, is_requested: bool) -> Result<(), ControlError> {
        if !self.rekeys {
            return Err(internal("the peer has replaced its keys, which this kernel cannot"));
        }
        let next = match &mut self.end {
            End::Client(client) => client.update_rx_secret(),
            End::Server(server) => server.update_rx_secret(),
        };
        let next = next.map_err(internal)?;
        self.set_keys(KeyUse::Receive, &next).map_err(internal)?;
        self.key_update_pending |= is_requested;
        Ok(())
    }

    /// Tells the peer of other keys for what we send, and uses them.
    fn poll_key_update(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        const UPDATE_NOT_REQUESTED: [u8; 5] = [24, 0, 0, 1, 0];
        while self.key_update_pending {
            ready!(self.tcp.poll_write_ready(cx))?;
            let send = || send_record(self.tcp.as_fd(), ContentType::Handshake, &UPDATE_NOT_REQUESTED);
            match self.tcp.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                sent => sent?,
            }
            self.key_update_pending = false;
            let next = match &mut self.end {
                End::Client(client) => client.update_tx_secret(),
                End::Server(server) => server.update_tx_secret(),
            };
            self.set_keys(KeyUse::Transmit, &next.map_err(invalid)?)?;
            self.sent_records = 0;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when more content may be sent.
    ///
    /// Errors: the session has failed, or has sent all that may be sent with its keys.
    fn poll_may_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(error) = &self.failure {
            return Poll::Ready(Err(invalid(error.clone())));
        }
        if self.sent_records.saturating_add(MAX_RECORDS_AT_ONCE) > self.most_records {
            if !self.rekeys {
                let error = internal("as much has been sent as may be with one key");
                return Poll::Ready(Err(self.fail(error)));
            }
            self.key_update_pending = true;
        }
        self.poll_key_update(cx)
    }

    fn count_records(&mut self, sent: usize) {
        self.sent_records = self.sent_records.saturating_add(sent as u64);
    }

    /// Sends what is in `parts`, or the start of it.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_may_send(cx))?;
        let sent = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, parts))?;
        self.count_records((sent / RECORD_CONTENT_BYTES).saturating_add(1));
        Poll::Ready(Ok(sent))
    }

    /// Sends what is in a pipe, or the start of it.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
        ready!(self.poll_may_send(cx))?;
        let sent = ready!(pipe.poll_drain(cx, &self.tcp))?;
        self.count_records((sent / RECORD_CONTENT_BYTES).saturating_add(SHORT_RECORDS));
        Poll::Ready(Ok(sent))
    }

    /// Says that nothing more will come: close_notify, then the end of the stream.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.has_closed && self.failure.is_none() {
            ready!(self.tcp.poll_write_ready(cx))?;
            let close = [1, AlertDescription::CloseNotify.into()];
            let send = || send_record(self.tcp.as_fd(), ContentType::Alert, &close);
            match self.tcp.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => {
                    sent?;
                    self.has_closed = true;
                }
            }
        }
        // The kernel may have taken more than the socket had room for: the end of the stream would
        // overtake it.
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_io(Interest::WRITABLE, || has_room(&self.tcp)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    outcome?;
                    return Pin::new(&mut self.tcp).poll_shutdown(cx);
                }
            }
        }
    }

    /// The session cannot go on: tells the peer, if the socket takes it.
    fn fail(&mut self, (alert, error): ControlError) -> io::Error {
        // What the kernel found wrong stays with the socket, and would be reported to the next
        // sender.
        let _ = self.tcp.take_error();
        self.say([2, alert.into()]);
        invalid(self.failure.insert(error).clone())
    }

    /// Sends an alert if the socket takes it; whether the peer hears of it changes nothing here.
    fn say(&self, alert: [u8; 2]) {
        let send = || send_record(self.tcp.as_fd(), ContentType::Alert, &alert);
        let _ = self.tcp.try_io(Interest::WRITABLE, send);
    }
}

/// Whether a good part of the socket's memory is free, so that nothing lies before it any more;
/// `WouldBlock` if not.
fn has_room(tcp: &TcpStream) -> io::Result<()> {
    let mut asked = [PollFd::new(tcp, PollFlags::OUT)];
    poll(&mut asked, Some(&Timespec::default()))?;
    match asked[0].revents().is_empty() {
        true => Err(io::ErrorKind::WouldBlock.into()),
        false => Ok(()),
    }
}

/// A failure of this machine (RFC 8446 §6.2, internal_error).
fn internal(why: impl ToString) -> ControlError {
    (AlertDescription::InternalError, Error::General(why.to_string()))
}
