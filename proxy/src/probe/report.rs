//! What was found on the way. It is what `hookgate probe --json` prints, version 1.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::observe::clock;
use crate::tls::Link;

/// A way that was gone.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    version: u32,
    pub host: String,
    /// `None`: not asked, or without an answer.
    pub dns: Option<Names>,
    /// In the order in which requests would try them.
    pub tcp: Vec<Attempt>,
    /// `None`: without TLS, or it did not come to that.
    pub tls: Option<Tls>,
    pub http: Option<Request>,
    /// `None`: not tried, because an earlier step failed or a second connection did not come about.
    pub packets: Option<Packets>,
    /// Where the way ends, if it does.
    pub failure: Option<Failure>,
}

impl Report {
    pub(super) fn new(host: &str) -> Self {
        Self {
            version: 1,
            host: host.into(),
            dns: None,
            tcp: Vec::new(),
            tls: None,
            http: None,
            packets: None,
            failure: None,
        }
    }
}

/// The step that failed, why, and what to do next.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// `DNS`, `TCP`, `TLS`, `HTTP` or `MTU`.
    pub step: &'static str,
    pub error: String,
    pub next: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Names {
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub took: Duration,
    pub addresses: Vec<Name>,
}

/// One address that the name has.
#[derive(Clone, Debug, Serialize)]
pub struct Name {
    pub address: IpAddr,
    pub ttl_seconds: u64,
    /// Why requests don't go there.
    pub left_out: Option<&'static str>,
}

/// One address that was connected to.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    pub address: SocketAddr,
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub took: Duration,
    pub error: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Tls {
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub took: Duration,
    /// What was agreed on; `None` when it did not come to that.
    pub protocol: Option<String>,
    pub suite: Option<String>,
    /// In which keys were agreed on.
    pub group: Option<&'static str>,
    /// `verified`, `off`, or why not.
    pub verification: String,
    /// As shown, the server's own first.
    pub chain: Vec<Certificate>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    pub names: Vec<String>,
    /// RFC 3339.
    pub not_before: String,
    pub not_after: String,
    /// Negative when it has expired.
    pub days_left: i64,
    #[serde(skip)]
    pub is_self_signed: bool,
}

impl From<Link> for Certificate {
    fn from(link: Link) -> Self {
        const DAY: i64 = 24 * 3600;
        let left = link.not_after.saturating_sub(clock::now().as_second());
        Self {
            not_before: clock::date(link.not_before),
            not_after: clock::date(link.not_after),
            days_left: left.div_euclid(DAY),
            subject: link.subject,
            issuer: link.issuer,
            names: link.names,
            is_self_signed: link.is_self_signed,
        }
    }
}

/// `GET /`. Any status shows that the way is open.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub took: Duration,
    pub status: u16,
}

/// A second `GET /`, whose head fills several packets.
#[derive(Clone, Debug, Serialize)]
pub struct Packets {
    #[serde(rename = "duration_seconds", serialize_with = "seconds")]
    pub took: Duration,
    pub head_bytes: usize,
    /// The upstream's kernel has acknowledged all of it.
    pub acknowledged: bool,
    /// The answer's; `None` without one.
    pub status: Option<u16>,
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}
