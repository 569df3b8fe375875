//! A connection that waits for its next request.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::net::Stream;
use crate::upstream::keep_alive::{Closed, KeepAlive};

/// What is known of a connection to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Making it began then.
    pub(super) made: Instant,
    /// Where it leads; `None`: the socket cannot say.
    pub(super) peer: Option<IpAddr>,
    /// How many responses have come over it.
    responses: u32,
    /// For how long it was idle before the request under way; `None`: this is its first.
    idle: Option<Duration>,
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

    fn closed(&self, idle: Duration) -> Closed {
        Closed { made: self.made, responses: self.responses, idle }
    }

    /// What is learnt of its upstream if it died of the request under way.
    pub(in crate::upstream) fn died(&self) -> Option<Closed> {
        self.idle.map(|idle| self.closed(idle))
    }
}

pub(super) struct Idle {
    stream: Stream,
    usage: Usage,
    since: Instant,
    expires: Instant,
}

impl Idle {
    /// One that has brought a response, and may be kept for `age`; `None` where it cannot serve
    /// another request.
    pub(super) fn new(
        mut stream: Stream,
        usage: Usage,
        age: Duration,
        keep_alive: &KeepAlive,
    ) -> Option<Self> {
        let since = Instant::now();
        let usage = Usage { responses: usage.responses.saturating_add(1), ..usage };
        if usage.responses > 1 {
            keep_alive.was_used_again();
        }
        let holds_nothing = stream.holds_nothing();
        if stream.has_ended() {
            keep_alive.closed(usage.closed(Duration::ZERO), since);
        }
        let may_be_kept = holds_nothing && stream.may_be_kept();
        may_be_kept.then(|| Self { stream, usage, since, expires: since + age })
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        now >= self.expires
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.since)
    }

    pub(super) fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether it can be used as far as the runtime has noticed; what the upstream did is
    /// remembered.
    pub(super) fn seems_alive(&mut self, keep_alive: &KeepAlive, now: Instant) -> bool {
        !self.stream.has_news() || self.is_alive(keep_alive, now)
    }

    /// Whether it can be used as far as the kernel knows by now; what the upstream did is
    /// remembered.
    pub(super) fn is_alive(&mut self, keep_alive: &KeepAlive, now: Instant) -> bool {
        let is_alive = self.stream.is_quiet();
        if !is_alive {
            keep_alive.closed(self.usage.closed(self.age(now)), now);
        }
        is_alive
    }

    /// The connection, for a request.
    pub(super) fn into_use(self, now: Instant) -> (Stream, Usage) {
        let idle = Some(self.age(now));
        (self.stream, Usage { idle, ..self.usage })
    }
}
