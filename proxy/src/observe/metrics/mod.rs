//! What is counted. Updating takes neither a lock nor memory, once an upstream has been used; only
//! a request that was not delivered takes its upstream's lock for a moment.

mod groups;
mod hidden;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use self::groups::Groups;
use super::counter::{Counter, used};
use super::deliveries::Deliveries;
use super::exposition::Exposition;
use super::funnel::Funnel;
use super::loss::Loss;
use super::losses::Losses;
use super::lost_at::LostAt;
use super::trace::Tracer;
use super::upstream::UpstreamMetrics;
use crate::http::answer::{ErrorType, Failure};
use crate::messages::Intake;
use crate::prefixes::Classifier;

pub use hidden::{HiddenSources, MANY_HIDDEN};

/// How a TLS handshake with a client ended; the labels of `hookgate_tls_handshakes_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Completed,
    TimedOut,
    /// The client closed or reset before the end.
    Closed,
    /// The client said why it does not go on: often, that it does not believe our certificate.
    AlertReceived,
    /// The client's certificate does not hold.
    ClientCertificate,
    /// Not TLS, or nothing in common.
    Protocol,
    /// A certificate authority has looked at the answer to its challenge.
    AcmeChallenge,
}

const COMPLETED: &str = "completed";

impl Handshake {
    const ALL: [(Self, &str); 7] = [
        (Self::Completed, COMPLETED),
        (Self::TimedOut, "timed_out"),
        (Self::Closed, "closed"),
        (Self::AlertReceived, "alert_received"),
        (Self::ClientCertificate, "client_certificate"),
        (Self::Protocol, "protocol"),
        (Self::AcmeChallenge, "acme_challenge"),
    ];
}

/// Why a connection was closed before a request was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// As many connections as there may be.
    Connections,
    /// What is left is Meta's.
    ReservedForMeta,
    /// As many of this stranger's as there may be.
    PerSource,
    /// Too many strangers' TLS handshakes wait for their turn.
    Handshakes,
    /// A load balancer's PROXY header is missing or wrong.
    ProxyProtocol,
}

impl ConnectionRefusal {
    const ALL: [(Self, &str); 5] = [
        (Self::Connections, "connections"),
        (Self::ReservedForMeta, "reserved_for_meta"),
        (Self::PerSource, "per_source"),
        (Self::Handshakes, "handshakes"),
        (Self::ProxyProtocol, "proxy_protocol"),
    ];
}

/// The counts of the whole process.
#[derive(Debug)]
pub struct Metrics {
    /// By the prefix that clients come from.
    pub funnel: Funnel,
    /// The latest requests.
    pub deliveries: Deliveries,
    handshakes: [Counter; Handshake::ALL.len()],
    /// The completed ones by the group in which keys were agreed on.
    groups: Groups,
    refused_connections: [Counter; ConnectionRefusal::ALL.len()],
    refused_requests: [Counter; ErrorType::NAMES.len()],
    /// Connections and POSTs of Meta and the operator that were lost.
    lost: [Counter; LostAt::ALL.len()],
    /// The same in detail, since it was last taken.
    pub losses: Losses,
    /// Of requests that name no upstream.
    pub without_upstream: UpstreamMetrics,
    /// Bytes of bodies that went through user space.
    pub body_bytes_copied: Counter,
    pub body_bytes_spliced: Counter,
    pub hidden_sources: HiddenSources,
    pub tracer: Tracer,
    /// Where what bodies tell goes; `None`: they are not looked at.
    pub messages: Option<Arc<Intake>>,
}

impl Metrics {
    /// Errors: no memory.
    pub fn new(funnel: Funnel, messages: Option<Arc<Intake>>) -> io::Result<Self> {
        Ok(Self {
            funnel,
            deliveries: Deliveries::default(),
            handshakes: Default::default(),
            groups: Groups::default(),
            refused_connections: Default::default(),
            refused_requests: Default::default(),
            lost: Default::default(),
            losses: Losses::new()?,
            without_upstream: UpstreamMetrics::default(),
            body_bytes_copied: Counter::default(),
            body_bytes_spliced: Counter::default(),
            hidden_sources: HiddenSources::default(),
            tracer: Tracer::default(),
            messages,
        })
    }

    pub fn handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].add(1);
    }

    pub fn refused_connection(&self, why: ConnectionRefusal) {
        self.refused_connections[why as usize].add(1);
    }

    /// `group`: in which keys were agreed on; `None` where that was not necessary.
    pub fn completed_handshake(&self, group: Option<&'static str>) {
        self.handshake(Handshake::Completed);
        self.groups.count(group);
    }

    /// A connection or a POST that came from Meta or the operator.
    pub fn lost(&self, loss: Loss) {
        self.lost[loss.lost_at as usize].add(1);
        self.losses.lose(loss);
    }

    /// POSTs that a process before this one left when it was killed.
    pub fn interrupted(&self, posts: u64) {
        self.lost[LostAt::Machine as usize].add(posts);
    }

    pub(super) fn refused_request(&self, failure: Failure) {
        self.refused_requests[failure.error_type() as usize].add(1);
    }

    /// TLS handshakes with clients, by outcome, as far as there were such.
    pub fn handshakes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        used(Handshake::ALL.into_iter().map(|(_, outcome)| outcome).zip(&self.handshakes))
    }

    /// Completed ones by group, as far as there were such.
    pub fn groups(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.groups.used()
    }

    /// Connections and requests refused before an upstream was asked, by reason, as far as there
    /// were such.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let connections = ConnectionRefusal::ALL.into_iter().map(|(_, reason)| reason);
        let connections = connections.zip(&self.refused_connections);
        used(connections.chain(ErrorType::NAMES.iter().copied().zip(&self.refused_requests)))
    }

    /// Appends what has been counted; series appear at first use. `lost_attempts`: what the guard
    /// has counted as lost, by stage.
    pub fn expose(
        &self,
        classifier: &Classifier,
        lost_attempts: &[(&'static str, u64)],
        to: &mut Exposition,
    ) {
        to.family("hookgate_tls_handshakes_total", "counter", "TLS handshakes with clients, by outcome; completed ones by the group in which keys were agreed on");
        for (outcome, count) in self.handshakes().filter(|(outcome, _)| *outcome != COMPLETED) {
            to.sample(&[("reason", outcome)], count);
        }
        for (group, count) in self.groups() {
            to.sample(&[("reason", COMPLETED), ("group", group)], count);
        }
        to.family(
            "hookgate_refused_total",
            "counter",
            "Connections and requests refused before an upstream was asked",
        );
        for (reason, count) in self.refused() {
            to.sample(&[("reason", reason)], count);
        }
        to.family(
            "hookgate_lost_total",
            "counter",
            "Attempts to connect and POSTs from Meta, `allow` and loopback that were lost, by the stage at which they ended",
        );
        let mut lost: BTreeMap<&str, u64> = lost_attempts.iter().copied().collect();
        for (stage, count) in LostAt::ALL.into_iter().map(|(_, name)| name).zip(&self.lost) {
            *lost.entry(stage).or_default() += count.value();
        }
        for (stage, count) in lost.into_iter().filter(|(_, count)| *count > 0) {
            to.sample(&[("stage", stage)], count);
        }
        to.family("hookgate_body_bytes_total", "counter", "Bytes of bodies, by the way that they took");
        to.used_sample(&[("path", "copy")], &self.body_bytes_copied);
        to.used_sample(&[("path", "splice")], &self.body_bytes_spliced);
        self.funnel.expose(classifier, to);
        #[cfg(feature = "count-allocations")]
        {
            to.family(
                "hookgate_worker_allocations_total",
                "counter",
                "How often workers took memory from the heap",
            );
            to.sample(&[], crate::sys::allocations());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Cause;
    use crate::prefixes::{CounterIndex, Table};

    #[test]
    fn a_count_is_shown_under_its_own_name() {
        for (index, (outcome, _)) in Handshake::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
        }
        for (index, (why, _)) in ConnectionRefusal::ALL.iter().enumerate() {
            assert_eq!(*why as usize, index);
        }
        for (index, (stage, _)) in LostAt::ALL.iter().enumerate() {
            assert_eq!(*stage as usize, index);
        }
        let metrics = Metrics::new(Funnel::new().unwrap(), None).unwrap();
        metrics.handshake(Handshake::Closed);
        metrics.completed_handshake(Some("X25519"));
        metrics.completed_handshake(None);
        metrics.refused_connection(ConnectionRefusal::PerSource);
        metrics.refused_request(Failure::NotAllowed);
        let (lost_at, cause) = (LostAt::from(Failure::TlsAlert), Cause::from(Failure::TlsAlert));
        metrics.lost(Loss { counter: CounterIndex::OTHER, upstream: None, lost_at, cause });
        let mut exposition = Exposition::default();
        let attempts = [("outbound", 3), ("machine", 0)];
        metrics.expose(&Classifier::new(Table::default(), Vec::new()), &attempts, &mut exposition);
        let text = exposition.into_text();
        for line in [
            "hookgate_tls_handshakes_total{reason=\"closed\"} 1\n",
            "hookgate_tls_handshakes_total{reason=\"completed\",group=\"X25519\"} 1\n",
            "hookgate_tls_handshakes_total{reason=\"completed\",group=\"none\"} 1\n",
            "hookgate_refused_total{reason=\"per_source\"} 1\n",
            "hookgate_refused_total{reason=\"http_request_denied\"} 1\n",
            "hookgate_lost_total{stage=\"upstream_tls\"} 1\n",
            "hookgate_lost_total{stage=\"outbound\"} 3\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("MLKEM"), "series appear at first use: {text}");
    }
}
