use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::Instant;

use super::in_flight::InFlight;
use super::keep_alive::KeepAlive;
use super::pool::Usage;
use super::tls::{Trust, client_config, platform_roots};
use crate::access::Access;
use crate::config;
use crate::observe::UpstreamMetrics;
use crate::tls::BadTls;

/// The longest DNS name in text (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;

/// The allowlist: every upstream that may be forwarded to, by name.
#[derive(Debug, Default)]
pub struct Directory {
    by_name: HashMap<Box<[u8]>, Arc<Upstream>>,
    without_roots: bool,
    unverified: Vec<String>,
    /// The machine's own, once an upstream has needed them.
    roots: Option<Arc<RootCertStore>>,
    configs: Configs,
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
    pub body_bytes: Option<u64>,
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
    trust: Trust,
}

/// An upstream that cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadUpstream {
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

    /// The directory of another configuration. An upstream that is the same there stays the same, with its connections;
    /// one of the same name keeps its counts.
    pub fn renewed(&self, upstreams: &[config::Upstream], access: &dyn Access) -> Result<Self, BadUpstream> {
        let needs_roots = upstreams.iter().any(|upstream| upstream.tls);
        let roots = match &self.roots {
            None if needs_roots => Some(Arc::new(platform_roots(access))),
            known => known.clone(),
        };
        let is_empty = roots.as_ref().is_none_or(|roots| roots.is_empty());
        let mut next = Self {
            by_name: HashMap::with_capacity(upstreams.len()),
            without_roots: is_empty && upstreams.iter().any(|u| u.tls && u.verify && u.ca.is_none()),
            unverified: upstreams.iter().filter(|u| u.tls && !u.verify).map(|u| u.name.clone()).collect(),
            roots,
            // Files are read again.
            configs: self.configs.iter().filter(|(trust, _)| trust.ca.is_none()).map(cloned).collect(),
            serial: self.serial,
        };
        for configured in upstreams {
            let former = self.by_name.get(configured.name.as_bytes());
            let upstream = match former.filter(|former| former.is_as(configured)) {
                Some(same) => Arc::clone(same),
                None => Arc::new(next.upstream(configured, former, access)?),
            };
            next.by_name.insert(configured.name.as_bytes().into(), upstream);
        }
        Ok(next)
    }

    fn upstream(
        &mut self,
        configured: &config::Upstream,
        former: Option<&Arc<Upstream>>,
        access: &dyn Access,
    ) -> Result<Upstream, BadUpstream> {
        self.serial += 1;
        let metrics = former.map(|former| Arc::clone(&former.metrics));
        let count = former.map(|former| former.in_flight.shared()).unwrap_or_default();
        let at_same_place = former.filter(|former| former.is_at_place_of(configured));
        Ok(Upstream {
            serial: self.serial,
            name: configured.name.as_str().into(),
            port: configured.port,
            address: configured.address,
            allow_private: configured.allow_private,
            require_client_cert: configured.require_client_cert,
            body_bytes: configured.body_bytes,
            idle: configured.upstream_idle,
            tls: configured.tls.then(|| self.tls(configured, access)).transpose()?,
            metrics: metrics.unwrap_or_else(|| Arc::new(UpstreamMetrics::new(&configured.name))),
            in_flight: InFlight::new(count, configured.in_flight),
            keep_alive: at_same_place.map(|former| Arc::clone(&former.keep_alive)).unwrap_or_default(),
        })
    }

    fn tls(
        &mut self,
        configured: &config::Upstream,
        access: &dyn Access,
    ) -> Result<UpstreamTls, BadUpstream> {
        let name = || configured.name.clone();
        let trust = Trust::of(configured);
        let config = match (self.configs.get(&trust), &self.roots) {
            (Some(config), _) => Arc::clone(config),
            (None, roots) => {
                let roots = roots.clone().unwrap_or_else(|| Arc::new(RootCertStore::empty()));
                client_config(&roots, &trust, access)
                    .map_err(|error| BadUpstream::Certificate { name: name(), error: error.into() })?
            }
        };
        self.configs.insert(trust.clone(), Arc::clone(&config));
        let server_name =
            ServerName::try_from(name()).map_err(|_| BadUpstream::ServerName { name: name() })?;
        Ok(UpstreamTls { server_name, config, trust })
    }

    /// The upstream that `segment` names, ignoring ASCII case only.
    pub fn find(&self, segment: &[u8]) -> Option<&Arc<Upstream>> {
        let mut lower = [0; LONGEST_NAME];
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

/// Upstreams that believe the same roots share their TLS configuration, and with it their sessions.
type Configs = HashMap<Trust, Arc<ClientConfig>>;

impl Upstream {
    /// How many requests are under way to it.
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// How many may be.
    pub fn most_in_flight(&self) -> usize {
        self.in_flight.most()
    }

    /// Whether what is configured is connected to in the same way: it is taken to be the same server.
    fn is_at_place_of(&self, configured: &config::Upstream) -> bool {
        self.port == configured.port
            && self.address == configured.address
            && self.tls.is_some() == configured.tls
    }

    /// A connection that had been idle died of the request under way, before a byte of the response.
    pub fn note_death(&self, usage: &Usage) {
        if let Some(closed) = usage.died() {
            self.keep_alive.closed(closed, Instant::now());
        }
    }

    /// Whether it does what is configured. One with roots of its own never does: their file may have changed.
    fn is_as(&self, configured: &config::Upstream) -> bool {
        let trusts = match &self.tls {
            Some(tls) => configured.tls && tls.trust == Trust::of(configured) && configured.ca.is_none(),
            None => !configured.tls,
        };
        trusts
            && self.is_at_place_of(configured)
            && self.allow_private == configured.allow_private
            && self.require_client_cert == configured.require_client_cert
            && self.body_bytes == configured.body_bytes
            && self.idle == configured.upstream_idle
            && self.in_flight.most() == configured.in_flight
    }
}

fn cloned((trust, config): (&Trust, &Arc<ClientConfig>)) -> (Trust, Arc<ClientConfig>) {
    (trust.clone(), Arc::clone(config))
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
        let under_way = InFlightSlot::take(&changed);
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
        assert!(InFlightSlot::take(&renewed).is_none(), "one is under way since before, and one is allowed");
        drop(under_way);
        assert!(InFlightSlot::take(&renewed).is_some());
    }
}
