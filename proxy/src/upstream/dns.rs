//! Names to addresses: the configured servers only, one query per name at a time, answers kept
//! within bounds.

mod resolv_conf;
mod routes;
mod server;
mod servers;
mod sockets;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};

use super::ConnectError;
use crate::access::Access;
use crate::config::{self, DnsServer, DnsServers};
use routes::Family;
use server::{QueryError, Records};
use servers::Servers;

pub use servers::DnsState;
pub use sockets::has_interface;

/// Where the machine's own servers stand (resolv.conf(5)).
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long the second family is waited for when the first has answered (RFC 8305 §3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long a refresh may hold up those who could have a stale answer (RFC 8767 §5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);
/// How long a stale answer serves before the servers are asked again (RFC 8767 §5).
const STALE_TTL: Duration = Duration::from_secs(30);
/// How long IPv6 addresses are kept when no server told the IPv4 ones in time.
const WITHOUT_IPV4_TTL: Duration = Duration::from_secs(5);
/// How long a failure is kept, so that a burst of requests is one query.
const FAILURE_TTL: Duration = Duration::from_secs(1);

/// The resolver and what it has learned. Names come from the allowlist, so there are never more
/// than that.
pub struct Dns {
    settings: config::Dns,
    names: Mutex<HashMap<Box<str>, Arc<Lookup>>>,
    servers: Servers,
}

/// One name's question, asked once, by the first caller.
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

/// The servers to ask.
#[derive(Debug)]
pub struct NamedServers {
    /// At least one.
    pub servers: Vec<DnsServer>,
    /// A sentence for each line of resolv.conf that names no usable server.
    pub unusable: Vec<String>,
}

/// The DNS cannot be asked as configured.
#[derive(Debug, thiserror::Error)]
pub enum BadDns {
    #[error(
        "[dns] servers = \"system\": cannot read {RESOLV_CONF}: {0}: write that file, or servers = [\"IP\"] in [dns]"
    )]
    Unreadable(io::Error),
    #[error(
        "[dns] servers = \"system\": no server in {RESOLV_CONF}{}: write a line `nameserver IP` there, or \
         servers = [\"IP\"] in [dns]",
        .0.iter().map(|unusable| format!("; {unusable}")).collect::<String>()
    )]
    NoServer(Vec<String>),
}

impl NamedServers {
    /// Reads them from `settings`, or from resolv.conf.
    pub fn of(settings: &config::Dns, access: &dyn Access) -> Result<Self, BadDns> {
        let text = match &settings.servers {
            DnsServers::These(servers) => {
                return Ok(Self { servers: servers.clone(), unusable: Vec::new() });
            }
            DnsServers::System => access.read(Path::new(RESOLV_CONF)).map_err(BadDns::Unreadable)?,
        };
        let resolv_conf::ResolvConf { servers, unusable } = resolv_conf::parse(&text);
        let unusable = unusable.into_iter().map(|(line, written)| {
            format!("{RESOLV_CONF}, line {line}: {written:?} is not the address of a server")
        });
        let unusable = unusable.collect();
        if servers.is_empty() { Err(BadDns::NoServer(unusable)) } else { Ok(Self { servers, unusable }) }
    }
}

impl Dns {
    pub fn new(settings: &config::Dns, access: &dyn Access) -> Result<Self, BadDns> {
        Ok(Self::asking(NamedServers::of(settings, access)?.servers, settings))
    }

    /// Asks `servers` in place of those in `settings`.
    pub fn asking(servers: Vec<DnsServer>, settings: &config::Dns) -> Self {
        let servers = Servers::new(servers, settings.timeout);
        Self { settings: settings.clone(), names: Mutex::default(), servers }
    }

    /// Returns the same value, with its cache, if neither `settings` nor resolv.conf changed.
    pub fn renewed(
        self: &Arc<Self>,
        settings: &config::Dns,
        access: &dyn Access,
    ) -> Result<Arc<Self>, BadDns> {
        let NamedServers { servers, .. } = NamedServers::of(settings, access)?;
        if self.settings == *settings && self.servers.written().eq(&servers) {
            return Ok(Arc::clone(self));
        }
        Ok(Arc::new(Self::asking(servers, settings)))
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

    /// The addresses of `name` as the servers have them now, each with its TTL, at least one.
    /// Nothing is kept, and both families are waited for.
    pub async fn records(&self, name: &str) -> Result<Vec<(IpAddr, Duration)>, ConnectError> {
        let (name, deadline) = (absolute_name(name)?, Instant::now() + self.settings.timeout);
        let (v6, v4) =
            tokio::join!(self.ask(&name, Family::V6, deadline), self.ask(&name, Family::V4, deadline));
        let with_ttl = |Records { addresses, ttl }: Records| {
            addresses.into_iter().map(|address| (address, ttl)).collect::<Vec<_>>()
        };
        match (v6, v4) {
            (Ok(v6), Ok(v4)) => Ok([with_ttl(v6), with_ttl(v4)].concat()),
            (Ok(some), Err(_)) | (Err(_), Ok(some)) => Ok(with_ttl(some)),
            (Err(QueryError::No(..)), Err(other)) => Err(other.into()),
            (Err(first), Err(_)) => Err(first.into()),
        }
    }

    pub fn state(&self) -> DnsState {
        self.servers.state()
    }

    /// Whether it is time for [`Dns::ask_servers`]; a caller that gets `true` must call it.
    pub fn begin_query(&self) -> bool {
        self.servers.begin_query()
    }

    /// Finds out whether any server answers, if only that it does not know. Takes twice the
    /// configured time when none does.
    pub async fn ask_servers(self: Arc<Self>) {
        self.servers.ask(self.settings.timeout).await;
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
        let found = self.query(name, Instant::now() + patience).await;
        let now = Instant::now();
        let kept = |ttl: Duration, outcome| {
            let expires = now + ttl.min(self.settings.valid);
            Answer { outcome, expires, stale_until: expires + self.settings.stale }
        };
        match (found, stale) {
            (Ok(Records { addresses, ttl }), _) => kept(ttl, Ok(addresses.into())),
            (Err(no @ QueryError::No(_, ttl)), _) => kept(ttl, Err(no.into())),
            (Err(_), Some((addresses, until))) => {
                let expires = (now + STALE_TTL).min(until);
                Answer { outcome: Ok(addresses), expires, stale_until: until }
            }
            (Err(why), None) => kept(FAILURE_TTL, Err(why.into())),
        }
    }

    /// Asks for both families at once; one that answers waits only a moment for the other.
    async fn query(&self, name: &str, deadline: Instant) -> Result<Records, QueryError<String>> {
        let name = absolute_name(name)?;
        let mut v6 = std::pin::pin!(self.ask(&name, Family::V6, deadline));
        let mut v4 = std::pin::pin!(self.ask(&name, Family::V4, deadline));
        let (first, second) = tokio::select! {
            first = &mut v6 => match first {
                Ok(first) => (Ok(first), timeout(second_family_delay(Family::V6), v4).await.ok()),
                Err(no) => (Err(no), Some(v4.await)),
            },
            first = &mut v4 => match first {
                Ok(first) => (Ok(first), timeout(second_family_delay(Family::V4), v6).await.ok()),
                Err(no) => (Err(no), Some(v6.await)),
            },
        };
        match (first, second) {
            (Ok(mut some), Some(Ok(more))) => {
                some.addresses.extend(more.addresses);
                Ok(Records { ttl: some.ttl.min(more.ttl), ..some })
            }
            (Ok(whole), Some(Err(QueryError::No(..)))) | (Err(QueryError::No(..)), Some(Ok(whole))) => {
                Ok(whole)
            }
            (Ok(part), _) | (Err(_), Some(Ok(part))) => {
                let longest = if part.has_ipv4() { part.ttl } else { WITHOUT_IPV4_TTL };
                Ok(Records { ttl: part.ttl.min(longest), ..part })
            }
            // A plain "no" says less than a failure: the other family may well have addresses.
            (Err(QueryError::No(..)), Some(Err(other))) => Err(other),
            (Err(first), _) => Err(first),
        }
    }

    async fn ask(
        &self,
        name: &Name,
        family: Family,
        deadline: Instant,
    ) -> Result<Records, QueryError<String>> {
        let (kind, loopback) = match family {
            Family::V4 => (RecordType::A, Ipv4Addr::LOCALHOST.into()),
            Family::V6 => (RecordType::AAAA, Ipv6Addr::LOCALHOST.into()),
        };
        // Loopback by definition (RFC 6761 §6.3).
        if name.iter().next_back().is_some_and(|label| label.eq_ignore_ascii_case(b"localhost")) {
            return Ok(Records { addresses: vec![loopback], ttl: self.settings.valid });
        }
        self.servers.addresses(name, kind, deadline).await
    }
}

/// With the final dot the name is absolute.
fn absolute_name(name: &str) -> Result<Name, QueryError<String>> {
    let absolute = Name::from_utf8(format!("{name}."));
    absolute.map_err(|error: ProtoError| QueryError::Failure(format!("{name} can't be asked for: {error}")))
}

/// How long the other family is waited for once `family` has answered.
fn second_family_delay(family: Family) -> Duration {
    // Without a route to them, the addresses of this family are useless.
    let is_useless = !family.has_default_route() && family.other().has_default_route();
    if is_useless { Duration::MAX } else { RESOLUTION_DELAY }
}

impl From<QueryError<String>> for ConnectError {
    fn from(why: QueryError<String>) -> Self {
        match why {
            QueryError::No(why, _) => Self::NoName(why),
            QueryError::Failure(why) => Self::Dns(why),
            QueryError::Unreachable(why) => Self::NoDns(why),
            QueryError::Silence(others) => Self::DnsTimeout(others),
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
        let servers = DnsServers::These(vec!["192.0.2.1".parse().unwrap()]);
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
        known(Err(ConnectError::NoName("no such name".into())));
        assert!(dns.current("a.example", now + second).stale.is_none());
        known(Ok(stale.clone()));
        assert!(dns.current("a.example", now + second).stale.is_some());
        known(Ok(stale.clone()));
        assert!(dns.current("a.example", now + 61 * second).stale.is_none());
    }
}
