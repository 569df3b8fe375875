//! Where `proxy_pass` leads: URLs, and the servers of `upstream` blocks.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::values::bare_ip;
use crate::import::directive::Directive;

/// A URL as `proxy_pass` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    pub is_https: bool,
    /// A name, an address, IPv6 in brackets, or `unix:` and a path.
    pub host: String,
    pub port: Option<u16>,
    /// `None`: none is written.
    pub uri: Option<String>,
}

impl Url {
    /// `None`: nginx takes it for no URL, and answers 500.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        if let Some(socket) = rest.strip_prefix("unix:") {
            let (path, uri) = socket.split_once(':').map_or((socket, None), |(path, uri)| (path, Some(uri)));
            let uri = uri.filter(|uri| !uri.is_empty()).map(str::to_owned);
            return Some(Self { is_https, host: format!("unix:{path}"), port: None, uri });
        }
        let (authority, uri) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, Some(port.parse().ok().filter(|port| *port > 0)?))
            }
            _ => (authority, None),
        };
        if host.is_empty() {
            return None;
        }
        Some(Self { is_https, host: host.to_owned(), port, uri: (!uri.is_empty()).then(|| uri.to_owned()) })
    }

    pub fn default_port(&self) -> u16 {
        if self.is_https { 443 } else { 80 }
    }

    /// `$proxy_host`, which is the Host field unless another is set.
    pub fn host_field(&self) -> String {
        match self.port {
            _ if self.host.starts_with("unix:") => "localhost".to_owned(),
            Some(port) if port != self.default_port() => format!("{}:{port}", self.host),
            _ => self.host.clone(),
        }
    }
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Address(SocketAddr),
    Name { name: String, port: u16 },
}

/// An `upstream` block.
#[derive(Debug)]
pub struct ServerGroup<'d> {
    pub directive: &'d Directive,
    /// The addresses of servers that are neither down nor for reserve.
    active: Vec<&'d str>,
    pub has_backup: bool,
}

/// The port of a group's server that names none, whatever the scheme.
const GROUP_PORT: u16 = 80;

impl<'d> ServerGroup<'d> {
    pub fn new(directive: &'d Directive) -> Self {
        let mut group = Self { directive, active: Vec::new(), has_backup: false };
        for server in directive.block.iter().flatten().filter(|inside| inside.name == "server") {
            let has = |word: &str| server.arguments.iter().any(|argument| argument == word);
            match server.arguments.first() {
                _ if has("down") => {}
                _ if has("backup") => group.has_backup = true,
                Some(address) if !group.active.contains(&&**address) => group.active.push(address),
                _ => {}
            }
        }
        group
    }

    fn peer(&self) -> Result<Peer, String> {
        match &*self.active {
            [] => Err("its upstream group has no server that is in use".to_owned()),
            [server] => peer(server, None, GROUP_PORT),
            servers => Err(format!(
                "nginx shares the requests between {} servers ({}), and hookgate sends to one address: write the \
                 address of one, or of a load balancer before them",
                servers.len(),
                servers.join(", ")
            )),
        }
    }
}

/// All `upstream` blocks, by their names in lower case.
pub type ServerGroups<'d> = HashMap<String, ServerGroup<'d>>;

/// Where a URL leads, and the group that it names: groups come before names, as in nginx.
///
/// Errors: why hookgate cannot connect there.
pub fn resolve<'g, 'd>(
    url: &Url,
    groups: &'g ServerGroups<'d>,
) -> (Result<Peer, String>, Option<&'g ServerGroup<'d>>) {
    let group = groups.get(&url.host.to_ascii_lowercase()).filter(|_| url.port.is_none());
    let peer = match group {
        Some(group) => group.peer(),
        None => peer(&url.host, url.port, url.default_port()),
    };
    (peer, group)
}

fn peer(host: &str, port: Option<u16>, default_port: u16) -> Result<Peer, String> {
    if let Some(path) = host.strip_prefix("unix:") {
        return Err(format!(
            "it is the Unix socket {path}, and hookgate connects by TCP alone: let the program listen on 127.0.0.1 too"
        ));
    }
    if let Ok(address) = host.parse() {
        return Ok(Peer::Address(address));
    }
    if let Some(ip) = bare_ip(host) {
        return Ok(Peer::Address(SocketAddr::new(ip, port.unwrap_or(default_port))));
    }
    let (name, own_port) = match host.rsplit_once(':') {
        Some((name, own_port)) => (name, own_port.parse().ok()),
        None => (host, None),
    };
    let port = port.or(own_port).unwrap_or(default_port);
    Ok(Peer::Name { name: name.trim_end_matches('.').to_ascii_lowercase(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, (is_https, host, port, uri)) in [
            ("https://a.example/x?y", (true, "a.example", None, Some("/x?y"))),
            ("https://a.example:8443/x", (true, "a.example", Some(8443), Some("/x"))),
            ("http://10.0.0.5:3000", (false, "10.0.0.5", Some(3000), None)),
            ("http://[2001:db8::1]:80/", (false, "[2001:db8::1]", Some(80), Some("/"))),
            ("http://[2001:db8::1]", (false, "[2001:db8::1]", None, None)),
            ("http://unix:/run/x.sock:/uri", (false, "unix:/run/x.sock", None, Some("/uri"))),
            ("HTTP://a.example?x", (false, "a.example", None, Some("?x"))),
        ] {
            let expected = Url { is_https, host: host.into(), port, uri: uri.map(str::to_owned) };
            assert_eq!(Url::parse(text), Some(expected), "{text}");
        }
        for wrong in ["$backend", "", "ftp://a", "http://", "http://a:b/", "http://:80"] {
            assert_eq!(Url::parse(wrong), None, "{wrong}");
        }
    }
}
