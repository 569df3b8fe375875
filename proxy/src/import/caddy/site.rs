//! A site: its addresses, its certificates, and what it does with requests.

use std::net::{IpAddr, SocketAddr};

use super::level::Level;
use super::matcher::NamedMatchers;
use super::options::Options;
use super::trace::Trace;
use crate::import::directive::Directive;
use crate::import::follow::{Assumptions, End, Request};
use crate::import::gather::Relay;
use crate::import::notes::{Group, Notes};

/// A site block.
#[derive(Debug)]
pub struct Site<'d> {
    pub directive: &'d Directive,
    pub addresses: Vec<Address>,
    block: &'d [Directive],
    level: Level<'d>,
    order: Option<&'d Directive>,
}

/// As it stands before a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Empty: any.
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
}

/// Where a site's certificate comes from.
#[derive(Debug, PartialEq, Eq)]
pub enum Certificate<'d> {
    Files {
        cert: &'d str,
        key: &'d str,
    },
    /// From an authority, with an address for it.
    Authority {
        email: Option<&'d str>,
    },
    /// Of Caddy's own authority, or in a way that hookgate has not.
    Other,
}

impl<'d> Site<'d> {
    /// `addresses`: what stands before the block.
    pub fn new(
        directive: &'d Directive,
        block: &'d [Directive],
        options: &Options<'d>,
        notes: &mut Notes,
    ) -> Self {
        let words = std::iter::once(&directive.name).chain(&directive.arguments);
        let words = words.flat_map(|word| word.split(',')).filter(|word| !word.is_empty());
        let has_tls = block.iter().any(|inside| inside.name == "tls");
        let mut addresses = Vec::new();
        for word in words {
            match address(word, has_tls, options) {
                Some(address) => addresses.push(address),
                None => {
                    let why = format!("left out: `{word}` is no address that is known before Caddy starts");
                    notes.add(Group::Elsewhere, directive, why);
                }
            }
        }
        let level = Level::new(block, &NamedMatchers::new(), false);
        Self { directive, addresses, block, level, order: options.order }
    }

    /// Where the site listens with a port.
    pub fn sockets(&self, port: u16, notes: &mut Notes) -> Vec<SocketAddr> {
        let mut sockets = Vec::new();
        let mut binds = self.block.iter().filter(|inside| inside.name == "bind").peekable();
        if binds.peek().is_none() {
            sockets.extend([([0, 0, 0, 0], port).into(), ([0; 8], port).into()] as [SocketAddr; 2]);
        }
        for bind in binds {
            for text in &bind.arguments {
                match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
                    Ok(ip) => sockets.push((ip, port).into()),
                    Err(_) => {
                        let why = format!("left out: `{text}` is no address: write one under [listen]");
                        notes.add(Group::Elsewhere, bind, why);
                    }
                }
            }
        }
        sockets.sort();
        sockets
    }

    pub fn certificate(&self, options: &Options<'d>) -> Certificate<'d> {
        let mut certificate = Certificate::Authority { email: options.email };
        if !options.gets_certificates {
            certificate = Certificate::Other;
        }
        for tls in self.block.iter().filter(|inside| inside.name == "tls") {
            match &*tls.arguments {
                [cert, key] if ![cert, key].iter().any(|path| path.contains('{')) => {
                    return Certificate::Files { cert, key };
                }
                [email] if email.contains('@') => certificate = Certificate::Authority { email: Some(email) },
                [] => {}
                _ => certificate = Certificate::Other,
            }
            let block = || tls.block.iter().flatten();
            if block()
                .any(|inside| matches!(&*inside.name, "issuer" | "get_certificate" | "on_demand" | "load"))
            {
                certificate = Certificate::Other;
            }
        }
        certificate
    }

    /// Tells what a `tls` block says beside the certificate.
    pub fn note_tls(&self, notes: &mut Notes) {
        let blocks = self.block.iter().filter(|inside| inside.name == "tls").flat_map(|tls| &tls.block);
        for inside in blocks.flatten() {
            let modes = inside.block.iter().flatten().filter(|inside| inside.name == "mode");
            let mut modes = modes.flat_map(|mode| &mode.arguments);
            match &*inside.name {
                "client_auth" if modes.any(|mode| matches!(&**mode, "request" | "verify_if_given")) => {
                    notes.add(Group::Different, inside, "hookgate does not ask for client certificates here");
                }
                "client_auth" => notes.add(
                    Group::Open,
                    inside,
                    "Caddy refuses clients without a certificate, hookgate forwards their requests: write [tls] client_ca, and \
                     require_client_cert = true for each upstream",
                ),
                "alpn" | "ciphers" | "curves" | "protocols" | "key_type" => notes.add(Group::NoConsequence, inside, ""),
                _ => notes.add(
                    Group::Different,
                    inside,
                    "hookgate gets certificates from [acme] directory, by http-01 or tls-alpn-01, or reads those of [tls]",
                ),
            }
        }
    }
}

impl<'d> Relay<'d> for Site<'d> {
    fn directive(&self) -> &'d Directive {
        self.directive
    }

    fn follow(&self, request: &Request<'_>, assumptions: &mut Assumptions<'d>) -> End<'d> {
        if let Some(directive) = self.order {
            let why = "it changes the order in which directives run".to_owned();
            return End::Undecided { directive, why };
        }
        Trace::new(request, assumptions).run(&self.level).unwrap_or(End::Unhandled)
    }
}

/// `None`: it depends on the environment, or has a path.
fn address(word: &str, has_tls: bool, options: &Options<'_>) -> Option<Address> {
    let (scheme, rest) = word.split_once("://").map_or(("", word), |(scheme, rest)| (scheme, rest));
    if rest.contains(['{', '/']) || !matches!(scheme, "" | "http" | "https") {
        return None;
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().ok()?)),
        _ => (rest, None),
    };
    let port = port.unwrap_or(if scheme == "http" { options.http_port } else { options.https_port });
    let is_plain_port = port == options.http_port && scheme != "https";
    let is_tls = match scheme {
        "http" => false,
        "https" => true,
        _ => {
            !is_plain_port
                && (has_tls || port == options.https_port || (!host.is_empty() && options.gets_certificates))
        }
    };
    Some(Address { host: host.to_ascii_lowercase(), port, is_tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let options = Options::new(&[], &mut Notes::default());
        let read = |word| address(word, false, &options).map(|a| (a.host, a.port, a.is_tls));
        for (word, expected) in [
            ("a.example", Some(("a.example", 443, true))),
            ("http://a.example", Some(("a.example", 80, false))),
            ("a.example:8443", Some(("a.example", 8443, true))),
            (":8080", Some(("", 8080, false))),
            (":443", Some(("", 443, true))),
            (":80", Some(("", 80, false))),
            ("https://[::1]:9", Some(("[::1]", 9, true))),
            ("a.example/x", None),
            ("{$SITE}", None),
            ("a:99999", None),
        ] {
            let expected = expected.map(|(host, port, is_tls)| (host.to_owned(), port, is_tls));
            assert_eq!(read(word), expected, "{word}");
        }
    }
}
