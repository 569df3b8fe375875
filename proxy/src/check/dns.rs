//! `[dns]`: whether there is a server to ask.

use super::Diagnostic;
use crate::access::Disk;
use crate::config::{Config, DnsServer, DnsServers, Key, Severity};
use crate::upstream::dns::{NamedServers, has_interface};

pub(super) fn faults(config: &Config) -> Vec<Diagnostic> {
    match NamedServers::of(&config.dns, &Disk) {
        Ok(named) => servers(&named, |number| key(config, number)),
        Err(error) => vec![Diagnostic::of(Severity::Fatal, Key::new("dns.servers"), &error)],
    }
}

fn key(config: &Config, number: usize) -> Key {
    match config.dns.servers {
        DnsServers::System => Key::new("dns.servers"),
        DnsServers::These(_) => Key::new("dns.servers").element(number),
    }
}

/// `key`: where the server of that number is written.
fn servers(named: &NamedServers, key: impl Fn(usize) -> Key) -> Vec<Diagnostic> {
    let unusable = named.unusable.iter().map(|text| {
        Diagnostic::new(Severity::Warning, key(0), text, "correct that line; the others are asked meanwhile")
    });
    let is_missing = |server: &DnsServer| server.interface.as_ref().is_some_and(|name| !has_interface(name));
    // The interface may come later. Until then no name can be resolved.
    let severity = match named.servers.iter().all(is_missing) {
        true => Severity::Error,
        false => Severity::Warning,
    };
    let of_server = |(number, server): (usize, &DnsServer)| {
        if is_missing(server) {
            let text = format!("{server}: this machine has no interface of that name");
            let next = "`ip link` lists those it has; name others in [dns] servers";
            return Some(Diagnostic::new(severity, key(number), text, next));
        }
        server.lacks_zone().then(|| {
            let text = format!("{server} is a link-local address without its interface");
            Diagnostic::new(Severity::Warning, key(number), text, format!("write \"{server}%INTERFACE\""))
        })
    };
    unusable.chain(named.servers.iter().enumerate().filter_map(of_server)).collect()
}
