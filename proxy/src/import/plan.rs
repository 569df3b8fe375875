//! What an import carries over, and what it has to say.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::amount::{Amount, Key};
use super::notes::Notes;
use crate::prefixes::Network;

/// The server whose configuration is imported.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub name: &'static str,
    /// A default of its own that differs from hookgate's.
    pub default: &'static str,
}

/// The one configuration, before it is text.
#[derive(Debug)]
pub struct Plan {
    pub origin: Origin,
    pub https: Vec<SocketAddr>,
    pub http: Vec<SocketAddr>,
    pub plain: Vec<SocketAddr>,
    pub proxy_protocol_from: Vec<Network>,
    /// Listeners at which the other server expects no PROXY header, where others expect one.
    pub without_proxy_header: Vec<SocketAddr>,
    /// Clients' addresses come in a field of the request.
    pub has_forwarded_addresses: bool,
    pub pairs: Vec<Pair>,
    pub client_ca: Option<String>,
    pub client_names: Vec<String>,
    pub webroot: Option<String>,
    /// Names that certificates are got for, and addresses for the authority.
    pub domains: Vec<String>,
    pub contact: Vec<String>,
    /// The names that clients call the relay by.
    pub names: Vec<String>,
    pub upstreams: BTreeMap<String, Upstream>,
    pub settings: BTreeMap<Key, Amount>,
    pub notes: Notes,
    /// Why nothing would get through.
    pub blocked: Vec<String>,
}

/// An entry of `[upstreams]`.
#[derive(Debug)]
pub struct Upstream {
    pub route: Route,
    pub body_bytes: Option<u64>,
    pub ca: Option<String>,
}

/// An entry of `[upstreams]`, as far as requests show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `None`: what the DNS says.
    pub address: Option<SocketAddr>,
    pub port: u16,
    pub is_https: bool,
    pub require_client_cert: bool,
    /// The names that its client certificates may have; empty: any.
    pub client_names: Vec<String>,
}

/// Files of a certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Plan {
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            https: Vec::new(),
            http: Vec::new(),
            plain: Vec::new(),
            proxy_protocol_from: Vec::new(),
            without_proxy_header: Vec::new(),
            has_forwarded_addresses: false,
            pairs: Vec::new(),
            client_ca: None,
            client_names: Vec::new(),
            webroot: None,
            domains: Vec::new(),
            contact: Vec::new(),
            names: Vec::new(),
            upstreams: BTreeMap::new(),
            settings: BTreeMap::new(),
            notes: Notes::default(),
            blocked: Vec::new(),
        }
    }
}
