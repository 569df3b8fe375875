//! Whether each DNS server answers, and how fast.

use std::time::Duration;

use tokio::time::Instant;

use super::Finding;
use super::finding::Level;
use crate::access::Disk;
use crate::config::{Config, DnsServers, RegistryHost};
use crate::upstream::ConnectError;
use crate::upstream::dns::{Dns, NamedServers, RESOLV_CONF};

pub async fn findings(config: &Config) -> Vec<Finding> {
    let Some(Need { name, worst }) = need(config) else {
        return vec![Finding::ok("DNS", "not needed: nothing is configured by name")];
    };
    // Faults of resolv.conf are reported with the configuration.
    let Ok(NamedServers { servers, .. }) = NamedServers::of(&config.dns, &Disk) else { return Vec::new() };
    let mut answers = Vec::new();
    for server in servers {
        let subject = match config.dns.servers {
            DnsServers::System => format!("DNS {} ({RESOLV_CONF})", server.with_port()),
            DnsServers::These(_) => format!("DNS {}", server.with_port()),
        };
        let begun = Instant::now();
        let outcome = Dns::asking(vec![server], &config.dns).lookup(name).await.map(drop);
        answers.push((subject, outcome, begun.elapsed()));
    }
    let are_defaults = config.dns.servers == DnsServers::default();
    judged(name, answers, worst, are_defaults)
}

/// A name that the configuration needs, and how bad it is when no server knows it.
struct Need<'c> {
    name: &'c str,
    worst: Level,
}

/// Requests wait for upstreams' names. Where each has an `address`, as `/ready` has it, nothing is
/// asked for them: a refresh of the prefixes alone fails.
fn need(config: &Config) -> Option<Need<'_>> {
    let upstream = config.upstreams.iter().find(|upstream| upstream.address.is_none());
    let registry = match &config.prefixes.registry.host {
        RegistryHost::Name(name) => Some(Need { name, worst: Level::Warn }),
        RegistryHost::Address(_) => None,
    };
    upstream.map(|upstream| Need { name: &upstream.name, worst: Level::Fail }).or(registry)
}

/// A failing server is a warning while another one works; otherwise as bad as `worst`.
/// `are_defaults`: the list serves machines with one address family, so a missing route is
/// expected.
fn judged(
    name: &str,
    answers: Vec<(String, Result<(), ConnectError>, Duration)>,
    worst: Level,
    are_defaults: bool,
) -> Vec<Finding> {
    let one_works = answers.iter().any(|(_, outcome, _)| outcome.is_ok());
    let level = if one_works { Level::Warn } else { worst };
    let finding = |(subject, outcome, took): (String, Result<(), ConnectError>, Duration)| {
        let took = took.as_millis();
        match outcome {
            Ok(()) => Finding::ok(subject, format!("{name} in {took} ms")),
            Err(ConnectError::DnsTimeout(_)) => {
                let next = "is UDP and TCP to port 53 open from here? name other [dns] servers";
                Finding::wrong(level, subject, format!("no answer within {took} ms"), next)
            }
            Err(ConnectError::NoDns(_)) if one_works && are_defaults => {
                Finding::ok(subject, "not asked: no route to it; another one answers")
            }
            Err(ConnectError::NoDns(error)) => {
                let next = "`ip route` and `ip -6 route` show where this machine can send";
                Finding::wrong(level, subject, error, next)
            }
            Err(ConnectError::NoName(error)) => {
                let next = format!("does {name} exist? name it as it is, or other [dns] servers");
                Finding::wrong(level, subject, format!("{name}: {error} ({took} ms)"), next)
            }
            Err(error) => {
                let next = "name other [dns] servers, which resolve this name";
                Finding::wrong(level, subject, format!("{name}: {error} ({took} ms)"), next)
            }
        }
    };
    answers.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(outcomes: Vec<Result<(), ConnectError>>, are_defaults: bool) -> Vec<Level> {
        let took = Duration::from_millis(7);
        let answers = outcomes.into_iter().map(|outcome| ("1.1.1.1:53".to_owned(), outcome, took)).collect();
        judged("a.example", answers, Level::Fail, are_defaults).iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn one_server_that_works_is_enough() {
        let silent = || Err(ConnectError::DnsTimeout(None));
        let unknown = || Err(ConnectError::NoName("no such name".into()));
        assert_eq!(levels(vec![Ok(()), silent()], false), [Level::Ok, Level::Warn]);
        assert_eq!(levels(vec![silent(), unknown()], false), [Level::Fail, Level::Fail]);
        assert_eq!(levels(vec![Ok(())], false), [Level::Ok]);
    }

    #[test]
    fn a_family_that_the_machine_lacks_is_no_warning_with_the_defaults() {
        let unreachable = || Err(ConnectError::NoDns("no route".into()));
        assert_eq!(levels(vec![Ok(()), unreachable()], true), [Level::Ok, Level::Ok]);
        assert_eq!(levels(vec![Ok(()), unreachable()], false), [Level::Ok, Level::Warn]);
        assert_eq!(levels(vec![unreachable(), unreachable()], true), [Level::Fail, Level::Fail]);
    }
}
