//! The sorts of peers, and the routes through them.

use std::net::SocketAddr;

use anyhow::Result;
use harness_core::free_port;
use rustix::process::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Hookgate,
    NginxToday,
    NginxTuned,
    Haproxy,
    /// hookgate without a look at bodies: what that costs.
    Unscanned,
    /// Another build of hookgate.
    Before,
    /// The least that any relay costs: tests/bench/floors.
    Floor,
}

/// The routes through a peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Webhooks,
    /// Webhooks with a connection each.
    Handshakes,
    Bodies,
    /// Bodies without TLS on either side.
    Plain,
}

/// Where each route begins. The proxies have one listener with TLS for the first three.
#[derive(Clone, Copy)]
pub struct Addresses {
    pub webhooks: SocketAddr,
    pub handshakes: SocketAddr,
    pub bodies: SocketAddr,
    pub plain: SocketAddr,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Hookgate,
        Self::Before,
        Self::NginxToday,
        Self::NginxTuned,
        Self::Haproxy,
        Self::Unscanned,
        Self::Floor,
    ];
    /// The proxies that are not hookgate.
    pub const PEERS: [Self; 3] = [Self::NginxToday, Self::NginxTuned, Self::Haproxy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Hookgate => "hookgate",
            Self::NginxToday => "nginx-today",
            Self::NginxTuned => "nginx-tuned",
            Self::Haproxy => "haproxy",
            Self::Unscanned => "hookgate-unscanned",
            Self::Before => "before",
            Self::Floor => "floor",
        }
    }

    pub fn program(self) -> &'static str {
        match self {
            Self::Hookgate | Self::Unscanned | Self::Before => "hookgate",
            Self::NginxToday | Self::NginxTuned => "nginx",
            Self::Haproxy => "haproxy",
            Self::Floor => "floors",
        }
    }

    /// What makes it read its configuration anew.
    pub fn reload_signal(self) -> Signal {
        match self {
            Self::Haproxy => Signal::USR2,
            _ => Signal::HUP,
        }
    }
}

impl Addresses {
    /// # Errors
    /// There are no free ports.
    pub fn new(kind: Kind) -> Result<Self> {
        let (webhooks, plain) = (loopback()?, loopback()?);
        Ok(match kind {
            Kind::Floor => Self { webhooks, handshakes: loopback()?, bodies: loopback()?, plain },
            _ => Self { webhooks, handshakes: webhooks, bodies: webhooks, plain },
        })
    }

    pub fn of(&self, route: Route) -> SocketAddr {
        match route {
            Route::Webhooks => self.webhooks,
            Route::Handshakes => self.handshakes,
            Route::Bodies => self.bodies,
            Route::Plain => self.plain,
        }
    }

    pub fn all(&self) -> [SocketAddr; 4] {
        [self.webhooks, self.handshakes, self.bodies, self.plain]
    }
}

/// An address of 127.0.0.1 whose port was free a moment ago.
pub fn loopback() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}
