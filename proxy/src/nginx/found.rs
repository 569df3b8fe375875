//! What an nginx configuration was found to mean, in hookgate's words.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::syntax::{Directive, Place};

/// As far as it can be said in a `hookgate.toml`.
#[derive(Debug, Default)]
pub struct Found {
    pub https: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub plain: Vec<SocketAddr>,
    /// Whom the client's address is believed from.
    pub real_ip_from: Vec<String>,
    /// Those of the listeners at which that comes in a PROXY header.
    pub with_proxy_header: Vec<SocketAddr>,
    /// Certificate and key.
    pub pairs: Vec<(String, String)>,
    pub client_ca: Option<String>,
    /// Where certbot's answers to challenges lie.
    pub webroot: Option<String>,
    pub resolvers: Vec<String>,
    /// Names of durations, as in `[timeouts]` and `[dns]`, in milliseconds.
    pub dns: BTreeMap<&'static str, u64>,
    pub timeouts: BTreeMap<&'static str, u64>,
    /// Names of numbers, as in `[limits]`.
    pub limits: BTreeMap<&'static str, u64>,
    pub without_access_log: bool,
    /// The names that clients call the relay by.
    pub names: Vec<String>,
    /// By host.
    pub upstreams: BTreeMap<String, Keys>,
    /// What all upstreams have in common.
    pub common: Keys,
    pub notes: Vec<Note>,
}

/// Keys of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub address: Option<SocketAddr>,
    pub no_tls: bool,
    pub port: Option<u16>,
    pub ca: Option<String>,
    pub require_client_cert: bool,
}

/// Something that was not carried over.
#[derive(Debug, PartialEq, Eq)]
pub struct Note {
    pub place: Place,
    /// The directive, as far as one line holds it.
    pub written: String,
    pub why: String,
}

impl Found {
    pub fn note(&mut self, directive: &Directive, why: impl Into<String>) {
        const MAX_BYTES: usize = 60;
        let mut written = directive.to_string().replace(|c: char| c.is_control(), " ");
        if let Some((cut, _)) = written.char_indices().nth(MAX_BYTES) {
            written.truncate(cut);
            written.push('…');
        }
        let note = Note { place: directive.place.clone(), written, why: why.into() };
        // What several look at is told once.
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}
