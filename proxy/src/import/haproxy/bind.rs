//! `bind` lines: where a frontend listens, and with which certificates.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::import::directive::Directive;
use crate::import::notes::{Group, Notes};
use crate::import::plan::Pair;

/// One line.
#[derive(Debug)]
pub struct Bind<'d> {
    pub directive: &'d Directive,
    pub addresses: Vec<SocketAddr>,
    pub is_tls: bool,
    /// PEM files with a chain and its key.
    certificates: Vec<&'d str>,
    pub has_proxy_header: bool,
    asks_for_certificate: Option<&'d str>,
    notes: Vec<(Group, String)>,
}

/// Parameters that stand alone, with which requests and responses are the same.
const FLAGS: &[&str] = &[
    "allow-0rtt",
    "defer-accept",
    "force-tlsv12",
    "force-tlsv13",
    "no-sslv3",
    "no-tls-tickets",
    "no-tlsv10",
    "no-tlsv11",
    "prefer-client-ciphers",
    "ssl",
    "strict-sni",
    "tfo",
    "transparent",
    "v4v6",
    "v6only",
];
/// The same of parameters with a value.
const WITH_VALUE: &[&str] = &[
    "alpn",
    "backlog",
    "ca-file",
    "ca-sign-file",
    "ca-verify-file",
    "ciphers",
    "ciphersuites",
    "crt",
    "curves",
    "ecdhe",
    "gid",
    "group",
    "guid-prefix",
    "id",
    "interface",
    "level",
    "maxconn",
    "mode",
    "mss",
    "name",
    "nbconn",
    "nice",
    "npn",
    "process",
    "proto",
    "shards",
    "ssl-max-ver",
    "ssl-min-ver",
    "tcp-ut",
    "thread",
    "tls-ticket-keys",
    "uid",
    "user",
    "verify",
];

impl<'d> Bind<'d> {
    pub fn new(directive: &'d Directive) -> Self {
        let mut bind = Self {
            directive,
            addresses: Vec::new(),
            is_tls: false,
            certificates: Vec::new(),
            has_proxy_header: false,
            asks_for_certificate: None,
            notes: Vec::new(),
        };
        let (addresses, parameters) =
            directive.arguments.split_first().map_or(("", &[][..]), |(a, p)| (&**a, p));
        let is_dual = parameters.iter().any(|word| word == "v4v6");
        for text in addresses.split(',') {
            match address(text) {
                Some(address) if is_dual && address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                    bind.addresses.extend([address, ([0, 0, 0, 0], address.port()).into()]);
                }
                Some(address) => bind.addresses.push(address),
                None => {
                    let why =
                        format!("left out: `{text}` is no address with a port: write one under [listen]");
                    bind.notes.push((Group::Elsewhere, why));
                }
            }
        }
        bind.addresses.sort();
        let mut rest = parameters.iter().map(String::as_str);
        while let Some(word) = rest.next() {
            let value = if WITH_VALUE.contains(&word) { rest.next() } else { None };
            match (word, value) {
                ("ssl", _) => bind.is_tls = true,
                ("accept-proxy", _) => bind.has_proxy_header = true,
                ("crt", Some(file)) => bind.certificates.push(file),
                ("verify", Some(mode)) => {
                    bind.asks_for_certificate = Some(mode).filter(|mode| *mode != "none")
                }
                ("crl-file" | "crt-list" | "accept-netscaler-cip", _) => {
                    rest.next();
                    bind.notes
                        .push((Group::Elsewhere, format!("left out: `{word}`: write [tls] certs by hand")));
                }
                (word, value) if value.is_some() || FLAGS.contains(&word) => {}
                (word, _) => {
                    bind.notes.push((Group::Different, format!("what `{word}` does is not understood")))
                }
            }
        }
        bind
    }

    /// Tells what is left out, of a listener that is carried over.
    pub fn note(&self, notes: &mut Notes) {
        for (group, why) in &self.notes {
            notes.add(*group, self.directive, &**why);
        }
        match self.asks_for_certificate.filter(|_| self.is_tls) {
            Some("required") => notes.add(
                Group::Open,
                self.directive,
                "HAProxy refuses clients without a certificate, hookgate forwards their requests: write [tls] client_ca, and \
                 require_client_cert = true for each upstream",
            ),
            Some(_) => {
                notes.add(Group::Different, self.directive, "hookgate does not ask for client certificates here");
            }
            None => {}
        }
    }

    /// Adds the certificates; `base` makes a path absolute.
    pub fn take_certificates(&self, base: &dyn Fn(&str) -> String, pairs: &mut Vec<Pair>, notes: &mut Notes) {
        for file in self.certificates.iter().filter(|_| self.is_tls) {
            let cert = base(file);
            if Path::new(&cert).is_dir() || file.starts_with('@') {
                let why = "left out: write each certificate of this folder with its key under [tls] certs";
                notes.add(Group::Elsewhere, self.directive, why);
                continue;
            }
            // The key is in the same file, or beside it.
            let beside = format!("{cert}.key");
            let key = if Path::new(&beside).is_file() { beside } else { cert.clone() };
            let pair = Pair { cert, key };
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    let (is_v6, text) = match text.split_once('@') {
        Some(("ipv4", text)) => (false, text),
        Some(("ipv6", text)) => (true, text),
        Some(_) => return None,
        None => (false, text),
    };
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let ip = match host.trim_start_matches('[').trim_end_matches(']') {
        "" | "*" if is_v6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "" | "*" => IpAddr::from([0, 0, 0, 0]),
        ip => ip.parse().ok()?,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("*:443", Some("0.0.0.0:443")),
            (":80", Some("0.0.0.0:80")),
            ("192.0.2.1:443", Some("192.0.2.1:443")),
            ("[::1]:443", Some("[::1]:443")),
            (":::443", Some("[::]:443")),
            ("ipv6@:443", Some("[::]:443")),
            ("unix@/run/h.sock", None),
            ("*:80-90", None),
            ("*", None),
            ("relay.example:80", None),
        ] {
            assert_eq!(address(text), expected.and_then(|text| text.parse().ok()), "{text}");
        }
    }
}
