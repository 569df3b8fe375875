use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Mode;
use crate::guard::{
    self, AttemptClass, Delays, DroppedBy, FailedBy, KernelCounters, KernelDrops, Percentiles, Suspect,
    Unproven,
};
use crate::observe::{self, clock};
use crate::prefixes::Network;

/// `hookgate stats --json`, version 1: fields are added, never renamed or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub version: u32,
    /// RFC 3339 in UTC.
    pub taken: String,
    /// Of the window that was asked for; absent: since the attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    pub guard: Guard,
    /// Every prefix in force, IPv4 first, by address.
    pub prefixes: Vec<Prefix>,
    /// All the rest of the world.
    pub other: Counts,
    /// The /24s and /48s of Meta's that were actually seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Vec<Seen>>,
    /// Requests that look like Meta's, whose source address was rewritten; absent where there were
    /// none, or no proxy tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_sources: Option<HiddenSources>,
    /// Clients' TLS handshakes since the proxy started, by the group in which keys were agreed on;
    /// absent where no proxy tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_groups: Option<BTreeMap<String, u64>>,
    /// Of all connections of the network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelCounters>,
}

/// Signed requests from private addresses of strangers, since the proxy started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiddenSources {
    pub requests: u64,
    /// Of the first of them.
    pub source: IpAddr,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    pub state: State,
    pub mode: Mode,
    /// When counting began, RFC 3339 in UTC; `None` unless attached.
    pub since: Option<String>,
    pub interfaces: Vec<Interface>,
    /// Why handshakes are not counted, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshakes_uncounted: Option<String>,
    /// Why failed handshakes are not classified, where they are counted and are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures_unclassified: Option<String>,
    /// Why packets that the kernel drops are not counted, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_drops_uncounted: Option<String>,
    /// The classes whose attempts are not all followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sampled: Vec<Sampled>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    pub class: AttemptClass,
    pub share: f64,
    /// RFC 3339 in UTC.
    pub since: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Attached,
    Detached,
    /// This kernel, or this binary, cannot run the program.
    Unsupported,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    /// `native` or `generic`.
    pub xdp: String,
    /// Why `auto` found no better mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prefix {
    pub prefix: Network,
    #[serde(flatten)]
    pub counts: Counts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    pub network: Network,
    /// The longest prefix in force that holds it.
    pub prefix: Option<Network>,
    /// Whether a handshake was completed from there.
    #[serde(default)]
    pub proven: bool,
    #[serde(flatten)]
    pub counts: Counts,
}

/// Totals of one row. What is not counted is absent, never 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub packets: u64,
    /// Whole frames, as XDP sees them.
    pub bytes: u64,
    /// SYNs without ACK, retransmitted ones included.
    pub syns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syns_retransmitted: Option<u64>,
    /// Completed, as the kernel's TCP sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<u64>,
    /// Reset before that, or not completed 10 s after the last SYN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshakes_failed: Option<u64>,
    /// The same, by the first reason that applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_by: Option<FailedBy>,
    /// Of these, those that prove nothing: their addresses may be forged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven: Option<Unproven>,
    /// Likewise, those whose addresses are probably forged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<Suspect>,
    /// From the SYN-ACK to the ACK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_seconds: Option<Percentiles>,
    /// From the first SYN to the completed handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established_seconds: Option<Percentiles>,
    /// What this machine had to send again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments_retransmitted: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtos: Option<u64>,
    /// Packets of a prefix, to and from it, that the kernel dropped, by its own reasons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_drops: Option<KernelDrops>,
    /// SYNs whose handshake could not be followed: too many were under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untracked: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fins: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rsts: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Of `other` alone: by reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_by: Option<DroppedBy>,
    /// RFC 3339 in UTC, exact to some milliseconds.
    pub last_seen: Option<String>,
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub funnel: Option<Funnel>,
}

/// User space's part, for the client's address, after a believed PROXY header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funnel {
    pub accepted: u64,
    pub tls: u64,
    pub tls_failed: u64,
    pub requests: u64,
    /// The upstream answered 200, and the client has all of it.
    pub delivered: u64,
    /// Answered by hookgate, before an upstream was asked.
    pub refused: u64,
    pub failed: u64,
}

impl From<&guard::Sampled> for Sampled {
    fn from(sampled: &guard::Sampled) -> Self {
        let guard::Sampled { class, share, since } = *sampled;
        Self { class, share, since: clock::rfc3339(since) }
    }
}

impl Document {
    pub const VERSION: u32 = 1;

    pub fn attached(stats: &guard::Stats) -> Self {
        let interfaces = stats.interfaces.iter().map(|interface| Interface {
            name: interface.name.clone(),
            xdp: interface.xdp.to_string(),
            reason: interface.reason.clone(),
        });
        let prefixes = stats.prefixes.iter();
        Self {
            version: Self::VERSION,
            taken: clock::rfc3339(stats.taken),
            from: None,
            to: None,
            guard: Guard {
                state: State::Attached,
                mode: stats.mode,
                since: Some(clock::rfc3339(stats.since)),
                interfaces: interfaces.collect(),
                handshakes_uncounted: stats.handshakes_uncounted.clone(),
                failures_unclassified: stats.answers_unseen.clone(),
                kernel_drops_uncounted: stats.drops_uncounted.clone(),
                sampled: stats.sampled.iter().map(Sampled::from).collect(),
            },
            prefixes: prefixes
                .map(|(prefix, counts)| {
                    let drops =
                        |by_prefix: &BTreeMap<_, _>| by_prefix.get(prefix).cloned().unwrap_or_default();
                    let kernel_drops = stats.kernel_drops.as_ref().map(drops);
                    Prefix { prefix: *prefix, counts: Counts { kernel_drops, ..counts.into() } }
                })
                .collect(),
            other: Counts {
                dropped_by: Some(stats.dropped_by),
                ..Counts::from(&stats.other).without_doubts()
            },
            seen: Some(stats.seen.iter().map(Seen::from).collect()),
            hidden_sources: None,
            tls_groups: None,
            kernel: None,
        }
    }

    /// The same shape, so that a reader needs no second way to look at it.
    pub fn without_guard(taken: Timestamp, mode: Mode, prefixes: impl IntoIterator<Item = Network>) -> Self {
        let counts = Counts::from(&guard::Counts {
            syns_retransmitted: Some(0),
            handshakes: Some(0),
            handshakes_failed: Some(0),
            failed_by: Some(FailedBy::default()),
            unproven: Some(Unproven::default()),
            suspect: Some(Suspect::default()),
            round_trip: Some(Delays::default()),
            established: Some(Delays::default()),
            segments_retransmitted: Some(0),
            timeouts: Some(0),
            ..guard::Counts::default()
        });
        let nothing = Counts { kernel_drops: Some(KernelDrops::new()), ..counts.clone() };
        let state = if guard::ensure_supported().is_ok() { State::Detached } else { State::Unsupported };
        Self {
            version: Self::VERSION,
            taken: clock::rfc3339(taken),
            from: None,
            to: None,
            guard: Guard {
                state,
                mode,
                since: None,
                interfaces: Vec::new(),
                handshakes_uncounted: None,
                failures_unclassified: None,
                kernel_drops_uncounted: None,
                sampled: Vec::new(),
            },
            prefixes: prefixes.into_iter().map(|prefix| Prefix { prefix, counts: nothing.clone() }).collect(),
            other: Counts { dropped_by: Some(DroppedBy::default()), ..counts.without_doubts() },
            seen: Some(Vec::new()),
            hidden_sources: None,
            tls_groups: None,
            kernel: None,
        }
    }
}

impl Document {
    /// Puts in what a proxy without a guard has counted, as [`observe::Funnel::counts`] returns it.
    pub fn add_funnel(
        &mut self,
        (by_prefix, other): &(Vec<(Network, observe::FunnelCounts)>, observe::FunnelCounts),
    ) {
        let by_prefix: HashMap<&Network, &observe::FunnelCounts> =
            by_prefix.iter().map(|(network, counts)| (network, counts)).collect();
        for row in &mut self.prefixes {
            row.counts.funnel = by_prefix.get(&row.prefix).map(|counts| Funnel::from(**counts));
        }
        self.other.funnel = Some((*other).into());
    }
}

impl From<observe::FunnelCounts> for Funnel {
    fn from(counts: observe::FunnelCounts) -> Self {
        let [accepted, tls, tls_failed, requests, delivered, refused, failed] = counts;
        Self { accepted, tls, tls_failed, requests, delivered, refused, failed }
    }
}

impl Guard {
    /// One line: whether the guard runs, and where.
    pub fn describe(&self) -> String {
        let in_words = |i: &Interface| guard::interface_in_words(&i.name, &i.xdp, i.reason.as_deref());
        let interfaces = self.interfaces.iter().map(in_words);
        let interfaces = interfaces.collect::<Vec<_>>().join(", ");
        match (self.state, &self.since) {
            (State::Attached, Some(since)) => {
                let without = match (&self.handshakes_uncounted, &self.failures_unclassified) {
                    (Some(why), _) => format!("; handshakes are not counted: {why}"),
                    (None, Some(why)) => format!("; failed handshakes are not classified: {why}"),
                    (None, None) => String::new(),
                };
                format!("attached to {interfaces}, mode {}, counting since {since}{without}", self.mode)
            }
            (State::Attached | State::Detached, _) => "detached: packets are not counted".into(),
            (State::Unsupported, _) => match guard::ensure_supported() {
                Ok(()) => "unsupported".into(),
                Err(error) => format!("unsupported: {error}"),
            },
        }
    }
}

impl Counts {
    /// Of all other addresses: which of their networks complete handshakes is not kept.
    pub(super) fn without_doubts(self) -> Self {
        Self { unproven: None, suspect: None, ..self }
    }
}

impl From<&guard::Counts> for Counts {
    fn from(counts: &guard::Counts) -> Self {
        Self {
            packets: counts.packets,
            bytes: counts.bytes,
            syns: counts.syns,
            syns_retransmitted: counts.syns_retransmitted,
            handshakes: counts.handshakes,
            handshakes_failed: counts.handshakes_failed,
            failed_by: counts.failed_by,
            unproven: counts.unproven,
            suspect: counts.suspect,
            rtt_seconds: counts.round_trip.as_ref().map(Delays::percentiles),
            established_seconds: counts.established.as_ref().map(Delays::percentiles),
            segments_retransmitted: counts.segments_retransmitted,
            rtos: counts.timeouts,
            kernel_drops: None,
            untracked: Some(counts.untracked),
            fins: Some(counts.fins),
            rsts: Some(counts.rsts),
            dropped: Some(counts.dropped),
            dropped_by: None,
            last_seen: counts.last_seen.map(clock::rfc3339),
            funnel: Some(counts.funnel.into()),
        }
    }
}

impl From<&guard::Sender> for Seen {
    fn from(sender: &guard::Sender) -> Self {
        // The proxy counts by prefix alone.
        let counts = Counts { funnel: None, ..(&sender.counts).into() };
        Self { network: sender.network, prefix: sender.prefix, proven: sender.is_proven, counts }
    }
}

/// A step of the way from a SYN to a delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub name: &'static str,
    /// `None`: not counted.
    pub count: Option<u64>,
    /// What it is a share of.
    pub of: Option<u64>,
    /// Whether it is one that did not get further.
    pub is_loss: bool,
}

impl Counts {
    pub fn is_used(&self) -> bool {
        self.packets > 0 || self.funnel.is_some_and(|funnel| funnel.accepted + funnel.requests > 0)
    }

    /// Connections that were attempted: every SYN that is not a repeated one.
    pub fn opened(&self) -> Option<u64> {
        Some(self.syns.saturating_sub(self.syns_retransmitted?))
    }

    /// The way, in order.
    pub fn steps(&self) -> [Step; 13] {
        let step = |name, count, of| Step { name, count, of, is_loss: false };
        let loss = |name, count, of| Step { name, count, of, is_loss: true };
        let funnel = |of: fn(&Funnel) -> u64| self.funnel.as_ref().map(of);
        let (accepted, requests) = (funnel(|f| f.accepted), funnel(|f| f.requests));
        [
            step("SYNs", Some(self.syns), None),
            loss("retransmitted", self.syns_retransmitted, Some(self.syns)),
            loss("not followed", self.untracked, Some(self.syns)),
            loss("dropped by the guard", self.dropped, Some(self.packets)),
            step("handshakes", self.handshakes, self.opened()),
            loss("never completed", self.handshakes_failed, self.opened()),
            step("accepted", accepted, self.handshakes),
            step("TLS", funnel(|f| f.tls), accepted),
            loss("TLS failed", funnel(|f| f.tls_failed), accepted),
            step("requests", requests, None),
            step("delivered", funnel(|f| f.delivered), requests),
            loss("refused", funnel(|f| f.refused), requests),
            loss("failed", funnel(|f| f.failed), requests),
        ]
    }
}
