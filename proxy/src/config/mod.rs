//! The configuration as meant: every value checked, every default filled in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::prefixes::Network;

/// A whole configuration. Sections that may be left out are `None` when they are.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Listen,
    pub tls: Option<Tls>,
    pub dns: Dns,
    pub upstreams: Vec<Upstream>,
    pub relay: Relay,
    pub guard: Option<Guard>,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub log: Log,
}

/// `[guard]`: the XDP program.
#[derive(Clone, Debug)]
pub struct Guard {
    pub interfaces: Vec<String>,
    /// Only TCP to these ports is looked at.
    pub ports: Vec<u16>,
    pub mode: Mode,
    /// Networks treated like Meta's.
    pub allow: Vec<Network>,
    pub xdp: XdpMode,
    /// Where Meta's prefixes come from.
    pub prefixes: PrefixSource,
    /// The folder under `/sys/fs/bpf`.
    pub pin: String,
}

/// What happens to sources outside Meta's prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Observe,
    Limit,
    Strict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    Auto,
    Native,
    Generic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixSource {
    Builtin,
    File(PathBuf),
}

/// `[listen]`: where clients come in.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    pub https: Vec<SocketAddr>,
    pub plain: Vec<SocketAddr>,
    pub plain_scheme: Scheme,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

/// `[tls]`: certificate chain and key files, PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `[dns]`.
#[derive(Clone, Debug)]
pub struct Dns {
    pub servers: DnsServers,
    pub timeout: Duration,
    /// The longest a record is kept, whatever its TTL says.
    pub valid: Duration,
    /// How long an expired record still serves when no server answers.
    pub stale: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsServers {
    /// `/etc/resolv.conf`.
    System,
    These(Vec<SocketAddr>),
}

/// One entry of `[upstreams]`.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Lower case.
    pub name: String,
    pub address: Option<SocketAddr>,
    pub port: Option<u16>,
    pub tls: bool,
    pub ca: Option<PathBuf>,
    pub allow_private: bool,
}

/// `[relay]`.
#[derive(Clone, Debug)]
pub struct Relay {
    /// This proxy's name in Via and Proxy-Status, a token (RFC 9110 §5.6.2).
    pub name: String,
}

/// `[timeouts]`.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub struct Limits {
    pub head_bytes: usize,
    pub uri_bytes: usize,
    /// Field lines in a head.
    pub headers: usize,
    pub response_head_bytes: usize,
    /// 0: no limit.
    pub body_bytes: u64,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    pub format: LogFormat,
    pub access: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}
