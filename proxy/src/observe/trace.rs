//! Requests that an operator follows step by step.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// One request, as in `hookgate trace --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    pub version: u32,
    /// Ascending, from 1 on since the start.
    pub number: u64,
    pub id: String,
    /// `None`: it named none.
    pub upstream: Option<String>,
    /// Those that have happened, in the order of the way.
    pub steps: Vec<TimedStep>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedStep {
    pub name: String,
    /// Since the first step that is known.
    pub seconds: f64,
}

/// A step of the way of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TraceStep {
    /// The client's SYN arrived.
    Syn,
    /// The SYN-ACK left.
    SynAck,
    /// The kernel completed the handshake.
    Established,
    Accepted,
    /// The first bytes of the TLS handshake arrived.
    ClientHello,
    /// The TLS handshake is over.
    Tls,
    /// The request's head arrived.
    Head,
    Route,
    Dns,
    Connect,
    UpstreamTls,
    /// All of the request was sent.
    Sent,
    ResponseHead,
    /// The response arrived to its end.
    Response,
    /// The client has all of it.
    Written,
}

impl TraceStep {
    fn name(self) -> &'static str {
        match self {
            Self::Syn => "syn",
            Self::SynAck => "syn_ack",
            Self::Established => "established",
            Self::Accepted => "accepted",
            Self::ClientHello => "client_hello",
            Self::Tls => "tls",
            Self::Head => "head",
            Self::Route => "route",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::UpstreamTls => "upstream_tls",
            Self::Sent => "sent",
            Self::ResponseHead => "response_head",
            Self::Response => "response",
            Self::Written => "written",
        }
    }
}

/// When each step was.
#[derive(Clone, Debug, Default)]
pub struct Steps(RefCell<Vec<(TraceStep, Instant)>>);

impl Steps {
    pub fn now(&self, step: TraceStep) {
        self.at(step, Instant::now());
    }

    /// The last time counts: a request may be sent twice.
    pub fn at(&self, step: TraceStep, time: Instant) {
        let mut steps = self.0.borrow_mut();
        steps.retain(|(known, _)| *known != step);
        steps.push((step, time));
    }

    fn timed(&self) -> Vec<TimedStep> {
        let mut steps = self.0.borrow().clone();
        steps.sort_by_key(|(step, _)| *step);
        let first = steps.iter().map(|(_, time)| *time).min();
        let seconds = |time: Instant| first.map_or(0.0, |first| time.duration_since(first).as_secs_f64());
        let timed = steps.into_iter();
        timed.map(|(step, time)| TimedStep { name: step.name().into(), seconds: seconds(time) }).collect()
    }
}

/// When the kernel saw the steps of a handshake, in nanoseconds of CLOCK_MONOTONIC; 0: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelTimes {
    pub syn: u64,
    pub syn_ack: u64,
    pub established: u64,
}

impl KernelTimes {
    fn note(&self, steps: &Steps) {
        // That is the clock of Instant.
        let (now, read) = (clock_gettime(ClockId::Monotonic), Instant::now());
        let now =
            Duration::new(now.tv_sec.unsigned_abs(), 0) + Duration::from_nanos(now.tv_nsec.unsigned_abs());
        let known = [
            (TraceStep::Syn, self.syn),
            (TraceStep::SynAck, self.syn_ack),
            // Its clock is coarse.
            (TraceStep::Established, self.established.max(self.syn_ack)),
        ];
        for (step, time) in known.into_iter().filter(|(_, time)| *time != 0) {
            let ago = now.saturating_sub(Duration::from_nanos(time));
            if let Some(time) = read.checked_sub(ago) {
                steps.at(step, time);
            }
        }
    }
}

/// Asks for the handshake of a client.
type Handshakes = Box<dyn Fn(SocketAddr) -> Option<KernelTimes> + Send + Sync>;

/// Keeps the latest requests while a client follows them.
pub struct Tracer {
    begun: Instant,
    /// Until when, in milliseconds since `begun`; 0: no client does.
    until: AtomicU64,
    latest: Mutex<Latest>,
    handshakes: OnceLock<Handshakes>,
    /// Handshakes asked for since a client took traces last.
    asked: AtomicU64,
}

#[derive(Default)]
struct Latest {
    count: u64,
    traces: VecDeque<Trace>,
}

/// How long a follower that asks for nothing more is waited for.
const LEASE: Duration = Duration::from_secs(3);
const MAX_KEPT: usize = 256;
/// Asking takes the time of a look through all open handshakes.
const MAX_ASKED: u64 = 8;

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Default for Tracer {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            until: AtomicU64::new(0),
            latest: Mutex::default(),
            handshakes: OnceLock::new(),
            asked: AtomicU64::new(0),
        }
    }
}

impl Tracer {
    /// Steps to be filled in, while a client follows.
    pub fn steps(&self) -> Option<Box<Steps>> {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        if self.milliseconds() < until {
            return Some(Box::default());
        }
        self.until.store(0, Ordering::Relaxed);
        None
    }

    /// Where the kernel's times of handshakes are asked for. Only the first call counts.
    pub fn set_handshakes(&self, ask: impl Fn(SocketAddr) -> Option<KernelTimes> + Send + Sync + 'static) {
        // A second one would be of the same process.
        drop(self.handshakes.set(Box::new(ask)));
    }

    /// Notes what the kernel has seen of a client's connection. May block for a moment.
    pub fn note_handshake(&self, peer: SocketAddr, steps: &Steps) {
        let Some(ask) = self.handshakes.get() else { return };
        if self.asked.fetch_add(1, Ordering::Relaxed) < MAX_ASKED
            && let Some(times) = ask(peer)
        {
            times.note(steps);
        }
    }

    pub(super) fn add(&self, id: &str, upstream: Option<&str>, steps: &Steps) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.count += 1;
        let number = latest.count;
        let upstream = upstream.map(str::to_owned);
        latest.traces.push_back(Trace { version: 1, number, id: id.into(), upstream, steps: steps.timed() });
        if latest.traces.len() > MAX_KEPT {
            latest.traces.pop_front();
        }
    }

    /// The traces after that number, to a follower that will ask again; `None` for the number: from
    /// now on. Returns also the number of the latest one.
    pub fn follow(&self, after: Option<u64>) -> (u64, Vec<Trace>) {
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        self.until.store(self.milliseconds().saturating_add(lease).max(1), Ordering::Relaxed);
        self.asked.store(0, Ordering::Relaxed);
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let after = after.unwrap_or(latest.count);
        let traces = latest.traces.iter().filter(|trace| trace.number > after).cloned().collect();
        (latest.count, traces)
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn steps_are_kept_only_while_a_client_follows() {
        let tracer = Tracer::default();
        assert!(tracer.steps().is_none());
        assert_eq!(tracer.follow(None), (0, Vec::new()));
        let steps = tracer.steps().expect("somebody follows");
        steps.now(TraceStep::Head);
        tokio::time::advance(Duration::from_millis(250)).await;
        steps.now(TraceStep::Written);
        steps.now(TraceStep::Route);
        tracer.add("id", Some("up.example"), &steps);
        let (latest, traces) = tracer.follow(Some(0));
        assert_eq!(latest, 1);
        let steps: Vec<_> = traces[0].steps.iter().map(|step| (&*step.name, step.seconds)).collect();
        assert_eq!(steps, [("head", 0.0), ("route", 0.25), ("written", 0.25)]);
        tokio::time::advance(LEASE + Duration::from_millis(1)).await;
        assert!(tracer.steps().is_none());
    }
}
