use std::cell::Cell;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::priority::Priority;
use crate::{Records, pace_task_until};

/// Clients that are neither Meta's nor the operator's, behind a load balancer whose PROXY headers
/// have their addresses.
#[derive(Clone)]
pub struct Strangers {
    name: ServerName<'static>,
    /// PROXY headers that they begin with, in turn.
    headers: Arc<[String]>,
    turn: Arc<AtomicUsize>,
    tls: Arc<ClientConfig>,
    counts: Arc<Counts>,
}

/// What strangers have done so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections opened.
    pub connections: AtomicU64,
    /// What the attack consists of: handshakes begun, requests, bytes.
    pub actions: AtomicU64,
    /// Connections that are over, whichever side ended them.
    pub ended: AtomicU64,
}

/// A stranger's connection with TLS.
pub type TlsTcp = TlsStream<TcpStream>;

impl Strangers {
    /// At `sources` IPv4 addresses, and in as many IPv6 networks; the proxy is called `name`.
    ///
    /// # Errors
    /// It can't be called that.
    pub fn new(sources: usize, name: &str) -> Result<Self> {
        let header = |number: usize| {
            [
                format!("PROXY TCP4 198.51.100.{} 192.0.2.1 40000 443\r\n", number + 1),
                format!("PROXY TCP6 2001:db8:{number:x}::1 2001:db8:ffff::1 40000 443\r\n"),
            ]
        };
        Ok(Self {
            name: ServerName::try_from(name.to_owned())?,
            headers: (0..sources).flat_map(header).collect(),
            turn: Arc::default(),
            tls: Arc::new(careless()?),
            counts: Arc::default(),
        })
    }

    /// All of them at one address.
    pub fn alone(self) -> Self {
        Self { headers: self.headers.iter().take(1).cloned().collect(), ..self }
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Counts actions of the attack: heads, bytes or connections.
    pub fn acted(&self, count: usize) {
        self.counts.actions.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A connection to `address` that has sent its PROXY header. It ends with a reset, so that no
    /// port stays taken.
    ///
    /// # Errors
    /// The proxy does not listen, or all ports are taken.
    pub async fn tcp(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let mut tcp = TcpStream::connect(address).await?;
        set_socket_linger(&tcp, Some(Duration::ZERO))?;
        tcp.set_nodelay(true)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        tcp.write_all(self.headers[turn % self.headers.len()].as_bytes()).await?;
        self.counts.connections.fetch_add(1, Ordering::Relaxed);
        Ok(tcp)
    }

    /// From now on the kernel takes as little ahead for a connection as it can.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn narrow(tcp: &TcpStream) -> io::Result<()> {
        Ok(set_socket_recv_buffer_size(tcp, 1)?)
    }

    /// [`Strangers::tcp`] with TLS.
    ///
    /// # Errors
    /// As there, or the handshake fails.
    pub async fn tls(&self, address: SocketAddr) -> io::Result<TlsTcp> {
        let tcp = self.tcp(address).await?;
        TlsConnector::from(self.tls.clone()).connect(self.name.clone(), tcp).await
    }

    /// A session of theirs after its handshake, to be spoken record by record: what is sent over
    /// the connection comes from [`Records::encrypt`].
    ///
    /// # Errors
    /// A cipher that [`Records`] does not speak.
    pub fn records(stream: TlsTcp) -> Result<(TcpStream, Records)> {
        let (tcp, session) = stream.into_inner();
        let tcp = tcp.into_std()?;
        let records = Records::new(tcp.try_clone()?, session.dangerous_extract_secrets()?)?;
        Ok((TcpStream::from_std(tcp)?, records))
    }

    /// Reads until `count` responses have begun.
    ///
    /// # Errors
    /// The connection ends before.
    pub async fn responses(stream: &mut (impl AsyncRead + Unpin), count: usize) -> io::Result<()> {
        const BEGIN: &[u8] = b"HTTP/1.1 ";
        let (mut seen, mut text) = (0, Vec::with_capacity(32 * 1024));
        loop {
            seen += text.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
            if seen >= count {
                return Ok(());
            }
            // What may be the beginning of one.
            text.drain(..text.len().saturating_sub(BEGIN.len() - 1));
            if stream.read_buf(&mut text).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads until the proxy ends the connection.
    ///
    /// # Errors
    /// It does so with a reset.
    pub async fn end(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let mut bytes = [0; 4096];
        while stream.read(&mut bytes).await? > 0 {}
        Ok(())
    }

    /// Sends `bytes` one by one, one each `every`, again and again, until the proxy says something
    /// or ends the connection.
    ///
    /// # Errors
    /// It does so with a reset.
    pub async fn drip(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        bytes: &[u8],
        every: Duration,
    ) -> io::Result<()> {
        let mut said = [0; 4096];
        for byte in bytes.iter().cycle() {
            if let Ok(read) = timeout(every, stream.read(&mut said)).await {
                return read.map(|_| ());
            }
            stream.write_all(&[*byte]).await?;
            stream.flush().await?;
            self.acted(1);
        }
        Ok(())
    }

    /// A ClientHello, to be sent any number of times.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn client_hello(&self) -> Result<Vec<u8>> {
        let mut hello = Vec::new();
        ClientConnection::new(self.tls.clone(), self.name.clone())?.write_tls(&mut hello)?;
        Ok(hello)
    }

    /// `count` strangers at the same time, each doing `work` again when it is over, together at
    /// most `per_second` times a second.
    pub async fn crowd<W: Future<Output = io::Result<()>> + 'static>(
        &self,
        count: usize,
        per_second: u32,
        work: impl Fn(Self) -> W + Clone + 'static,
    ) {
        let pace =
            Rc::new(Pace { next: Cell::new(Instant::now()), every: Duration::from_secs(1) / per_second });
        let mut crowd = JoinSet::new();
        for _ in 0..count {
            let (strangers, pace, work) = (self.clone(), pace.clone(), work.clone());
            crowd.spawn_local(async move {
                loop {
                    pace.turn().await;
                    // The proxy ends such connections; how is what the metrics say.
                    let _ = work(strangers.clone()).await;
                    strangers.counts.ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        pending().await
    }
}

/// Turns at a rate. What is late is not made up for.
struct Pace {
    next: Cell<Instant>,
    every: Duration,
}

impl Pace {
    async fn turn(&self) {
        let turn = self.next.get().max(Instant::now());
        self.next.set(turn + self.every);
        pace_task_until(turn).await;
    }
}

/// An attack under way; dropped, it ends with all its connections.
pub struct Attack {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Attack {
    /// Runs what `attack` makes on a thread of its own, which is less important than the proxy.
    pub fn begin(attack: impl FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            Priority::Attacker.take()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = attack() => {}
                    _ = stopped => {}
                }
            });
            Ok(())
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }

    /// # Errors
    /// It has broken down.
    pub fn end(mut self) -> Result<()> {
        self.finish()
    }

    fn finish(&mut self) -> Result<()> {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(anyhow!("the attack has broken down")),
            Some(Ok(ended)) => ended,
            None => Ok(()),
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        if let Err(error) = self.finish() {
            eprintln!("{error:#}");
        }
    }
}

/// TLS that believes any certificate: attackers spend nothing on verification.
fn careless() -> Result<ClientConfig> {
    let provider = Arc::new(default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Careless(schemes)))
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    Ok(config)
}

#[derive(Debug)]
struct Careless(Vec<SignatureScheme>);

impl ServerCertVerifier for Careless {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
