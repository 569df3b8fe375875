//! Whether each DNS server answers, and how fast.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Finding;
use super::finding::Level;
use crate::access::Disk;
use crate::config::{self, Config, DnsServers, RegistryHost};
use crate::upstream::{ConnectError, Dns};

pub async fn findings(config: &Config) -> Vec<Finding> {
    let Some(name) = name(config) else {
        return vec![Finding::ok("DNS", "not needed: nothing is configured by name")];
    };
    let servers: Vec<(String, DnsServers)> = match &config.dns.servers {
        DnsServers::System => vec![("/etc/resolv.conf".into(), DnsServers::System)],
        DnsServers::These(servers) => servers.iter().map(|server| one(*server)).collect(),
    };
    let mut answers = Vec::new();
    for (subject, servers) in servers {
        let begun = Instant::now();
        let outcome = ask(config::Dns { servers, ..config.dns.clone() }, name).await;
        answers.push((format!("DNS {subject}"), outcome, begun.elapsed()));
    }
    judged(name, answers)
}

fn one(server: SocketAddr) -> (String, DnsServers) {
    (server.to_string(), DnsServers::These(vec![server]))
}

/// A name that the configuration needs.
fn name(config: &Config) -> Option<&str> {
    let upstream = config.upstreams.iter().find(|upstream| upstream.address.is_none());
    let registry = match &config.prefixes.registry.host {
        RegistryHost::Name(name) => Some(&**name),
        RegistryHost::Address(_) => None,
    };
    upstream.map(|upstream| &*upstream.name).or(registry)
}

async fn ask(settings: config::Dns, name: &str) -> Result<(), Failure> {
    let dns = Dns::new(&settings, &Disk).map_err(|error| Failure::SetUp(error.to_string()))?;
    dns.lookup(name).await.map(|_| ()).map_err(Failure::Lookup)
}

enum Failure {
    SetUp(String),
    Lookup(ConnectError),
}

/// A server that fails is bad only where no other one works.
fn judged(name: &str, answers: Vec<(String, Result<(), Failure>, Duration)>) -> Vec<Finding> {
    let one_works = answers.iter().any(|(_, outcome, _)| outcome.is_ok());
    let level = if one_works { Level::Warn } else { Level::Fail };
    let finding = |(subject, outcome, took): (String, Result<(), Failure>, Duration)| {
        let took = took.as_millis();
        match outcome {
            Ok(()) => Finding::ok(subject, format!("{name} in {took} ms")),
            Err(Failure::SetUp(error)) => Finding::wrong(level, subject, error, "correct [dns] servers"),
            Err(Failure::Lookup(ConnectError::DnsTimeout)) => {
                let next = "is UDP and TCP to port 53 open from here? name other [dns] servers";
                Finding::wrong(level, subject, format!("no answer within {took} ms"), next)
            }
            Err(Failure::Lookup(error)) => {
                let next = format!("does {name} exist? name it as it is, or other [dns] servers");
                Finding::wrong(level, subject, format!("{name}: {error} ({took} ms)"), next)
            }
        }
    };
    answers.into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_that_works_is_enough() {
        let levels = |outcomes: Vec<Result<(), Failure>>| {
            let took = Duration::from_millis(7);
            let answers =
                outcomes.into_iter().map(|outcome| ("1.1.1.1:53".to_owned(), outcome, took)).collect();
            judged("a.example", answers).iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        let silent = || Err(Failure::Lookup(ConnectError::DnsTimeout));
        let unknown = || Err(Failure::Lookup(ConnectError::Dns("no such name".into())));
        assert_eq!(levels(vec![Ok(()), silent()]), [Level::Ok, Level::Warn]);
        assert_eq!(levels(vec![silent(), unknown()]), [Level::Fail, Level::Fail]);
        assert_eq!(levels(vec![Ok(())]), [Level::Ok]);
    }
}
