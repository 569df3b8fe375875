use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::Resumption;
use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A proxy that takes longer for a connection or an answer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// One of Meta's senders, with its own sessions to resume.
#[derive(Clone)]
pub struct Sender {
    address: SocketAddr,
    name: ServerName<'static>,
    tls: ClientConfig,
    request: Arc<[u8]>,
}

/// A connection to the proxy.
pub struct Connection {
    stream: TlsStream<TcpStream>,
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
    pub fn new(address: SocketAddr, name: &str, ca: &Path, request: Vec<u8>) -> Result<Self> {
        let mut provider = default_provider();
        provider.cipher_suites = vec![cipher_suite::TLS13_AES_128_GCM_SHA256];
        provider.kx_groups = vec![kx_group::X25519];
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).context("reading the authority")? {
            roots.add(certificate?)?;
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        tls.resumption = Resumption::disabled();
        Ok(Self { address, name: ServerName::try_from(name.to_owned())?, tls, request: request.into() })
    }

    /// The same sender with a memory for sessions that no other has.
    pub fn that_resumes(&self) -> Self {
        let mut sender = self.clone();
        sender.tls.resumption = Resumption::in_memory_sessions(8);
        sender
    }

    /// A connection for requests to come.
    pub fn connector(self) -> Connector {
        Connector {
            tls: TlsConnector::from(Arc::new(self.tls)),
            address: self.address,
            name: self.name,
            request: self.request,
        }
    }
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    tls: TlsConnector,
    address: SocketAddr,
    name: ServerName<'static>,
    request: Arc<[u8]>,
}

impl Connector {
    /// # Errors
    /// The proxy does not accept, or the handshake fails.
    pub async fn connect(&self) -> Result<Connection> {
        let opened = async {
            let tcp = TcpStream::connect(self.address).await.context("connecting")?;
            tcp.set_nodelay(true)?;
            self.tls.connect(self.name.clone(), tcp).await.context("in the TLS handshake")
        };
        let stream = timeout(PATIENCE, opened).await.context("connecting took too long")??;
        Ok(Connection { stream, request: self.request.clone(), buffer: Vec::with_capacity(4096) })
    }

    /// Whether somebody listens yet.
    pub async fn is_open(&self) -> bool {
        TcpStream::connect(self.address).await.is_ok()
    }
}

impl Connection {
    /// Sends the request and reads the answer.
    ///
    /// # Errors
    /// It is not a whole 200.
    pub async fn deliver(&mut self) -> Result<Then> {
        timeout(PATIENCE, self.exchange()).await.context("an answer took too long")?
    }

    async fn exchange(&mut self) -> Result<Then> {
        self.stream.write_all(&self.request).await.context("sending a request")?;
        self.stream.flush().await.context("sending a request")?;
        let (head_bytes, body_bytes, then) = loop {
            self.read().await?;
            if let Some(answer) = read_head(&self.buffer)? {
                break answer;
            }
            ensure!(self.buffer.len() <= MAX_HEAD_BYTES, "an answer's head without end");
        };
        while self.buffer.len() < head_bytes + body_bytes {
            self.read().await?;
        }
        ensure!(self.buffer.len() == head_bytes + body_bytes, "more than one answer to one request");
        self.buffer.clear();
        Ok(then)
    }

    async fn read(&mut self) -> Result<()> {
        let count = self.stream.read_buf(&mut self.buffer).await.context("reading an answer")?;
        ensure!(count > 0, "closed in the middle of an answer: {:?}", self.buffer.escape_ascii().to_string());
        Ok(())
    }

    pub fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
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
