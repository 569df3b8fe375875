use std::net::{IpAddr, SocketAddr};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::config::{Limits, Scheme, Timeouts};
use crate::http::head::HeadLimits;
use crate::net::Stream;
use crate::observe::Log;
use crate::upstream::{Directory, Dns};

/// What every connection works with: one snapshot of the configuration, made ready for use.
pub struct Context {
    /// This proxy's name in Via and Proxy-Status.
    pub name: String,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub directory: Directory,
    pub dns: Dns,
    pub log: Log,
}

impl Context {
    pub(super) fn head_limits(&self) -> HeadLimits {
        HeadLimits {
            bytes: self.limits.head_bytes,
            target_bytes: self.limits.uri_bytes,
            field_lines: self.limits.headers,
        }
    }
}

/// What a listener speaks with its clients.
#[derive(Clone)]
pub enum Protocol {
    Https(TlsAcceptor),
    /// HTTP without TLS here; the scheme is what clients are taken to have used.
    Plain(Scheme),
}

impl Protocol {
    fn scheme(&self) -> &'static str {
        match self {
            Self::Https(_) | Self::Plain(Scheme::Https) => "https",
            Self::Plain(Scheme::Http) => "http",
        }
    }
}

/// Where a client is, and how it came in.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub address: IpAddr,
    pub scheme: &'static str,
    /// It has shown a certificate, and that was verified.
    pub has_certificate: bool,
}

impl Client {
    pub(super) fn new(peer: SocketAddr, protocol: &Protocol, stream: &Stream) -> Self {
        Self {
            address: peer.ip().to_canonical(),
            scheme: protocol.scheme(),
            has_certificate: stream.has_peer_certificate(),
        }
    }
}

/// Something that happens once in the life of the process, and that any number of tasks wait for.
#[derive(Clone)]
pub struct Event {
    happened: watch::Receiver<bool>,
}

impl Event {
    /// `happened` turns true once.
    pub fn new(happened: watch::Receiver<bool>) -> Self {
        Self { happened }
    }

    pub fn has_happened(&self) -> bool {
        *self.happened.borrow()
    }

    /// Returns when it has happened.
    pub async fn happens(&mut self) {
        // An error means that the server is gone, and that the event will be the last one.
        let _ = self.happened.wait_for(|happened| *happened).await;
    }
}
