use std::net::{IpAddr, SocketAddr};

use tokio::time::Instant;

use super::report::{Failure, Name, Names};
use crate::config::Upstream;
use crate::upstream::addresses::{interleave, special_purpose};
use crate::upstream::{ConnectError, Dns};

/// The addresses that the upstream's name may lead to, in the order in which they are tried.
pub async fn addresses(
    upstream: &Upstream,
    dns: &Dns,
    report: &mut Option<Names>,
) -> Result<Vec<SocketAddr>, Failure> {
    let begun = Instant::now();
    let records = dns.records(&upstream.name).await.map_err(|error| failure(upstream, &error))?;
    let left_out = |address| if upstream.allow_private { None } else { special_purpose(address) };
    let names = records.iter().map(|(address, ttl)| Name {
        address: *address,
        ttl_seconds: ttl.as_secs(),
        left_out: left_out(*address),
    });
    let names = Names { took: begun.elapsed(), addresses: names.collect() };
    let allowed = names.addresses.iter().filter(|name| name.left_out.is_none());
    let allowed: Vec<IpAddr> = allowed.map(|name| name.address).collect();
    *report = Some(names);
    if allowed.is_empty() {
        return Err(failure(upstream, &ConnectError::Prohibited));
    }
    Ok(interleave(&allowed).into_iter().map(|ip| SocketAddr::new(ip, upstream.port)).collect())
}

fn failure(upstream: &Upstream, error: &ConnectError) -> Failure {
    let next = match error {
        ConnectError::DnsTimeout(_) => {
            "is UDP and TCP to port 53 open from here? `hookgate doctor` asks each of [dns] servers".into()
        }
        ConnectError::Prohibited => {
            "write allow_private = true for this upstream if it lies in your own network".into()
        }
        ConnectError::NoDns(_) => {
            "`ip route` and `ip -6 route` show where this machine can send; `hookgate doctor` asks each of [dns] \
             servers"
                .into()
        }
        ConnectError::Dns(_) => {
            "`hookgate doctor` says which of [dns] servers answer; name others that resolve this name".into()
        }
        _ => format!(
            "does {} exist? write the name as its DNS has it, or give its address; `hookgate doctor` says which of \
             [dns] servers answer",
            upstream.name
        ),
    };
    Failure { step: "DNS", error: error.to_string(), next }
}
