//! The configuration as meant: every value checked, every default filled in.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::prefixes::Network;

mod acme;
mod attributes;
mod body_limit;
mod checked_text;
mod dns;
mod document;
pub mod edit;
mod files;
mod host_lines;
mod key;
mod lines;
mod nearest;
mod places;
mod prefixes;
#[cfg(test)]
mod reference;
mod replace;
mod sections;
#[cfg(test)]
mod tests;
mod upstream;
mod upstream_names;
mod upstreams;
mod value;

pub use acme::{Acme, Challenge, contact_domain};
pub use body_limit::BodyLimit;
pub use checked_text::{HostName, HttpsUrl, PinName, Token};
pub use dns::{Dns, DnsServer, DnsServers};
pub use document::{Problem, Severity};
pub use files::{Files, Reading, files};
pub use key::Key;
pub use lines::Place;
pub use places::Places;
pub use prefixes::{PrefixSource, Prefixes, Registry, RegistryHost};
pub use replace::{CannotReplace, EditLock};
pub use upstream::{Upstream, UpstreamSettings};

/// Where the configuration lies unless `--config` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/hookgate/hookgate.toml";

/// A whole configuration. Sections that may be left out are `None` when they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub listen: Listen,
    /// There also when certificates come from [`Acme`] alone.
    pub tls: Option<Tls>,
    /// Of `[tls]`; there also when that is left out, for upstreams.
    pub ktls: Ktls,
    pub acme: Option<Acme>,
    pub dns: Dns,
    #[serde(with = "upstream::rows")]
    pub upstreams: Vec<Upstream>,
    pub relay: Relay,
    /// Of `[guard]`; there also when that is left out, for Meta's share of the connections.
    pub prefixes: Prefixes,
    pub guard: Option<Guard>,
    pub insight: Insight,
    pub admin: Option<Admin>,
    pub process: Process,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub log: Log,
}

impl Config {
    /// Reads `path` and the `upstreams.d/*.toml` beside it.
    ///
    /// Errors: every problem that was found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Files::read(path).config()
    }

    /// Where the operator is answered over TCP.
    pub fn admin_listen(&self) -> Option<SocketAddr> {
        self.admin.as_ref()?.listen
    }

    /// Names by which it may be asked there, beside addresses and `localhost`.
    pub fn admin_hosts(&self) -> &[HostName] {
        self.admin.as_ref().map_or(&[], |admin| &admin.hosts)
    }

    /// Where the command line talks to the proxy.
    pub fn admin_socket(&self) -> Option<&Path> {
        self.admin.as_ref()?.socket.as_deref()
    }

    /// What holds where there is no file: every default, no upstream and no listener.
    pub fn absent() -> Self {
        sections::meaning(Path::new(DEFAULT_PATH), "").config
    }

    /// Reads `text` as if it lay in `file`, and nothing beside it.
    ///
    /// Errors: every problem that was found.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let sections::Meaning { config, problems, .. } = sections::meaning(file, text);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }
}

/// Why there is no configuration: never empty.
#[derive(Debug)]
pub struct ConfigError(pub Vec<Problem>);

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// `[guard]`: the XDP program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    pub interfaces: Interfaces,
    /// Only TCP to these ports is looked at.
    pub ports: Vec<u16>,
    pub mode: Mode,
    /// For [`Mode::Limit`].
    pub limit: Limit,
    /// Networks treated like Meta's.
    pub allow: Vec<Network>,
    pub xdp: XdpMode,
    /// The folder under `/sys/fs/bpf`.
    pub pin: PinName,
}

impl Guard {
    /// Whether the program is to run at all: without interfaces only prefixes and `allow` count.
    pub fn is_attached(&self) -> bool {
        self.interfaces != Interfaces::Listed(Vec::new())
    }
}

/// Where packets come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interfaces {
    /// Those of the default routes, as they change.
    DefaultRoutes,
    Listed(Vec<String>),
}

/// How many connections one stranger (an IPv4 address or an IPv6 /64) may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// In the long run.
    pub syn_per_second: u64,
    /// At once.
    pub burst: u64,
}

/// What happens to sources outside Meta's prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Observe,
    Limit,
    Strict,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Limit => "limit",
            Self::Strict => "strict",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XdpMode {
    Auto,
    Native,
    Tc,
    Generic,
}

impl XdpMode {
    /// Whether the guard may be on an interface whose frames have no Ethernet header, as tc can.
    pub fn takes_bare_frames(self) -> bool {
        matches!(self, Self::Auto | Self::Tc)
    }
}

/// `[listen]`: where clients come in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    pub https: Vec<SocketAddr>,
    /// Leads clients to https.
    pub http: Vec<SocketAddr>,
    pub plain: Vec<SocketAddr>,
    pub plain_scheme: Scheme,
    /// Networks that must send a PROXY header and are believed.
    pub proxy_protocol_from: Vec<Network>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// `[tls]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tls {
    /// The first is for clients that name no server; empty only where [`Acme`] gets certificates.
    pub pairs: Vec<Pair>,
    /// PEM file with the roots of client certificates; with it, clients are asked for one.
    pub client_ca: Option<PathBuf>,
    /// PEM file with lists of what the authorities of client certificates have revoked.
    pub client_crl: Option<PathBuf>,
    /// The names that a client certificate may have; empty: any.
    pub client_names: Vec<String>,
}

/// Whether the kernel encrypts and decrypts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ktls {
    /// What belongs to long bodies, where it can.
    #[default]
    Auto,
    /// Everything after the handshakes, where it can.
    Always,
    Off,
}

/// A certificate chain and its key, PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `[insight]`: what is remembered of what passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Insight {
    /// The folder of the history and the ledger.
    pub state: PathBuf,
    /// Whether the bodies of Meta's POSTs are looked at while they pass.
    pub messages: bool,
    /// How many events are kept.
    pub ledger: usize,
}

/// `[relay]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relay {
    /// This proxy's name in Via and Proxy-Status.
    pub name: Token,
}

/// `[admin]`: for the operator alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Admin {
    pub listen: Option<SocketAddr>,
    /// Names by which `listen` may be asked, beside addresses and `localhost`.
    pub hosts: Vec<HostName>,
    /// Where the command line talks to the proxy.
    pub socket: Option<PathBuf>,
}

/// `[process]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// The user that the worker runs as.
    pub user: Option<String>,
    /// Reload when the configuration's files change.
    pub watch: bool,
    pub confine: Confine,
}

/// What a start does on a kernel that lacks Landlock or seccomp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confine {
    /// It serves with the other one, and logs what is missing.
    #[default]
    Auto,
    /// It fails.
    Required,
}

/// `[timeouts]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timeouts {
    pub request_head: Duration,
    pub body_idle: Duration,
    pub connect: Duration,
    pub response: Duration,
    pub keepalive: Duration,
    pub upstream_idle: Duration,
    pub drain: Duration,
}

/// `[limits]`, in bytes unless said otherwise, inclusive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub head_bytes: usize,
    pub uri_bytes: usize,
    /// Field lines in a head.
    pub headers: usize,
    pub response_head_bytes: usize,
    pub body_bytes: BodyLimit,
    /// Client connections; `None`: as many as memory and descriptors allow.
    pub connections: Option<usize>,
    /// The share of them that only Meta's prefixes can use, from 0 to 1.
    pub reserved_for_meta: f64,
    /// One stranger's connections; `None`: a quarter of what strangers may use.
    pub per_source: Option<usize>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Log {
    pub format: LogFormat,
    pub access: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    Text,
    Json,
}
