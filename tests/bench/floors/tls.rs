use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use harness::meta_tls;
use rustls::pki_types::ServerName;
use tokio::io::{BufReader, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// Beneath TLS, which by itself asks the kernel for 4 KiB at a time.
const READ_BYTES: usize = 256 * 1024;
/// Between the two sessions, each direction. A session takes no more than this at a time.
const COPY_BYTES: usize = 64 * 1024;

pub type Client = server::TlsStream<BufReader<TcpStream>>;
pub type Upstream = client::TlsStream<BufReader<TcpStream>>;

#[derive(Clone)]
pub struct Relay {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Relay {
    /// # Errors
    /// A file can't be read, or is not what it should be.
    pub fn new(cert: &Path, key: &Path, ca: &Path, name: &str) -> Result<Self> {
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(meta_tls::server_config(cert, key)?)),
            connector: TlsConnector::from(Arc::new(meta_tls::client_config(ca)?)),
            name: ServerName::try_from(name.to_owned())?,
        })
    }

    /// A connection of the client's, and one to the upstream that is its own.
    ///
    /// # Errors
    /// One of the two fails.
    pub async fn run(self, client: TcpStream, upstream: SocketAddr) -> Result<()> {
        let mut client = self.accept(client).await?;
        let mut upstream = self.connect(upstream).await?;
        copy_bidirectional_with_sizes(&mut client, &mut upstream, COPY_BYTES, COPY_BYTES)
            .await
            .context("relaying TLS")?;
        Ok(())
    }

    pub async fn accept(&self, client: TcpStream) -> Result<Client> {
        let client = BufReader::with_capacity(READ_BYTES, client);
        self.acceptor.accept(client).await.context("a client's handshake")
    }

    pub async fn connect(&self, upstream: SocketAddr) -> Result<Upstream> {
        let tcp = BufReader::with_capacity(READ_BYTES, super::connect(upstream).await?);
        self.connector.connect(self.name.clone(), tcp).await.context("the upstream's handshake")
    }
}
