//! A connection that waits for its next request.

use std::time::Duration;

use tokio::time::Instant;

use crate::net::Stream;
use crate::upstream::keep_alive::KeepAlive;
use crate::upstream::usage::Usage;

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
        since: Instant,
    ) -> Option<Self> {
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
