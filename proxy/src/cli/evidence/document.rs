use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::guard::KernelCounters;
use crate::insight::Report;
use crate::messages::{NumberRow, ProductRow};
use crate::stats::{Guard, Prefix, Seen};

/// `hookgate evidence --json`, version 1: fields are added, never renamed or removed. Of an
/// upstream it has name and ids only where [`Document::upstream`] is that one.
#[derive(Debug, Serialize)]
pub struct Document {
    pub version: u32,
    #[serde(rename = "for")]
    pub reader: Reader,
    /// Which hookgate wrote it.
    pub hookgate: String,
    /// RFC 3339 in UTC, as all times.
    pub taken: String,
    /// The window: whole minutes.
    pub from: String,
    pub to: String,
    pub source: Source,
    /// Null: the kernel does not say.
    pub clock_synchronised: Option<bool>,
    pub listeners: Vec<Listener>,
    /// The machine's addresses, where a listener has none of its own: global unicast ones, or where
    /// there are none, all except loopback and link-local ones.
    pub interfaces: Vec<Interface>,
    /// Those of the certificates.
    pub names: Vec<Name>,
    pub guard: Option<Guard>,
    /// What was counted in the window; null: nothing is known of it.
    pub window: Option<Counted>,
    /// What was counted since the guard was attached; null: it is not.
    pub since_attach: Option<Counted>,
    /// Where messages were lost, all upstreams together.
    pub lost: Report,
    /// With `--upstream`.
    pub upstream: Option<Upstream>,
    /// With `--for meta`, of that upstream or of all.
    pub messages: Option<Messages>,
    /// With `--for meta`, likewise; null while hookgate is down.
    pub answers: Option<Answers>,
    /// What could not be told, and why.
    pub unavailable: Vec<String>,
}

/// The reader that the file has to convince.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// The network's or the machine's provider
    Provider,
    /// Meta's support
    Meta,
}

/// Where the figures are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The running proxy.
    Proxy,
    /// What it has left on disk, and the guard's pinned maps.
    Files,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub address: String,
    pub protocol: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    pub name: String,
    pub addresses: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Name {
    pub name: String,
    /// What the DNS gave when this was written.
    pub addresses: Vec<String>,
    /// Why there is none.
    pub error: Option<String>,
}

/// As in `hookgate stats --json`: what something came from, or failed of.
#[derive(Debug, Serialize)]
pub struct Counted {
    pub from: Option<String>,
    pub prefixes: Vec<Prefix>,
    /// The /24s and /48s; empty in a window.
    pub networks: Vec<Seen>,
    pub kernel: Option<KernelCounters>,
}

#[derive(Debug, Serialize)]
pub struct Upstream {
    pub host: String,
    /// Of its requests and events in the window.
    pub lost: Option<Report>,
    /// Its telephone numbers', pages' and accounts' ids.
    pub numbers: Vec<NumberRow>,
}

/// What Meta's messages themselves tell.
#[derive(Debug, Serialize)]
pub struct Messages {
    pub window: MessagesWindow,
    /// Since the ledger began, delays of the last 24 hours; null while hookgate is down.
    pub products: Option<Vec<ProductRow>>,
}

/// Counts of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MessagesWindow {
    pub events: u64,
    /// The mean, where it is known.
    pub lag_seconds: Option<f64>,
    /// How many events that is the mean of.
    pub lagged: u64,
    pub delivered: u64,
    pub recovered: u64,
    pub lost: u64,
    pub unknown: u64,
    pub duplicate: u64,
    pub chains_complete: u64,
    pub chains_sent_missing: u64,
}

/// Requests of all clients, by the status that they were answered with.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answers {
    /// When the proxy was started, since when it counts.
    pub since: String,
    pub codes: BTreeMap<String, u64>,
    /// How many upstreams with few requests are left out.
    pub upstreams_left_out: usize,
}

impl Document {
    pub const VERSION: u32 = 1;
}
