use std::collections::BTreeMap;

use serde::Serialize;

use crate::messages::Document as Messages;
use crate::observe::Delivery;
use crate::stats;

/// `/status.json`, version 1: fields are added, never renamed or removed. Times are RFC 3339 in
/// UTC.
#[derive(Debug, Serialize)]
pub struct Document {
    pub version: u32,
    pub taken: String,
    /// Which hookgate this is.
    pub hookgate: String,
    /// `[relay] name`.
    pub name: String,
    /// When it was started.
    pub since: String,
    pub ready: bool,
    /// What `/ready` says, where it is not.
    pub reasons: Vec<String>,
    pub listeners: Vec<Listener>,
    pub connections: Connections,
    pub guard: stats::Guard,
    pub funnel: Funnel,
    /// TLS handshakes with clients, by outcome.
    pub tls_handshakes: BTreeMap<&'static str, u64>,
    /// The completed ones by the group in which keys were agreed on.
    pub tls_groups: BTreeMap<&'static str, u64>,
    /// Connections and requests that no upstream was asked for, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    pub upstreams: Upstreams,
    pub certificates: Vec<Certificate>,
    /// Null where certificates come from files alone.
    pub acme: Option<Acme>,
    /// Null where no upstream needs it.
    pub dns: Option<Dns>,
    /// Requests that were not delivered, the newest first.
    pub failures: Vec<Delivery>,
    pub configuration: Configuration,
    pub limits: Limits,
    pub timeouts: Timeouts,
    /// As in `messages --json`; null where bodies are not looked at.
    pub messages: Option<Messages>,
}

impl Document {
    pub const VERSION: u32 = 1;
}

#[derive(Debug, Serialize)]
pub struct Listener {
    pub address: String,
    pub protocol: String,
}

/// Client connections at the moment, and how many there may be.
#[derive(Debug, Serialize)]
pub struct Connections {
    #[serde(flatten)]
    pub by_class: BTreeMap<&'static str, usize>,
    pub most: usize,
    pub most_of_strangers: usize,
    pub most_per_source: usize,
}

/// As in `stats --json`.
#[derive(Debug, Serialize)]
pub struct Funnel {
    /// All of Meta's prefixes together.
    pub meta: stats::Counts,
    pub other: stats::Counts,
    /// Those from which something came, those with the most packets and requests first.
    pub prefixes: Vec<stats::Prefix>,
    /// How many more there are of those.
    pub unlisted: usize,
    pub in_force: usize,
}

#[derive(Debug, Serialize)]
pub struct Upstreams {
    pub configured: usize,
    /// How many of them were sent a request.
    pub used: usize,
    pub in_flight: usize,
    /// Of those used: the ones that failed lately first, then those with the most requests.
    pub list: Vec<Upstream>,
    /// How many more were used.
    pub unlisted: usize,
}

#[derive(Debug, Serialize)]
pub struct Upstream {
    pub upstream: String,
    pub in_flight: usize,
    pub most_in_flight: usize,
    pub requests: u64,
    pub delivered: u64,
    /// Requests by what the client was answered; `other`: not in full.
    pub codes: BTreeMap<String, u64>,
    /// Those that the upstream was asked for in vain, by type.
    pub errors: BTreeMap<&'static str, u64>,
    pub latest_failure: Option<LatestFailure>,
    pub p50_seconds: Option<f64>,
    pub p99_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct LatestFailure {
    pub time: String,
    pub code: Option<u16>,
    pub error: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub struct Certificate {
    pub names: Vec<String>,
    pub source: Source,
    pub not_before: String,
    pub not_after: String,
    pub self_signed: bool,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Files,
    /// `[acme]`.
    Authority,
    /// Stands in until an authority gives one.
    Placeholder,
}

#[derive(Debug, Serialize)]
pub struct Acme {
    pub domains: Vec<String>,
    pub directory: String,
    /// When the authority is asked next; null: it is being asked.
    pub next_attempt: Option<String>,
    /// Why it gave none the last time; null: it did.
    pub failure: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Dns {
    pub servers: Vec<String>,
    pub last_answer: Option<String>,
    /// Since when none answers; null: one does, as far as is known.
    pub silent_since: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Configuration {
    pub file: String,
    /// Null: there was none since the start.
    pub reload: Option<Reload>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Reload {
    pub time: String,
    /// False: what was in force before still is.
    pub done: bool,
    /// What changed, or why nothing did; a line each.
    pub text: String,
}

/// `[limits]` in force; 0 for none.
#[derive(Debug, Serialize)]
pub struct Limits {
    pub head_bytes: usize,
    pub uri_bytes: usize,
    pub headers: usize,
    pub response_head_bytes: usize,
    pub body_bytes: u64,
}

/// `[timeouts]` in force, in seconds.
#[derive(Debug, Serialize)]
pub struct Timeouts {
    pub request_head: f64,
    pub body_idle: f64,
    pub connect: f64,
    pub response: f64,
    pub keepalive: f64,
    pub upstream_idle: f64,
    pub drain: f64,
}
