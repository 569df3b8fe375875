//! A host of `[upstreams]`. Most hosts are configured alike, so that settings are shared.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{BodyLimit, HostName};

/// One entry of `[upstreams]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    pub name: HostName,
    pub settings: Arc<UpstreamSettings>,
}

/// What an entry says of its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamSettings {
    /// Where to connect, instead of asking the DNS.
    pub address: Option<SocketAddr>,
    pub port: u16,
    pub tls: bool,
    /// A PEM file with more roots for this upstream alone.
    pub ca: Option<PathBuf>,
    /// Whether its certificate is verified; only for upstreams that no other machine can answer
    /// for.
    pub verify: bool,
    /// Whether keys may be agreed on with ML-KEM, for which a ClientHello takes two packets.
    pub ml_kem: bool,
    /// Whether its name may lead to addresses that are not public.
    pub allow_private: bool,
    /// Whether a request must come with a client certificate.
    pub require_client_cert: bool,
    /// The most requests that may be under way to it at once.
    pub in_flight: usize,
    /// In place of `[limits] body_bytes`.
    pub body_bytes: Option<BodyLimit>,
    /// In place of `[timeouts] upstream_idle`.
    pub upstream_idle: Option<Duration>,
}

impl Upstream {
    /// One without a single key written.
    pub fn new(name: HostName) -> Self {
        Self { name, settings: Arc::default() }
    }
}

impl Deref for Upstream {
    type Target = UpstreamSettings;

    fn deref(&self) -> &UpstreamSettings {
        &self.settings
    }
}

impl UpstreamSettings {
    pub(super) const TLS_PORT: u16 = 443;
    pub(super) const PLAIN_PORT: u16 = 80;
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            address: None,
            port: Self::TLS_PORT,
            tls: true,
            ca: None,
            verify: true,
            ml_kem: true,
            allow_private: false,
            require_client_cert: false,
            in_flight: 1024,
            body_bytes: None,
            upstream_idle: None,
        }
    }
}

/// Between processes: settings, and the names of the hosts in a row that have them.
pub(super) mod rows {
    use serde::{Deserializer, Serializer};

    use super::*;

    pub(in crate::config) fn serialize<S: Serializer>(
        upstreams: &[Upstream],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let alike = |one: &Upstream, next: &Upstream| one.settings == next.settings;
        to.collect_seq(upstreams.chunk_by(alike).map(|row| {
            let names: Vec<&HostName> = row.iter().map(|upstream| &upstream.name).collect();
            (&row[0].settings, names)
        }))
    }

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<Upstream>, D::Error> {
        let rows = Vec::<(Arc<UpstreamSettings>, Vec<HostName>)>::deserialize(from)?;
        let mut upstreams = Vec::with_capacity(rows.iter().map(|(_, names)| names.len()).sum());
        for (settings, names) in rows {
            upstreams
                .extend(names.into_iter().map(|name| Upstream { name, settings: Arc::clone(&settings) }));
        }
        Ok(upstreams)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn hosts_that_are_configured_alike_share_their_settings_in_another_process() {
        let text = "[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n\"a.example\" = {}\n\"b.example\" = {}\n\
                    \"c.example\" = { tls = false }\n\"d.example\" = {}\n";
        let config = Config::parse("hookgate.toml".as_ref(), text).unwrap();
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(json.matches("in_flight").count(), 3, "{json}");
        let sent: Config = serde_json::from_str(&json).unwrap();
        assert_eq!(sent, config);
        assert!(Arc::ptr_eq(&sent.upstreams[0].settings, &sent.upstreams[1].settings));
    }
}
