use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::Instant;

use super::in_flight::InFlight;
use super::keep_alive::KeepAlive;
use super::tls::{Roots, Trust, ca_certificates, client_config, unverified};
use super::usage::Usage;
use crate::access::Access;
use crate::config;
use crate::observe::UpstreamMetrics;
use crate::tls::BadTls;

/// The longest DNS name in text (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// The allowlist: every upstream that may be forwarded to, by name.
#[derive(Debug, Default)]
pub struct Directory {
    by_name: HashMap<Box<[u8]>, Arc<Upstream>>,
    without_roots: bool,
    unverified: Vec<String>,
    /// The machine's, if an upstream needs them.
    roots: Option<Roots>,
    configs: HashMap<Trust, SharedConfig>,
    /// The next upstream's.
    serial: u64,
}

/// One upstream, ready to be connected to.
#[derive(Debug)]
pub struct Upstream {
    /// No other upstream has it, also not one of the same name in an earlier configuration.
    pub serial: u64,
    /// Lower case; what goes into Host and SNI.
    pub name: Arc<str>,
    pub port: u16,
    /// Where to connect instead of asking the DNS.
    pub address: Option<SocketAddr>,
    pub allow_private: bool,
    pub require_client_cert: bool,
    /// The most bytes that a request's body may have; `None`: as `[limits]` says.
    pub body_bytes: Option<config::BodyLimit>,
    /// How long an idle connection is kept; `None`: as `[timeouts]` says.
    pub idle: Option<Duration>,
    pub tls: Option<UpstreamTls>,
    pub metrics: Arc<UpstreamMetrics>,
    pub(super) in_flight: InFlight,
    pub(super) keep_alive: Arc<KeepAlive>,
}

#[derive(Clone, Debug)]
pub struct UpstreamTls {
    pub server_name: ServerName<'static>,
    pub config: Arc<ClientConfig>,
}

/// Upstreams that trust the same authorities share their TLS configuration and sessions.
#[derive(Clone, Debug)]
struct SharedConfig {
    config: Arc<ClientConfig>,
    /// The certificates in `ca`, as they were read.
    pinned: Arc<[CertificateDer<'static>]>,
}

/// Upstreams that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadUpstream {
    #[error(
        "this machine's root certificates cannot be read any more: {0}: mend the file (`update-ca-certificates` \
         makes it anew)"
    )]
    Roots(String),
    #[error("this machine has no root certificates any more: install the package ca-certificates")]
    NoRoots,
    #[error("upstream {name}: {error}")]
    Certificate { name: String, error: Box<BadTls> },
    #[error("upstream {name}: the name cannot stand in a TLS handshake; rename it or write tls = false")]
    ServerName { name: String },
}

impl Directory {
    /// Reads the root certificates that the upstreams need.
    pub fn new(upstreams: &[config::Upstream], access: &dyn Access) -> Result<Self, BadUpstream> {
        Self::default().renewed(upstreams, access)
    }

    /// The directory of another configuration. Roots and `ca` files are read again. An upstream
    /// keeps its connections if neither its settings nor its authorities have changed; one of the
    /// same name keeps its counts.
    pub fn renewed(&self, upstreams: &[config::Upstream], access: &dyn Access) -> Result<Self, BadUpstream> {
        let roots = self.renewed_roots(upstreams, access)?;
        let is_empty = roots.as_ref().is_none_or(|roots| roots.store.is_empty());
        let mut next = Self {
            by_name: HashMap::with_capacity(upstreams.len()),
            without_roots: is_empty && upstreams.iter().any(relies_on_roots),
            unverified: upstreams.iter().filter(|u| u.tls && !u.verify).map(|u| u.name.to_string()).collect(),
            roots,
            configs: HashMap::new(),
            serial: self.serial,
        };
        let trust_same_roots = match (&self.roots, &next.roots) {
            (Some(old), Some(new)) => old.are_same_as(new),
            _ => false,
        };
        let may_stay = |trust: &Trust| trust_same_roots || !trust.verify;
        for configured in upstreams {
            let tls =
                next.tls(configured, |trust| self.configs.get(trust).filter(|_| may_stay(trust)), access)?;
            let former = self.by_name.get(configured.name.as_bytes());
            let upstream = match former.filter(|former| former.is_as(configured, tls.as_ref())) {
                Some(same) => Arc::clone(same),
                None => Arc::new(next.upstream(configured, former, tls)?),
            };
            next.by_name.insert(configured.name.as_bytes().into(), upstream);
        }
        Ok(next)
    }

    /// Errors: there were roots before, and they cannot be read any more.
    fn renewed_roots(
        &self,
        upstreams: &[config::Upstream],
        access: &dyn Access,
    ) -> Result<Option<Roots>, BadUpstream> {
        if !upstreams.iter().any(|upstream| upstream.tls && upstream.verify) {
            return Ok(None);
        }
        let read = Roots::read(access);
        let Some(former) = self.roots.as_ref().filter(|former| !former.store.is_empty()) else {
            return Ok(Some(read));
        };
        match read {
            same if former.are_same_as(&same) => Ok(Some(former.clone())),
            Roots { fault: Some(fault), .. } => Err(BadUpstream::Roots(fault)),
            none if none.store.is_empty() && upstreams.iter().any(relies_on_roots) => {
                Err(BadUpstream::NoRoots)
            }
            others => Ok(Some(others)),
        }
    }

    fn upstream(
        &mut self,
        configured: &config::Upstream,
        former: Option<&Arc<Upstream>>,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Upstream, BadUpstream> {
        self.serial += 1;
        let tls = tls.map(|config| UpstreamTls::new(&configured.name, config)).transpose()?;
        let metrics = former.map(|former| Arc::clone(&former.metrics));
        let count = former.map(|former| former.in_flight.shared()).unwrap_or_default();
        let at_same_place = former.filter(|former| former.is_at_place_of(configured));
        Ok(Upstream {
            serial: self.serial,
            name: (*configured.name).into(),
            port: configured.port,
            address: configured.address,
            allow_private: configured.allow_private,
            require_client_cert: configured.require_client_cert,
            body_bytes: configured.body_bytes,
            idle: configured.upstream_idle,
            tls,
            metrics: metrics.unwrap_or_else(|| Arc::new(UpstreamMetrics::new(&configured.name))),
            in_flight: InFlight::new(count, configured.in_flight),
            keep_alive: at_same_place.map(|former| Arc::clone(&former.keep_alive)).unwrap_or_default(),
        })
    }

    /// `former`: the configuration for the same authorities, if it may be kept.
    fn tls<'f>(
        &mut self,
        configured: &config::Upstream,
        former: impl FnOnce(&Trust) -> Option<&'f SharedConfig>,
        access: &dyn Access,
    ) -> Result<Option<Arc<ClientConfig>>, BadUpstream> {
        if !configured.tls {
            return Ok(None);
        }
        let trust = Trust::of(configured);
        let config = match self.configs.get(&trust) {
            Some(shared) => Arc::clone(&shared.config),
            None => {
                let shared = self.shared_config(&trust, former(&trust), access);
                let shared = shared.map_err(|error| BadUpstream::Certificate {
                    name: configured.name.to_string(),
                    error: error.into(),
                })?;
                Arc::clone(&self.configs.entry(trust).or_insert(shared).config)
            }
        };
        Ok(Some(config))
    }

    fn shared_config(
        &self,
        trust: &Trust,
        former: Option<&SharedConfig>,
        access: &dyn Access,
    ) -> Result<SharedConfig, BadTls> {
        let pinned =
            if trust.verify { ca_certificates(trust.ca.as_deref(), access)? } else { Arc::default() };
        if let Some(same) = former.filter(|former| former.pinned == pinned) {
            return Ok(same.clone());
        }
        let config = match &self.roots {
            Some(roots) if trust.verify => client_config(&roots.store, &pinned, trust.ca.as_deref())?,
            _ => unverified()?,
        };
        Ok(SharedConfig { config, pinned })
    }

    /// Changes since `before` in the machine's roots and in the `ca` files that were named then:
    /// a line for each.
    pub fn changed_files(&self, before: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        if let (Some(old), Some(new)) = (&before.roots, &self.roots)
            && !old.are_same_as(new)
        {
            let (added, removed) = old.changes_to(new);
            lines.push(format!("root certificates of this machine: {added} added, {removed} removed"));
        }
        let other = |(trust, shared): (&Trust, &SharedConfig)| {
            let former = before.configs.get(trust)?;
            (former.pinned != shared.pinned).then(|| trust.ca.clone()).flatten()
        };
        let mut files: Vec<_> = self.configs.iter().filter_map(other).collect();
        files.sort();
        lines.extend(files.iter().map(|file| format!("[upstreams] ca: {} changed", file.display())));
        lines
    }

    /// Why root certificates of this machine may be missing.
    pub fn roots_fault(&self) -> Option<&str> {
        self.roots.as_ref()?.fault.as_deref()
    }

    /// The upstream that `segment` names, ignoring ASCII case only.
    pub fn find(&self, segment: &[u8]) -> Option<&Arc<Upstream>> {
        let mut lower = [0; MAX_NAME_BYTES];
        let lower = lower.get_mut(..segment.len())?;
        lower.copy_from_slice(segment);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower)
    }

    /// The upstreams whose certificates are not verified, by name.
    pub fn unverified(&self) -> &[String] {
        &self.unverified
    }

    /// Whether upstreams rely on the machine's root certificates and it has none.
    pub fn lacks_roots(&self) -> bool {
        self.without_roots
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Upstream> {
        self.by_name.values().map(|upstream| &**upstream)
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// Whether only this machine's roots can verify it.
fn relies_on_roots(upstream: &config::Upstream) -> bool {
    upstream.tls && upstream.verify && upstream.ca.is_none()
}

impl UpstreamTls {
    fn new(name: &str, config: Arc<ClientConfig>) -> Result<Self, BadUpstream> {
        let server_name = ServerName::try_from(name.to_owned());
        let server_name = server_name.map_err(|_| BadUpstream::ServerName { name: name.to_owned() })?;
        Ok(Self { server_name, config })
    }
}

impl Upstream {
    /// How many requests are under way to it.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// How many may be.
    pub fn most_in_flight(&self) -> usize {
        self.in_flight.most()
    }

    /// Whether what is configured is connected to in the same way: it is taken to be the same
    /// server.
    fn is_at_place_of(&self, configured: &config::Upstream) -> bool {
        self.port == configured.port
            && self.address == configured.address
            && self.tls.is_some() == configured.tls
    }

    /// A connection that had been idle died of the request under way, before a byte of the
    /// response.
    pub fn note_death(&self, usage: &Usage) {
        if let Some(closed) = usage.died() {
            self.keep_alive.closed(closed, Instant::now());
        }
    }

    /// Whether it has the configured settings and `tls`.
    fn is_as(&self, configured: &config::Upstream, tls: Option<&Arc<ClientConfig>>) -> bool {
        // Without `..`, so that a new key can't be forgotten. `tls` stands for `ca` and `verify`.
        let config::Upstream {
            name,
            address,
            port,
            tls: has_tls,
            ca: _,
            verify: _,
            allow_private,
            require_client_cert,
            in_flight,
            body_bytes,
            upstream_idle,
        } = configured;
        let trusts = match (&self.tls, tls) {
            (Some(own), Some(config)) => Arc::ptr_eq(&own.config, config),
            (own, tls) => own.is_none() && tls.is_none(),
        };
        trusts
            && *self.name == **name
            && self.address == *address
            && self.port == *port
            && self.tls.is_some() == *has_tls
            && self.allow_private == *allow_private
            && self.require_client_cert == *require_client_cert
            && self.in_flight.most() == *in_flight
            && self.body_bytes == *body_bytes
            && self.idle == *upstream_idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Disk;
    use crate::config::Config;
    use crate::upstream::InFlightSlot;

    fn upstreams(table: &str) -> Vec<config::Upstream> {
        let text = format!("[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n{table}");
        Config::parse("hookgate.toml".as_ref(), &text).unwrap().upstreams
    }

    #[test]
    fn what_stays_the_same_keeps_its_connections_and_what_keeps_its_name_its_counts() {
        let before = Directory::new(&upstreams(
            "\"same.example\" = { tls = false }\n\"changed.example\" = { tls = false }\n\"gone.example\" = { tls = false }",
        ), &Disk)
        .unwrap();
        let find = |directory: &Directory, name: &str| directory.find(name.as_bytes()).cloned();
        let changed = find(&before, "changed.example").unwrap();
        let under_way = InFlightSlot::take(&changed, None, 0.0);
        let after = before
            .renewed(&upstreams(
                "\"same.example\" = { tls = false }\n\"changed.example\" = { tls = false, in_flight = 1 }\n\
                 \"new.example\" = { tls = false }",
            ), &Disk)
            .unwrap();
        let serial =
            |directory: &Directory, name: &str| find(directory, name).map(|upstream| upstream.serial);
        assert_eq!(serial(&before, "same.example"), serial(&after, "same.example"));
        assert_eq!(serial(&after, "gone.example"), None);
        let mut serials: Vec<u64> =
            before.iter().chain(after.iter()).map(|upstream| upstream.serial).collect();
        serials.sort_unstable();
        serials.dedup();
        assert_eq!(serials.len(), 5, "one for each upstream that ever was");

        let renewed = find(&after, "changed.example").unwrap();
        assert!(Arc::ptr_eq(&changed.metrics, &renewed.metrics));
        assert!(
            InFlightSlot::take(&renewed, None, 0.0).is_none(),
            "one is under way since before, and one is allowed"
        );
        drop(under_way);
        assert!(InFlightSlot::take(&renewed, None, 0.0).is_some());
    }
}
