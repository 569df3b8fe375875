use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::message::Kind;
use crate::wire::{Transcript, Wire};
use crate::{Certs, Message};

/// An upstream that does exactly what its script says, and remembers every byte that it was sent.
pub struct Origin {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Transcript>>>,
    ended: Arc<AtomicUsize>,
}

/// One connection to an [`Origin`].
pub struct Conversation {
    wire: Wire,
    index: usize,
}

/// What a script's end means for its connection.
pub enum End {
    /// FIN, after close_notify where there is TLS.
    Close,
    /// FIN alone.
    Vanish,
    /// RST.
    Reset,
}

/// What happens on a connection, from its first byte on. An error ends it: the peer has gone.
pub type Script = dyn Fn(&mut Conversation) -> io::Result<End> + Send + Sync;

const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Whether tests that need no TLS are to have it all the same, on both sides of the proxy: with
/// `HOOKGATE_OVER_TLS` in the environment.
pub fn over_tls() -> bool {
    std::env::var_os("HOOKGATE_OVER_TLS").is_some()
}

impl Origin {
    /// Without TLS, on a free port of 127.0.0.1; unless everything is to run [`over_tls`].
    ///
    /// # Errors
    /// No port.
    pub fn plain(
        script: impl Fn(&mut Conversation) -> io::Result<End> + Send + Sync + 'static,
    ) -> Result<Self> {
        if over_tls() {
            return Self::tls(&Certs::new(&["up.example"])?, script);
        }
        Self::start(ANY_PORT, None, Arc::new(script))
    }

    /// Without TLS, whatever [`over_tls`] says, on `address`.
    ///
    /// # Errors
    /// It is taken.
    pub fn plain_at(
        address: SocketAddr,
        script: impl Fn(&mut Conversation) -> io::Result<End> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start(address, None, Arc::new(script))
    }

    /// With TLS.
    ///
    /// # Errors
    /// No port, or `certs` is not a certificate with its key.
    pub fn tls(
        certs: &Certs,
        script: impl Fn(&mut Conversation) -> io::Result<End> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::tls_with_alpn(certs, &[b"http/1.1"], script)
    }

    /// With TLS that speaks only `protocols`.
    ///
    /// # Errors
    /// As [`Origin::tls`].
    pub fn tls_with_alpn(
        certs: &Certs,
        protocols: &[&[u8]],
        script: impl Fn(&mut Conversation) -> io::Result<End> + Send + Sync + 'static,
    ) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certs.cert.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(certs.key.as_bytes())?;
        let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.enable_secret_extraction = true;
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Self::start(ANY_PORT, Some(Arc::new(config)), Arc::new(script))
    }

    /// Answers every request with `response`, as long as the client likes.
    ///
    /// # Errors
    /// No port.
    pub fn answering(response: &'static str) -> Result<Self> {
        Self::plain(move |connection| {
            while connection.request()?.is_some() {
                connection.send(response)?;
            }
            Ok(End::Close)
        })
    }

    fn start(address: SocketAddr, tls: Option<Arc<ServerConfig>>, script: Arc<Script>) -> Result<Self> {
        let listener = TcpListener::bind(address).context("a port for an origin")?;
        let address = listener.local_addr()?;
        let heard = Arc::<Mutex<Vec<Transcript>>>::default();
        let ended = Arc::<AtomicUsize>::default();
        let (record, count) = (heard.clone(), ended.clone());
        // The listener lives as long as the process: an origin costs a thread, and only tests have
        // one.
        thread::spawn(move || {
            for (index, tcp) in listener.incoming().map_while(Result::ok).enumerate() {
                let (tls, script, heard) = (tls.clone(), script.clone(), Transcript::default());
                record.lock().unwrap_or_else(PoisonError::into_inner).push(heard.clone());
                let ended = count.clone();
                thread::spawn(move || {
                    if let Err(error) = exchange(tcp, tls, index, &*script, heard) {
                        eprintln!("origin, connection {index}: {error:#}");
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self { address, heard, ended })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every byte of every connection so far, in order of their beginning.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        let connections = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().map(|heard| heard.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// Forgets what it received, except the number of connections: for long tests.
    pub fn forget(&self) {
        for heard in self.heard.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            *heard.lock().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        }
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many of them have ended: after [`End::Close`] the peer has closed, too.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

fn exchange(
    tcp: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    index: usize,
    script: &Script,
    heard: Transcript,
) -> Result<()> {
    let mut wire = match tls {
        Some(config) => Wire::server(tcp, config)?,
        None => Wire::plain(tcp)?,
    };
    wire.record_into(heard);
    let mut conversation = Conversation { wire, index };
    let end = script(&mut conversation);
    let Conversation { mut wire, .. } = conversation;
    match end {
        Ok(End::Close) => {
            wire.finish()?;
            // With unread bytes in the socket a close would be a reset.
            while wire.read()? > 0 {}
            Ok(())
        }
        Ok(End::Vanish) => Ok(wire.vanish()?),
        Ok(End::Reset) => Ok(wire.reset()?),
        Err(error) => Err(error.into()),
    }
}

impl Conversation {
    /// Which of the origin's connections this is, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The next request, body and all; `None` when the client closes instead.
    ///
    /// # Errors
    /// The connection was cut.
    pub fn request(&mut self) -> io::Result<Option<Message>> {
        Message::read(&mut self.wire, Kind::Request)
    }

    /// The next request's head alone.
    ///
    /// # Errors
    /// The connection was cut, or closed.
    pub fn head(&mut self) -> io::Result<String> {
        let head = self.wire.take_until(b"\r\n\r\n")?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Reads until `count` bytes have come that were not taken before; fewer when the client
    /// closes.
    ///
    /// # Errors
    /// The connection was cut.
    pub fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        self.wire.take_at_most(count)
    }

    /// # Errors
    /// The connection was cut.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes)
    }

    /// The connection itself.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }
}
