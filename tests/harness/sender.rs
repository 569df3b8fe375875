use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A proxy that takes longer for a connection or an answer has failed.
const MAX_WAIT: Duration = Duration::from_secs(20);
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Beneath TLS, which by itself asks the kernel for 4 KiB at a time.
const READ_BYTES: usize = 64 * 1024;

/// One of Meta's senders, with its own sessions to resume.
#[derive(Clone)]
pub struct Sender {
    address: SocketAddr,
    /// The proxy's name, and how to speak TLS to it; without TLS where there is none.
    tls: Option<(ServerName<'static>, ClientConfig)>,
    request: Arc<[u8]>,
}

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to the proxy.
pub struct Connection {
    stream: Box<dyn Stream>,
    local_port: u16,
    is_resumed: bool,
    request: Arc<[u8]>,
    /// Read and not used yet; empty between two requests.
    buffer: Vec<u8>,
}

/// What the answer said about its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Reuse,
    Close,
}

impl Sender {
    /// `name_and_config`: the name that the proxy's certificate must have, and how to speak TLS;
    /// without TLS where absent.
    ///
    /// # Errors
    /// The name is none.
    pub fn new(
        address: SocketAddr,
        name_and_config: Option<(&str, ClientConfig)>,
        request: Vec<u8>,
    ) -> Result<Self> {
        let tls = name_and_config.map(|(name, mut config)| -> Result<_> {
            config.resumption = Resumption::disabled();
            Ok((ServerName::try_from(name.to_owned())?, config))
        });
        Ok(Self { address, tls: tls.transpose()?, request: request.into() })
    }

    /// The same sender with a memory for sessions that no other has.
    pub fn that_resumes(&self) -> Self {
        let mut sender = self.clone();
        if let Some((_, config)) = &mut sender.tls {
            config.resumption = Resumption::in_memory_sessions(8);
        }
        sender
    }

    /// A connection for requests to come.
    pub fn connector(self) -> Connector {
        Connector {
            address: self.address,
            tls: self.tls.map(|(name, config)| (name, TlsConnector::from(Arc::new(config)))),
            request: self.request,
        }
    }
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    address: SocketAddr,
    tls: Option<(ServerName<'static>, TlsConnector)>,
    request: Arc<[u8]>,
}

impl Connector {
    /// # Errors
    /// The proxy does not accept, or the handshake fails.
    pub async fn connect(&self) -> Result<Connection> {
        let opening = async { self.over(self.knock().await?).await };
        timeout(MAX_WAIT, opening).await.context("connecting took too long")?
    }

    /// The beginning of a connection.
    ///
    /// # Errors
    /// The proxy does not listen.
    pub async fn knock(&self) -> Result<TcpStream> {
        TcpStream::connect(self.address).await.context("connecting")
    }

    /// What comes after it.
    ///
    /// # Errors
    /// The handshake fails.
    pub async fn over(&self, tcp: TcpStream) -> Result<Connection> {
        tcp.set_nodelay(true)?;
        let local_port = tcp.local_addr()?.port();
        let (stream, is_resumed): (Box<dyn Stream>, bool) = match &self.tls {
            None => (Box::new(tcp), false),
            Some((name, tls)) => {
                let tcp = BufReader::with_capacity(READ_BYTES, tcp);
                let stream = tls.connect(name.clone(), tcp).await.context("in the TLS handshake")?;
                let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
                (Box::new(stream), is_resumed)
            }
        };
        let request = self.request.clone();
        Ok(Connection { stream, local_port, is_resumed, request, buffer: Vec::with_capacity(4096) })
    }
}

impl Connection {
    /// Sends the request and reads the answer.
    ///
    /// # Errors
    /// It is not a whole 200.
    pub async fn deliver(&mut self) -> Result<Then> {
        timeout(MAX_WAIT, self.exchange()).await.context("an answer took too long")?
    }

    async fn exchange(&mut self) -> Result<Then> {
        self.stream.write_all(&self.request).await.context("sending a request")?;
        self.stream.flush().await.context("sending a request")?;
        self.answer().await
    }

    /// Sends bytes of a request, which may go on after them.
    ///
    /// # Errors
    /// The proxy does not take them.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sending = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(MAX_WAIT, sending).await.context("sending took too long")?.context("sending")
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// It is not a 200, or more than one.
    pub async fn answer(&mut self) -> Result<Then> {
        let (head_bytes, body_bytes, then) = self.head().await?;
        while self.buffer.len() < head_bytes + body_bytes {
            self.read().await?;
        }
        ensure!(self.buffer.len() == head_bytes + body_bytes, "more than one answer to one request");
        self.buffer.clear();
        Ok(then)
    }

    /// Reads an answer, drops its body, and returns the body's length.
    ///
    /// # Errors
    /// As [`Connection::answer`].
    pub async fn large_answer(&mut self) -> Result<(usize, Then)> {
        let (head_bytes, body_bytes, then) = self.head().await?;
        let mut read = self.buffer.len() - head_bytes;
        self.buffer.clear();
        self.buffer.reserve(4 * READ_BYTES);
        while read < body_bytes {
            self.read().await?;
            read += self.buffer.len();
            self.buffer.clear();
        }
        ensure!(read == body_bytes, "more than one answer to one request");
        Ok((body_bytes, then))
    }

    /// Asks a question and returns the answer's status, whatever that is; nothing else can follow.
    ///
    /// # Errors
    /// No answer comes.
    pub async fn status(mut self, question: &[u8]) -> Result<u16> {
        self.send(question).await?;
        loop {
            self.read().await?;
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut head = httparse::Response::new(&mut fields);
            if head.parse(&self.buffer).context("not an answer")?.is_complete() {
                return head.code.context("an answer without status");
            }
        }
    }

    async fn head(&mut self) -> Result<(usize, usize, Then)> {
        loop {
            self.read().await?;
            if let Some(answer) = read_head(&self.buffer)? {
                return Ok(answer);
            }
            ensure!(self.buffer.len() <= MAX_HEAD_BYTES, "an answer's head without end");
        }
    }

    async fn read(&mut self) -> Result<()> {
        let count = self.stream.read_buf(&mut self.buffer).await.context("reading an answer")?;
        ensure!(count > 0, "closed in the middle of an answer: {:?}", self.buffer.escape_ascii().to_string());
        Ok(())
    }

    /// Our end's port: by it the kernel's tables tell connections apart.
    pub fn local_port(&self) -> u16 {
        self.local_port
    }

    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Itself, or a new one where the answer said `Connection: close`.
    ///
    /// # Errors
    /// As [`Connector::connect`].
    pub async fn or_another(self, then: Then, to: &Connector) -> Result<Self> {
        if then == Then::Reuse { Ok(self) } else { to.connect().await }
    }

    /// # Errors
    /// The proxy has closed in another way first.
    pub async fn close(mut self) -> Result<()> {
        self.stream.shutdown().await.context("closing")
    }
}

/// Lengths of head and body, once the head is whole.
fn read_head(bytes: &[u8]) -> Result<Option<(usize, usize, Then)>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = head.parse(bytes).context("not an answer")? else {
        return Ok(None);
    };
    if head.code != Some(200) {
        bail!("answered {:?}", bytes.escape_ascii().to_string());
    }
    let field = |name: &str| {
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    };
    let length = field("Content-Length").context("an answer without Content-Length")?;
    let length = length.parse().with_context(|| format!("Content-Length: {length}"))?;
    let closes = field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Some((head_bytes, length, if closes { Then::Close } else { Then::Reuse })))
}
