use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::keep_alive::Closed;
use crate::net::Stream;

/// What is known of a connection to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Making it began then.
    pub(super) made: Instant,
    /// Where it leads; `None`: the socket cannot say.
    pub(super) peer: Option<IpAddr>,
    /// How many responses have come over it.
    pub(super) responses: u32,
    /// For how long it was idle before the request under way; `None`: this is its first.
    pub(super) idle: Option<Duration>,
}

impl Usage {
    /// Of a connection that was just made, which began at `made`.
    pub fn of_new(stream: &Stream, made: Instant) -> Self {
        let peer = stream.tcp().and_then(|tcp| tcp.peer_addr().ok());
        let peer = peer.map(|address| address.ip().to_canonical());
        Self { made, peer, responses: 0, idle: None }
    }

    /// For how long it was idle before the request under way; `None`: this is its first.
    pub fn idle(&self) -> Option<Duration> {
        self.idle
    }

    pub(super) fn closed(&self, idle: Duration) -> Closed {
        Closed { made: self.made, responses: self.responses, idle }
    }

    /// What is learnt of its upstream if it died of the request under way.
    pub(super) fn died(&self) -> Option<Closed> {
        self.idle.map(|idle| self.closed(idle))
    }
}
