use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use super::in_flight::InFlight;
use super::tls::{Trust, client_config, platform_roots};
use crate::config;
use crate::observe::UpstreamMetrics;
use crate::tls::BadTls;

/// The longest DNS name in text (RFC 1035 §2.3.4).
const LONGEST_NAME: usize = 253;

/// The allowlist: every upstream that may be forwarded to, by name.
#[derive(Debug)]
pub struct Directory {
    by_name: HashMap<Box<[u8]>, Arc<Upstream>>,
    without_roots: bool,
    unverified: Vec<String>,
}

/// One upstream, ready to be connected to.
#[derive(Debug)]
pub struct Upstream {
    /// Lower case; what goes into Host and SNI.
    pub name: Arc<str>,
    pub port: u16,
    /// Where to connect instead of asking the DNS.
    pub address: Option<SocketAddr>,
    pub allow_private: bool,
    pub require_client_cert: bool,
    /// The most bytes that a request's body may have; `None`: as `[limits]` says.
    pub body_bytes: Option<u64>,
    pub tls: Option<UpstreamTls>,
    pub metrics: Arc<UpstreamMetrics>,
    pub(super) in_flight: InFlight,
}

#[derive(Clone, Debug)]
pub struct UpstreamTls {
    pub server_name: ServerName<'static>,
    pub config: Arc<ClientConfig>,
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
    pub fn new(upstreams: &[config::Upstream]) -> Result<Self, BadUpstream> {
        let needs_roots = upstreams.iter().any(|upstream| upstream.tls);
        let roots = Arc::new(if needs_roots { platform_roots() } else { RootCertStore::empty() });
        let without_roots = roots.is_empty() && upstreams.iter().any(|u| u.tls && u.verify && u.ca.is_none());
        let unverified = upstreams.iter().filter(|u| u.tls && !u.verify).map(|u| u.name.clone()).collect();
        let mut configs = HashMap::new();
        let mut by_name = HashMap::with_capacity(upstreams.len());
        for configured in upstreams {
            let upstream = Upstream::new(configured, &roots, &mut configs)?;
            by_name.insert(configured.name.as_bytes().into(), Arc::new(upstream));
        }
        Ok(Self { by_name, without_roots, unverified })
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

    fn new(
        configured: &config::Upstream,
        roots: &Arc<RootCertStore>,
        configs: &mut Configs,
    ) -> Result<Self, BadUpstream> {
        let name = || configured.name.clone();
        let tls = if configured.tls {
            let trust = Trust { ca: configured.ca.clone(), verify: configured.verify };
            let config = match configs.get(&trust) {
                Some(config) => Arc::clone(config),
                None => client_config(roots, &trust)
                    .map_err(|error| BadUpstream::Certificate { name: name(), error: error.into() })?,
            };
            configs.insert(trust, Arc::clone(&config));
            let server_name =
                ServerName::try_from(name()).map_err(|_| BadUpstream::ServerName { name: name() })?;
            Some(UpstreamTls { server_name, config })
        } else {
            None
        };
        Ok(Self {
            name: configured.name.as_str().into(),
            port: configured.port,
            address: configured.address,
            allow_private: configured.allow_private,
            require_client_cert: configured.require_client_cert,
            body_bytes: configured.body_bytes,
            tls,
            metrics: Arc::new(UpstreamMetrics::new(&configured.name)),
            in_flight: InFlight::new(configured.in_flight),
        })
    }
}
