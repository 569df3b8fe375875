use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rustix::net::sockopt::set_socket_linger;
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection, SideData, StreamOwned,
};

use crate::records::{Records, was_cut};

/// One end of a connection that a test drives byte by byte, with TLS or without.
pub struct Wire {
    stream: Stream,
    tcp: TcpStream,
    /// Read and not taken yet.
    buffer: Vec<u8>,
    heard: Transcript,
}

/// Everything that was ever read from a connection.
pub(crate) type Transcript = Arc<Mutex<Vec<u8>>>;

enum Stream {
    Plain(TcpStream),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How long a peer may be silent before a read fails.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// How the other end closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// With FIN, and close_notify before it where there is TLS.
    Orderly,
    /// With FIN alone under TLS, or with RST.
    Cut,
}

impl Wire {
    pub(crate) fn plain(tcp: TcpStream) -> Result<Self> {
        Self::new(tcp, |tcp| Ok(Stream::Plain(tcp)))
    }

    pub(crate) fn server(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<Self> {
        Self::new(tcp, |tcp| {
            Ok(Stream::Server(Box::new(StreamOwned::new(ServerConnection::new(config)?, tcp))))
        })
    }

    pub(crate) fn client(tcp: TcpStream, config: Arc<ClientConfig>, name: &str) -> Result<Self> {
        let name = ServerName::try_from(name.to_owned())?;
        Self::new(tcp, |tcp| {
            Ok(Stream::Client(Box::new(StreamOwned::new(ClientConnection::new(config, name)?, tcp))))
        })
    }

    fn new(tcp: TcpStream, wrap: impl FnOnce(TcpStream) -> Result<Stream>) -> Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(MAX_WAIT))?;
        tcp.set_write_timeout(Some(MAX_WAIT))?;
        let stream = wrap(tcp.try_clone()?)?;
        Ok(Self { stream, tcp, buffer: Vec::new(), heard: Transcript::default() })
    }

    /// # Errors
    /// The peer has gone, or takes nothing.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())?;
        self.stream.flush()
    }

    /// Reads once and returns how many bytes came; 0 at the end.
    ///
    /// # Errors
    /// The connection was cut, or nothing came for [`MAX_WAIT`].
    pub fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 64 * 1024];
        let count = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..count]);
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Whether the peer says something within `limit`, or closes.
    ///
    /// # Errors
    /// The connection was cut.
    pub fn has_something_within(&mut self, limit: Duration) -> io::Result<bool> {
        if !self.buffer.is_empty() {
            return Ok(true);
        }
        self.tcp.set_read_timeout(Some(limit))?;
        let read = self.read();
        self.tcp.set_read_timeout(Some(MAX_WAIT))?;
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            read => read.map(|_| true),
        }
    }

    /// Everything that was ever read.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn record_into(&mut self, heard: Transcript) {
        self.heard = heard;
    }

    /// What is read and not taken.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        self.buffer.drain(..count).collect()
    }

    /// Reads until there are `count` bytes, and takes them; fewer when the peer closes.
    pub(crate) fn take_at_most(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count && self.read()? > 0 {}
        Ok(self.take(count.min(self.buffer.len())))
    }

    /// Reads until `end` and takes everything up to and with it; `None` when the peer closes
    /// before.
    pub(crate) fn take_until(&mut self, end: &[u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(Some(self.take(at + end.len())));
            }
            if self.read()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Says that nothing more will come, and can still read.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn finish(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(_) => {}
            Stream::Server(tls) => {
                tls.conn.send_close_notify();
                tls.flush()?;
            }
            Stream::Client(tls) => {
                tls.conn.send_close_notify();
                tls.flush()?;
            }
        }
        self.tcp.shutdown(Shutdown::Write)
    }

    /// Closes the way a killed process does: FIN without TLS's close_notify.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn vanish(&mut self) -> io::Result<()> {
        self.tcp.shutdown(Shutdown::Both)
    }

    /// The connection without the memory of what was read, for what is too big to remember.
    pub fn into_stream(self) -> impl Read + Write {
        self.stream
    }

    /// Other keys for what is sent from now on (TLS 1.3).
    ///
    /// # Errors
    /// There is no TLS, or it has no such thing.
    pub fn replace_keys(&mut self) -> Result<()> {
        match &mut self.stream {
            Stream::Plain(_) => anyhow::bail!("no TLS"),
            Stream::Server(tls) => tls.conn.refresh_traffic_keys()?,
            Stream::Client(tls) => tls.conn.refresh_traffic_keys()?,
        }
        Ok(())
    }

    /// Whether the TLS session goes on from an earlier one.
    pub fn is_resumed(&self) -> bool {
        let kind = match &self.stream {
            Stream::Plain(_) => None,
            Stream::Server(tls) => tls.conn.handshake_kind(),
            Stream::Client(tls) => tls.conn.handshake_kind(),
        };
        kind == Some(HandshakeKind::Resumed)
    }

    /// The session record by record, after its handshake; nothing may have come that was not read.
    ///
    /// # Errors
    /// There is no TLS, or a cipher that [`Records`] does not speak.
    pub fn records(&mut self) -> Result<Records> {
        let secrets = match std::mem::replace(&mut self.stream, Stream::Plain(self.tcp.try_clone()?)) {
            Stream::Plain(_) => anyhow::bail!("no TLS"),
            Stream::Server(mut tls) => {
                complete(&mut tls.conn, &mut tls.sock)?;
                tls.conn.dangerous_extract_secrets()
            }
            Stream::Client(mut tls) => {
                complete(&mut tls.conn, &mut tls.sock)?;
                tls.conn.dangerous_extract_secrets()
            }
        };
        Records::new(self.tcp.try_clone()?, secrets?)
    }

    pub(crate) fn session(&self) -> Option<&ClientConnection> {
        match &self.stream {
            Stream::Client(tls) => Some(&tls.conn),
            Stream::Plain(_) | Stream::Server(_) => None,
        }
    }

    /// Sends RST.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn reset(self) -> io::Result<()> {
        Ok(set_socket_linger(&self.tcp, Some(Duration::ZERO))?)
    }

    /// How the peer closes; what it still sends is read.
    ///
    /// # Errors
    /// It does not, within [`MAX_WAIT`].
    pub fn closed(&mut self) -> io::Result<Closed> {
        loop {
            match self.read() {
                Ok(0) => return Ok(Closed::Orderly),
                Ok(_) => {}
                Err(error) if was_cut(&error) => return Ok(Closed::Cut),
                Err(error) => return Err(error),
            }
        }
    }
}

impl Stream {
    fn as_io(&mut self) -> &mut dyn Duplex {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Server(tls) => tls,
            Self::Client(tls) => tls,
        }
    }
}

/// Finishes the handshake, and leaves what comes after it unread.
fn complete<Data: SideData>(
    session: &mut rustls::ConnectionCommon<Data>,
    tcp: &mut TcpStream,
) -> io::Result<()> {
    while session.is_handshaking() || session.wants_write() {
        if session.wants_write() {
            session.write_tls(tcp)?;
            continue;
        }
        let mut header = [0; 5];
        tcp.read_exact(&mut header)?;
        let mut record = header.to_vec();
        record.resize(5 + usize::from(u16::from_be_bytes([header[3], header[4]])), 0);
        tcp.read_exact(&mut record[5..])?;
        let mut unread = &record[..];
        while !unread.is_empty() {
            session.read_tls(&mut unread)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
    Ok(())
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

impl Read for Stream {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.as_io().read(to)
    }
}

impl Write for Stream {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.as_io().write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.as_io().flush()
    }
}
