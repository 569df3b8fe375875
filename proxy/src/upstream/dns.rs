//! Names to addresses: the configured servers only, one query per name at a time, answers kept within bounds.

mod servers;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::ConnectError;
use crate::access::Access;
use crate::config::{self, DnsServers};
use servers::Servers;

pub use servers::DnsState;

/// Where the machine's own servers stand (resolv.conf(5)).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long the second family is waited for when the first has answered (RFC 8305 §3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long a refresh may hold up those who could have a stale answer (RFC 8767 §5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);
/// How long a stale answer serves before the servers are asked again (RFC 8767 §5).
const STALE_TTL: Duration = Duration::from_secs(30);
/// How long "no such name" is kept when the answer does not say.
const NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// How long a failure is kept, so that a burst of requests is one query.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// The resolver and what it has learned. Names come from the allowlist, so there are never more than that.
pub struct Dns {
    resolver: TokioResolver,
    settings: config::Dns,
    names: Mutex<HashMap<Box<str>, Arc<Lookup>>>,
    servers: Servers,
}

/// One name's question, asked once by whoever comes first.
struct Lookup {
    answer: OnceCell<Answer>,
    /// Addresses that were right once, and until when they may still serve.
    stale: Option<(Arc<[IpAddr]>, Instant)>,
}

struct Answer {
    outcome: Result<Arc<[IpAddr]>, ConnectError>,
    /// When the servers are asked again.
    expires: Instant,
    /// Until when the addresses may serve as stale ones.
    stale_until: Instant,
}

/// The DNS cannot be asked as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadDns {
    #[error("[dns] servers = \"system\": cannot read {RESOLV_CONF}: {0}")]
    Unreadable(io::Error),
    #[error("cannot set up DNS: {0}")]
    SetUp(#[from] NetError),
}

impl Dns {
    pub fn new(settings: &config::Dns, access: &dyn Access) -> Result<Self, BadDns> {
        let config = match &settings.servers {
            DnsServers::System => {
                let text = access.read(Path::new(RESOLV_CONF)).map_err(BadDns::Unreadable)?;
                let (system, _) = parse_resolv_conf(text)?;
                ResolverConfig::from_name_servers(system.name_servers().to_vec())
            }
            DnsServers::These(servers) => ResolverConfig::from_name_servers(
                servers.iter().map(|s| name_server(s.ip(), s.port())).collect(),
            ),
        };
        let at_once = config.name_servers().len();
        let servers = config.name_servers().iter().map(|server| {
            let port = server.connections.first().map_or(53, |connection| connection.port);
            SocketAddr::new(server.ip, port)
        });
        let servers = Servers::new(servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = settings.timeout;
        options.num_concurrent_reqs = at_once;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        let resolver = builder.build()?;
        Ok(Self { resolver, settings: settings.clone(), names: Mutex::default(), servers })
    }

    /// The addresses of `name`, IPv4 and IPv6, at least one.
    pub async fn lookup(&self, name: &str) -> Result<Arc<[IpAddr]>, ConnectError> {
        self.lookup_until(name).await.0
    }

    /// [`Self::lookup`], and until when that is the answer.
    pub async fn lookup_until(&self, name: &str) -> (Result<Arc<[IpAddr]>, ConnectError>, Instant) {
        let lookup = self.current(name, Instant::now());
        let answer = lookup.answer.get_or_init(|| self.answer(name, lookup.stale.clone())).await;
        (answer.outcome.clone(), answer.expires)
    }

    /// The addresses of `name` as the servers have them now, each with its TTL, at least one. Nothing is kept, and
    /// both families are waited for.
    pub async fn records(&self, name: &str) -> Result<Vec<(IpAddr, Duration)>, ConnectError> {
        let name = format!("{name}.");
        let family = async |family| {
            let found = timeout(self.settings.timeout, self.query_family(&name, family)).await;
            let (addresses, ttl) = found.unwrap_or(Err(Unanswered::Silence))?;
            Ok(addresses.into_iter().map(|address| (address, ttl)).collect::<Vec<_>>())
        };
        match tokio::join!(family(RecordType::AAAA), family(RecordType::A)) {
            (Ok(v6), Ok(v4)) => Ok([v6, v4].concat()),
            (Ok(some), Err(_)) | (Err(_), Ok(some)) => Ok(some),
            (Err(Unanswered::No(..)), Err(other)) => Err(other.into()),
            (Err(first), Err(_)) => Err(first.into()),
        }
    }

    /// The lookup of `name` that is under way or still valid, or else a new one.
    fn current(&self, name: &str, now: Instant) -> Arc<Lookup> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = match names.get(name) {
            Some(lookup) => match lookup.answer.get() {
                Some(answer) if answer.expires <= now => match &answer.outcome {
                    Ok(addresses) => Some((addresses.clone(), answer.stale_until)),
                    // "No such name" is an answer too: what was right before it does not come back.
                    Err(_) => None,
                },
                Some(_) | None => return lookup.clone(),
            },
            None => None,
        };
        let stale = stale.filter(|(_, until)| now < *until);
        let lookup = Arc::new(Lookup { answer: OnceCell::new(), stale });
        names.insert(name.into(), lookup.clone());
        lookup
    }

    async fn answer(&self, name: &str, stale: Option<(Arc<[IpAddr]>, Instant)>) -> Answer {
        let patience = if stale.is_some() { STALE_PATIENCE } else { self.settings.timeout };
        let patience = patience.min(self.settings.timeout);
        let found = timeout(patience, self.query(name)).await.unwrap_or(Err(Unanswered::Silence));
        let now = Instant::now();
        let kept = |ttl: Duration, outcome| {
            let expires = now + ttl.min(self.settings.valid);
            Answer { outcome, expires, stale_until: expires + self.settings.stale }
        };
        match (found, stale) {
            (Ok((addresses, ttl)), _) => kept(ttl, Ok(addresses.into())),
            (Err(Unanswered::No(why, ttl)), _) => kept(ttl, Err(ConnectError::Dns(why))),
            (Err(Unanswered::Silence | Unanswered::Failure(_)), Some((addresses, until))) => {
                let expires = (now + STALE_TTL).min(until);
                Answer { outcome: Ok(addresses), expires, stale_until: until }
            }
            (Err(Unanswered::Silence), None) => kept(FAILURE_TTL, Err(ConnectError::DnsTimeout)),
            (Err(Unanswered::Failure(why)), None) => kept(FAILURE_TTL, Err(ConnectError::Dns(why))),
        }
    }

    /// Asks for both families at once; one that answers waits only a moment for the other.
    async fn query(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), Unanswered> {
        // With its last dot the name is whole, and no search list applies.
        let name = format!("{name}.");
        let mut v6 = std::pin::pin!(self.query_family(&name, RecordType::AAAA));
        let mut v4 = std::pin::pin!(self.query_family(&name, RecordType::A));
        let (first, second) = tokio::select! {
            first = &mut v6 => match first {
                Ok(first) => (Ok(first), timeout(RESOLUTION_DELAY, v4).await.ok()),
                Err(no) => (Err(no), Some(v4.await)),
            },
            first = &mut v4 => match first {
                Ok(first) => (Ok(first), timeout(RESOLUTION_DELAY, v6).await.ok()),
                Err(no) => (Err(no), Some(v6.await)),
            },
        };
        match (first, second) {
            (Ok((mut some, ttl)), Some(Ok((more, other_ttl)))) => {
                some.extend(more);
                Ok((some, ttl.min(other_ttl)))
            }
            (Ok(found), _) | (Err(_), Some(Ok(found))) => Ok(found),
            // A plain "no" says less than a failure: the other family may well have addresses.
            (Err(Unanswered::No(..)), Some(Err(other))) => Err(other),
            (Err(first), _) => Err(first),
        }
    }

    async fn query_family(
        &self,
        name: &str,
        family: RecordType,
    ) -> Result<(Vec<IpAddr>, Duration), Unanswered> {
        let asked = self.resolver.lookup(name, family).await;
        self.servers.note(&asked);
        let lookup = asked.map_err(Unanswered::from)?;
        let ttl = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let addresses = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        });
        let addresses: Vec<IpAddr> = addresses.collect();
        if addresses.is_empty() {
            return Err(Unanswered::No("the name has no address".into(), NEGATIVE_TTL));
        }
        Ok((addresses, Duration::from_secs(ttl.into())))
    }
}

fn name_server(ip: IpAddr, port: u16) -> NameServerConfig {
    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = port;
    }
    NameServerConfig::new(ip, true, connections.into())
}

/// Why a query has no addresses.
enum Unanswered {
    /// A server said that there are none, and for how long that holds.
    No(String, Duration),
    /// A server answered that it cannot tell, or not in a way that can be understood.
    Failure(String),
    Silence,
}

impl From<Unanswered> for ConnectError {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::No(why, _) | Unanswered::Failure(why) => Self::Dns(why),
            Unanswered::Silence => Self::DnsTimeout,
        }
    }
}

impl From<NetError> for Unanswered {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Timeout => Self::Silence,
            NetError::Dns(DnsError::NoRecordsFound(no)) => {
                let ttl = no.negative_ttl.map_or(NEGATIVE_TTL, |ttl| Duration::from_secs(ttl.into()));
                Self::No(format!("the DNS says {}", no.response_code), ttl)
            }
            error => Self::Failure(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Disk;

    #[tokio::test(start_paused = true)]
    async fn after_no_such_name_old_addresses_do_not_come_back() {
        let second = Duration::from_secs(1);
        let servers = DnsServers::These(vec!["192.0.2.1:53".parse().unwrap()]);
        let dns =
            Dns::new(&config::Dns { servers, timeout: second, valid: second, stale: 3600 * second }, &Disk)
                .unwrap();
        let now = Instant::now();
        let stale: Arc<[IpAddr]> = Arc::new(["192.0.2.2".parse().unwrap()]);
        let known = |outcome| {
            let answer = Answer { outcome, expires: now, stale_until: now + 60 * second };
            let stale = Some((stale.clone(), now + 60 * second));
            let lookup = Lookup { answer: OnceCell::new_with(Some(answer)), stale };
            dns.names.lock().unwrap().insert("a.example".into(), Arc::new(lookup));
        };
        known(Err(ConnectError::Dns("no such name".into())));
        assert!(dns.current("a.example", now + second).stale.is_none());
        known(Ok(stale.clone()));
        assert!(dns.current("a.example", now + second).stale.is_some());
        known(Ok(stale.clone()));
        assert!(dns.current("a.example", now + 61 * second).stale.is_none());
    }
}
