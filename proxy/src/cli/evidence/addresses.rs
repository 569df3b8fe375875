//! By which addresses and names this machine is reached.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::document::{Interface, Listener, Name};
use crate::access::Disk;
use crate::acme::Store;
use crate::check;
use crate::config::{Config, Key, Pair};
use crate::observe::clock;
use crate::prefixes::Network;
use crate::sys;
use crate::upstream::dns::Dns;

/// How long all names together may take.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);
/// More names are left out.
const MAX_NAMES: usize = 20;

/// As the configuration has them.
pub(super) fn configured_listeners(config: &Config) -> Vec<Listener> {
    let listen = &config.listen;
    let listener = |protocol: &'static str| {
        move |address: &SocketAddr| Listener { address: address.to_string(), protocol: protocol.into() }
    };
    let https = listen.https.iter().map(listener("https"));
    let rest = listen.http.iter().map(listener("http")).chain(listen.plain.iter().map(listener("plain")));
    https.chain(rest).collect()
}

/// The names of the certificates that can be read.
pub(super) fn configured_names(config: &Config) -> Vec<String> {
    let acme = config.acme.as_ref().filter(|acme| !acme.domains.is_empty());
    let kept = acme.map(|acme| {
        let path = Store::new(acme, &Disk).certificate_path();
        Pair { cert: path.clone(), key: path }
    });
    let pairs = config.tls.iter().flat_map(|tls| &tls.pairs).chain(&kept);
    let certificates = pairs.filter_map(|pair| check::certificate(&Key::new("tls"), pair, clock::now()).0);
    certificates.flat_map(|certificate| certificate.names().to_vec()).collect()
}

/// What wildcard listeners stand for, by interface: global unicast addresses, or where there are
/// none, as behind a NAT, those that are not of one link alone.
///
/// Errors: why that can't be told.
pub(super) fn interfaces(listeners: &[Listener]) -> Result<Vec<Interface>, String> {
    let found = sys::interface_addresses()
        .map_err(|error| format!("the addresses of this machine's interfaces: {error}"))?;
    Ok(behind_wildcards(listeners, &found))
}

fn behind_wildcards(listeners: &[Listener], found: &[(String, IpAddr)]) -> Vec<Interface> {
    let wildcards: Vec<IpAddr> = listeners
        .iter()
        .filter_map(|listener| listener.address.parse::<SocketAddr>().ok())
        .map(|address| address.ip())
        .filter(IpAddr::is_unspecified)
        .collect();
    let is_listened = |address: &IpAddr| wildcards.iter().any(|any| any.is_ipv4() == address.is_ipv4());
    let listened: Vec<_> = found.iter().filter(|(_, address)| is_listened(address)).collect();
    let has_global = listened.iter().any(|(_, address)| is_global(*address));
    let is_shown = if has_global { is_global } else { is_beyond_the_link };
    let mut interfaces: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, address) in listened.into_iter().filter(|(_, address)| is_shown(*address)) {
        interfaces.entry(name).or_default().push(address.to_string());
    }
    let interface = |(name, addresses): (&str, _)| Interface { name: name.to_owned(), addresses };
    interfaces.into_iter().map(interface).collect()
}

pub(super) fn is_global(address: IpAddr) -> bool {
    let length = if address.is_ipv4() { 32 } else { 128 };
    Network::around(address, length).special_purpose().is_none()
}

/// Neither loopback nor link-local.
fn is_beyond_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    }
}

/// The names, and what the DNS says of each now. `hidden`: names that may not be told.
pub(super) fn resolve(config: &Config, names: &[String], hidden: &[&str]) -> Vec<Name> {
    let mut told: Vec<&String> = Vec::new();
    for name in names.iter().filter(|name| !hidden.contains(&name.as_str())) {
        if !told.contains(&name) && told.len() < MAX_NAMES {
            told.push(name);
        }
    }
    if told.is_empty() {
        return Vec::new();
    }
    let without = |why: &str| {
        let name =
            |name: &&String| Name { name: (*name).clone(), addresses: Vec::new(), error: Some(why.into()) };
        told.iter().map(name).collect::<Vec<_>>()
    };
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return without(&error.to_string()),
    };
    match Dns::new(&config.dns, &Disk) {
        Ok(dns) => runtime.block_on(look_up(Arc::new(dns), &told)),
        Err(error) => without(&error.to_string()),
    }
}

async fn look_up(dns: Arc<Dns>, names: &[&String]) -> Vec<Name> {
    let deadline = Instant::now() + DNS_TIMEOUT;
    let mut lookups = JoinSet::new();
    for (number, name) in names.iter().enumerate() {
        let (dns, name) = (Arc::clone(&dns), (*name).clone());
        lookups.spawn(async move { (number, look_up_one(&dns, name, deadline).await) });
    }
    let mut found = Vec::new();
    while let Some(outcome) = lookups.join_next().await {
        found.extend(outcome.ok());
    }
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, name)| name).collect()
}

async fn look_up_one(dns: &Dns, name: String, deadline: Instant) -> Name {
    if name.starts_with("*.") {
        return Name { name, addresses: Vec::new(), error: Some("a wildcard has no addresses".into()) };
    }
    let outcome = match timeout_at(deadline, dns.lookup(&name)).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", DNS_TIMEOUT.as_secs())),
    };
    match outcome {
        Ok(addresses) => {
            let mut addresses: Vec<IpAddr> = addresses.to_vec();
            addresses.sort();
            Name { name, addresses: addresses.iter().map(IpAddr::to_string).collect(), error: None }
        }
        Err(error) => Name { name, addresses: Vec::new(), error: Some(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str) -> Listener {
        Listener { address: address.into(), protocol: "https".into() }
    }

    #[test]
    fn wildcards_stand_for_global_addresses_of_their_family() {
        let found = [
            ("lo", "127.0.0.1"),
            ("eth0", "9.9.9.9"),
            ("eth0", "10.0.0.7"),
            ("eth0", "fe80::1"),
            ("eth0", "2a00:1450::7"),
            ("wg0", "fd00::1"),
        ];
        let found = found.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
        let shown = |address: &str| {
            let interfaces = behind_wildcards(&[listener(address)], &found);
            interfaces.into_iter().map(|interface| (interface.name, interface.addresses)).collect::<Vec<_>>()
        };
        assert_eq!(shown("0.0.0.0:443"), [("eth0".into(), vec!["9.9.9.9".to_owned()])]);
        assert_eq!(shown("[::]:443"), [("eth0".into(), vec!["2a00:1450::7".to_owned()])]);
        assert_eq!(shown("9.9.9.9:443"), []);
        let found = [("lo", "127.0.0.1"), ("eth0", "10.0.0.7"), ("eth0", "169.254.0.7")];
        let found = found.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
        let behind_nat = behind_wildcards(&[listener("0.0.0.0:443")], &found);
        assert_eq!(behind_nat, [Interface { name: "eth0".into(), addresses: vec!["10.0.0.7".into()] }]);
    }

    #[test]
    fn names_that_the_dns_does_not_answer_for_have_an_error_in_time() {
        let text =
            "[listen]\nplain = [\"127.0.0.1:80\"]\n[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"1s\"\n";
        let config = Config::parse(std::path::Path::new("hookgate.toml"), text).unwrap();
        let names = ["a.example", "a.example", "tenant.example", "*.b.example"].map(str::to_owned);
        let begun = Instant::now();
        let found = resolve(&config, &names, &["tenant.example"]);
        assert!(begun.elapsed() < 2 * DNS_TIMEOUT);
        let names: Vec<_> = found.iter().map(|name| (&*name.name, name.error.is_some())).collect();
        assert_eq!(names, [("a.example", true), ("*.b.example", true)]);
    }
}
