use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::net::TcpStream;

use super::admit::Admission;
use super::proxy_protocol;
use super::redirect::Redirect;
use crate::config::{Limits, Scheme, Timeouts};
use crate::http::head::HeadLimits;
use crate::net::{KernelTls, source_of};
use crate::observe::{Log, Metrics, Sender};
use crate::prefixes::{Class, Classifier, CounterIndex, Network, Source};
use crate::tls::ClientAuthority;
use crate::upstream::{Directory, Dns};

/// What every connection works with: one snapshot of the configuration, made ready for use.
pub struct Context {
    /// This proxy's name in Via and Proxy-Status.
    pub name: String,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub admission: Admission,
    /// Networks that must send a PROXY header and are believed.
    pub proxy_protocol_from: Vec<Network>,
    pub directory: Directory,
    pub dns: Arc<Dns>,
    /// Which client certificates count; `None`: there is no TLS.
    pub client_authority: Option<Arc<ClientAuthority>>,
    /// `None`: sessions stay with the proxy.
    pub kernel_tls: Option<KernelTls>,
    pub log: Log,
    pub metrics: Arc<Metrics>,
    pub classifier: Arc<Classifier>,
}

/// A context in one worker. In an `Rc`, so that taking it for a request touches no memory that
/// other cores write.
pub struct WorkerContext(Arc<Context>);

impl WorkerContext {
    pub(super) fn new(context: Arc<Context>) -> Rc<Self> {
        Rc::new(Self(context))
    }
}

impl Deref for WorkerContext {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
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
    Https(Arc<ServerConfig>, Arc<ClientAuthority>),
    /// HTTP without TLS here; the scheme is what clients are taken to have used.
    Plain(Scheme),
    /// HTTP that only leads to https.
    Redirect(Redirect),
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https(..) => "https",
            Self::Plain(_) => "plain http",
            Self::Redirect(_) => "http, leads to https",
        })
    }
}

impl Protocol {
    /// `tls_before`: whether a load balancer says that its client used TLS.
    fn scheme(&self, tls_before: Option<bool>) -> Scheme {
        match (self, tls_before) {
            (Self::Https(..), _) | (Self::Plain(_), Some(true)) => Scheme::Https,
            (Self::Plain(_), Some(false)) | (Self::Redirect(_), _) => Scheme::Http,
            (Self::Plain(configured), None) => *configured,
        }
    }
}

/// Whether it is used within networks alone: RFC 1918, RFC 6598 (carrier NAT), RFC 4193.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || matches!(v4.octets(), [100, 64..=127, ..]),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

/// Who a client is, and how it came in.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    pub(super) class: Class,
    pub(super) counter: CounterIndex,
    /// The address in text, as every request is sent on and logged with it.
    pub(super) text: Box<str>,
    pub(super) scheme: Scheme,
    /// The source of a client whose address is neither Meta's nor the operator's.
    pub(super) stranger: Option<IpAddr>,
    /// A stranger's address that no packet from the Internet can have.
    pub(super) is_private_stranger: bool,
}

impl Client {
    /// Whether its address is neither Meta's nor the operator's.
    pub(super) fn is_stranger(&self) -> bool {
        self.stranger.is_some()
    }

    /// As what it asks for is logged.
    pub(super) fn sender(&self) -> Sender<'_> {
        Sender { source: &self.text, counter: self.counter, is_stranger: self.is_stranger() }
    }

    /// Believes the PROXY header of those who must send one.
    ///
    /// Errors: it does not come, or is none.
    pub(super) async fn identify(
        tcp: &mut TcpStream,
        peer: SocketAddr,
        protocol: &Protocol,
        context: &Context,
    ) -> io::Result<Self> {
        let peer = peer.ip().to_canonical();
        if !context.proxy_protocol_from.iter().any(|network| network.contains(peer)) {
            let client = Self::new(peer, protocol.scheme(None), context);
            // Behind a load balancer that sends no PROXY header every client has its address.
            return Ok(match protocol {
                Protocol::Plain(_) => Self { stranger: None, is_private_stranger: false, ..client },
                Protocol::Https(..) | Protocol::Redirect(_) => client,
            });
        }
        let header = proxy_protocol::read(tcp).await?;
        let address = header.client.map_or(peer, |client| client.ip().to_canonical());
        Ok(Self::new(address, protocol.scheme(header.tls), context))
    }

    fn new(address: IpAddr, scheme: Scheme, context: &Context) -> Self {
        let Source { class, counter } = context.classifier.classify(address);
        let stranger = (class == Class::Other).then(|| source_of(address));
        let is_private_stranger = stranger.is_some() && is_private(address);
        Self {
            address,
            class,
            counter,
            text: address.to_string().into(),
            scheme,
            stranger,
            is_private_stranger,
        }
    }
}
