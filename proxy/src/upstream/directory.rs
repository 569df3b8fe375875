use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::Instant;

use super::in_flight::Counts;
use super::keep_alive::KeepAlive;
use super::tls::{Manner, Roots, ca_certificates, client_config, unverified};
use super::usage::Usage;
use crate::access::Access;
use crate::config::{self, HostName, UpstreamSettings};
use crate::observe::UpstreamMetrics;
use crate::tls::BadTls;

/// The longest DNS name in text (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// The allowlist: every upstream that may be forwarded to, by name.
#[derive(Debug, Default)]
pub struct Directory {
    by_name: HashTable<Arc<Upstream>>,
    hasher: RandomState,
    without_roots: bool,
    unverified: Vec<String>,
    /// The machine's, if an upstream needs them.
    roots: Option<Roots>,
    configs: HashMap<Manner, SharedConfig>,
    /// The next upstream's.
    serial: u64,
}

/// One upstream, ready to be connected to. Tens of thousands may be configured: what only a used
/// one needs is made at first use, and settings are shared.
#[derive(Debug)]
pub struct Upstream {
    /// No other upstream has it, also not one of the same name in an earlier configuration.
    pub serial: u64,
    /// Lower case; what goes into Host and SNI.
    pub name: HostName,
    settings: Arc<UpstreamSettings>,
    /// `None`: without TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    used: OnceLock<Used>,
}

/// What an upstream that is used has in memory.
#[derive(Debug)]
struct Used {
    metrics: Arc<UpstreamMetrics>,
    /// Shared with the upstream of that name in other configurations: what is under way there
    /// counts here.
    counts: Arc<Counts>,
    keep_alive: Arc<KeepAlive>,
}

/// Upstreams that TLS is spoken to in the same manner share their TLS configuration and sessions.
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
            by_name: HashTable::with_capacity(upstreams.len()),
            hasher: self.hasher.clone(),
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
        let may_stay = |manner: &Manner| trust_same_roots || !manner.verify;
        let are_alike =
            |one: &config::Upstream, other: &config::Upstream| Arc::ptr_eq(&one.settings, &other.settings);
        for alike in upstreams.chunk_by(are_alike) {
            let former = |manner: &Manner| self.configs.get(manner).filter(|_| may_stay(manner));
            let tls = next.tls(&alike[0], former, access)?;
            for configured in alike {
                let former = self.find(configured.name.as_bytes());
                let upstream = match former.filter(|former| former.is_as(configured, tls.as_ref())) {
                    Some(same) => Arc::clone(same),
                    None => Arc::new(next.upstream(configured, former, tls.clone())?),
                };
                next.insert(upstream);
            }
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
        let name = configured.name.clone();
        if tls.is_some() && ServerName::try_from(&*name).is_err() {
            return Err(BadUpstream::ServerName { name: name.to_string() });
        }
        self.serial += 1;
        Ok(Upstream {
            serial: self.serial,
            name,
            settings: Arc::clone(&configured.settings),
            tls,
            used: former.map(|former| former.used_as(configured).into()).unwrap_or_default(),
        })
    }

    fn insert(&mut self, upstream: Arc<Upstream>) {
        let hash = |upstream: &Arc<Upstream>| self.hasher.hash_one(upstream.name.as_bytes());
        self.by_name.insert_unique(hash(&upstream), upstream, hash);
    }

    /// `former`: the configuration for the same authorities, if it may be kept.
    fn tls<'f>(
        &mut self,
        configured: &config::Upstream,
        former: impl FnOnce(&Manner) -> Option<&'f SharedConfig>,
        access: &dyn Access,
    ) -> Result<Option<Arc<ClientConfig>>, BadUpstream> {
        if !configured.tls {
            return Ok(None);
        }
        let manner = Manner::of(configured);
        let config = match self.configs.get(&manner) {
            Some(shared) => Arc::clone(&shared.config),
            None => {
                let shared = self.shared_config(&manner, former(&manner), access);
                let shared = shared.map_err(|error| BadUpstream::Certificate {
                    name: configured.name.to_string(),
                    error: error.into(),
                })?;
                Arc::clone(&self.configs.entry(manner).or_insert(shared).config)
            }
        };
        Ok(Some(config))
    }

    fn shared_config(
        &self,
        manner: &Manner,
        former: Option<&SharedConfig>,
        access: &dyn Access,
    ) -> Result<SharedConfig, BadTls> {
        let pinned =
            if manner.verify { ca_certificates(manner.ca.as_deref(), access)? } else { Arc::default() };
        if let Some(same) = former.filter(|former| former.pinned == pinned) {
            return Ok(same.clone());
        }
        let config = match &self.roots {
            Some(roots) if manner.verify => client_config(&roots.store, &pinned, manner)?,
            _ => unverified(&manner.provider())?,
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
        let other = |(manner, shared): (&Manner, &SharedConfig)| {
            let former = before.configs.get(manner)?;
            (former.pinned != shared.pinned).then(|| manner.ca.clone()).flatten()
        };
        let mut files: Vec<_> = self.configs.iter().filter_map(other).collect();
        files.sort();
        files.dedup();
        lines.extend(files.iter().map(|file| format!("[upstreams] ca: {} changed", file.display())));
        lines
    }

    /// A line on the hosts that were added, removed or changed since `before`; `None`: none was.
    pub fn changed_hosts(&self, before: &Self) -> Option<String> {
        let (mut kept, mut changed) = (0, 0);
        for upstream in self.iter() {
            if let Some(former) = before.find(upstream.name.as_bytes()) {
                kept += 1;
                changed += usize::from(former.settings != upstream.settings);
            }
        }
        let (added, removed) = (self.len() - kept, before.len() - kept);
        (added + removed + changed > 0).then(|| {
            format!("[upstreams] {added} added, {removed} removed, {changed} changed, {} now", self.len())
        })
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
        let hash = self.hasher.hash_one(&*lower);
        self.by_name.find(hash, |upstream| upstream.name.as_bytes() == lower)
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
        self.by_name.iter().map(|upstream| &**upstream)
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

impl Upstream {
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// What its certificate has to be for.
    ///
    /// Errors: none; a directory has no upstream with TLS and another name.
    pub(super) fn server_name(&self) -> io::Result<ServerName<'static>> {
        ServerName::try_from(self.name.to_string()).map_err(io::Error::other)
    }

    pub fn metrics(&self) -> &Arc<UpstreamMetrics> {
        &self.used().metrics
    }

    /// `None`: nothing was counted.
    pub fn used_metrics(&self) -> Option<&Arc<UpstreamMetrics>> {
        self.used.get().map(|used| &used.metrics).filter(|metrics| metrics.is_used())
    }

    /// How many requests are under way to it.
    pub fn in_flight(&self) -> usize {
        self.used.get().map_or(0, |used| used.counts.total())
    }

    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.used().counts
    }

    pub(super) fn keep_alive(&self) -> &KeepAlive {
        &self.used().keep_alive
    }

    fn used(&self) -> &Used {
        self.used.get_or_init(|| Used {
            metrics: Arc::new(UpstreamMetrics::new(&self.name)),
            counts: Arc::default(),
            keep_alive: Arc::default(),
        })
    }

    /// What the one that is `configured` in its place goes on with. A request may be about to use
    /// this one, so that it has its part from now on.
    fn used_as(&self, configured: &config::Upstream) -> Used {
        let Used { metrics, counts, keep_alive } = self.used();
        // What is connected to in the same way is taken to be the same server.
        let is_at_same_place = self.settings.port == configured.port
            && self.settings.address == configured.address
            && self.settings.tls == configured.tls;
        Used {
            metrics: Arc::clone(metrics),
            counts: Arc::clone(counts),
            keep_alive: if is_at_same_place { Arc::clone(keep_alive) } else { Arc::default() },
        }
    }

    /// A connection that had been idle died of the request under way, before a byte of the
    /// response.
    pub fn note_death(&self, usage: &Usage) {
        if let Some(closed) = usage.died() {
            self.keep_alive().closed(closed, Instant::now());
        }
    }

    /// Whether it has the configured settings and `tls`, which is another one when the authorities
    /// have changed.
    fn is_as(&self, configured: &config::Upstream, tls: Option<&Arc<ClientConfig>>) -> bool {
        let trusts = match (&self.tls, tls) {
            (Some(own), Some(config)) => Arc::ptr_eq(own, config),
            (own, tls) => own.is_none() && tls.is_none(),
        };
        trusts && self.settings == configured.settings
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
        assert!(Arc::ptr_eq(changed.metrics(), renewed.metrics()));
        assert!(find(&after, "same.example").unwrap().used.get().is_none(), "no request has used it");
        assert!(
            InFlightSlot::take(&renewed, None, 0.0).is_none(),
            "one is under way since before, and one is allowed"
        );
        drop(under_way);
        assert!(InFlightSlot::take(&renewed, None, 0.0).is_some());
    }
}
