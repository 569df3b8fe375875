use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::message::Kind;
use crate::wire::Wire;
use crate::{Certs, Message};

/// A client that says exactly what it is told to, on one connection.
pub struct Client(Wire);

const CONNECT: Duration = Duration::from_secs(5);

impl Client {
    /// Without TLS.
    ///
    /// # Errors
    /// The peer does not listen.
    pub fn plain(address: SocketAddr) -> Result<Self> {
        Ok(Self(Wire::plain(connect(address)?)?))
    }

    /// With TLS, to the server called `name`, of which `certs` must be.
    ///
    /// # Errors
    /// The peer does not listen. (The handshake happens with the first byte.)
    pub fn tls(address: SocketAddr, certs: &Certs, name: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(certs.ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.enable_secret_extraction = true;
        Self::tls_with(address, b"", Arc::new(config), name)
    }

    /// With TLS as `config` says, after the bytes of `before`; `name` may be an address, which is
    /// not sent.
    ///
    /// # Errors
    /// The peer does not listen. (The handshake happens with the first byte.)
    pub fn tls_with(
        address: SocketAddr,
        before: impl AsRef<[u8]>,
        config: Arc<ClientConfig>,
        name: &str,
    ) -> Result<Self> {
        let mut tcp = connect(address)?;
        tcp.write_all(before.as_ref())?;
        Ok(Self(Wire::client(tcp, config, name)?))
    }

    /// Its TLS session; `None` without TLS.
    pub fn session(&self) -> Option<&ClientConnection> {
        self.0.session()
    }

    /// The next response.
    ///
    /// # Errors
    /// The connection closes before its head is there, or it is no response.
    pub fn response(&mut self) -> Result<Message> {
        self.read(Kind::Response)
    }

    /// The response to a HEAD.
    ///
    /// # Errors
    /// As [`Client::response`].
    pub fn response_to_head(&mut self) -> Result<Message> {
        self.read(Kind::ResponseToHead)
    }

    fn read(&mut self, kind: Kind) -> Result<Message> {
        let message = Message::read(&mut self.0, kind).context("reading a response")?;
        let heard =
            || format!("closed without a response; heard {:?}", self.0.heard().escape_ascii().to_string());
        message.with_context(heard)
    }

    /// Sends `request` and returns the response.
    ///
    /// # Errors
    /// As [`Client::response`].
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Result<Message> {
        // A server that refuses may close while we are still sending; what it said is what counts.
        let sent = self.0.send(request);
        self.response().with_context(|| format!("after sending: {sent:?}"))
    }

    /// The connection itself.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.0
    }

    pub fn into_wire(self) -> Wire {
        self.0
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&address, CONNECT).with_context(|| format!("connecting to {address}"))
}
