use std::fmt;

use serde::{Deserialize, Serialize};

use crate::observe::LostAt;

/// The stages of a message's way, in order. As in `hookgate lost --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Never sent, or late before it left Meta.
    Meta,
    /// Lost before this machine: a SYN-ACK left and nothing came after it, or a message's first
    /// status did not come.
    Inbound,
    /// A packet reached this machine and no socket took it, or hookgate ended during a request.
    Machine,
    /// The answer to a SYN did not reach the client.
    Outbound,
    Tls,
    /// Refused here.
    Request,
    Dns,
    Connect,
    UpstreamTls,
    Upstream,
    Client,
    /// Answered 200, and possibly lost behind it.
    After,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// To connect. SYNs with the same address, port and sequence number are one.
    Attempts,
    /// Requests that may carry messages, from Meta, `allow` and loopback.
    Posts,
    /// What messages tell.
    Events,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Inbound => "inbound",
            Self::Machine => "machine",
            Self::Outbound => "outbound",
            Self::Tls => "tls",
            Self::Request => "request",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::UpstreamTls => "upstream_tls",
            Self::Upstream => "upstream",
            Self::Client => "client",
            Self::After => "after",
        }
    }
}

impl Unit {
    pub fn name(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Posts => "posts",
            Self::Events => "events",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<LostAt> for Stage {
    fn from(lost_at: LostAt) -> Self {
        match lost_at {
            LostAt::Machine => Self::Machine,
            LostAt::Tls => Self::Tls,
            LostAt::Request => Self::Request,
            LostAt::Dns => Self::Dns,
            LostAt::Connect => Self::Connect,
            LostAt::UpstreamTls => Self::UpstreamTls,
            LostAt::Upstream => Self::Upstream,
            LostAt::Client => Self::Client,
        }
    }
}
