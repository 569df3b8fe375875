//! Who a client is.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;

use super::context::Context;
use super::protocol::Protocol;
use super::proxy_protocol;
use crate::config::Scheme;
use crate::net::{is_private, source_of};
use crate::observe::Sender;
use crate::prefixes::{Class, CounterIndex, Source};

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
