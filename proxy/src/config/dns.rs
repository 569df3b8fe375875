//! `[dns]`: which servers are asked for addresses, and how long an answer is kept.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::document::Section;
use super::value::{duration, text};

/// The port that DNS servers listen on unless another is written (RFC 1035 §4.2).
const PORT: u16 = 53;
/// The longest name of an interface in bytes (IFNAMSIZ, without the terminating 0).
const MAX_INTERFACE_BYTES: usize = 15;
const SECOND: Duration = Duration::from_secs(1);

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    pub servers: DnsServers,
    pub timeout: Duration,
    /// The longest a record is kept, whatever its TTL says.
    pub valid: Duration,
    /// How long an expired record still serves when no server answers.
    pub stale: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsServers {
    /// `/etc/resolv.conf`.
    System,
    These(Vec<DnsServer>),
}

/// One DNS server, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DnsServer {
    /// A numeric zone is its scope id.
    pub address: SocketAddr,
    /// The interface that the zone names (RFC 4007 §11); packets to the server leave there.
    pub interface: Option<String>,
}

impl DnsServers {
    /// Two public operators.
    pub const DEFAULT_IPV4: [Ipv4Addr; 2] = [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(8, 8, 8, 8)];
    /// The same operators, for machines without IPv4.
    pub const DEFAULT_IPV6: [Ipv6Addr; 2] = [
        Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111),
        Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888),
    ];
}

impl Default for DnsServers {
    fn default() -> Self {
        let v4 = Self::DEFAULT_IPV4.map(IpAddr::from);
        let v6 = Self::DEFAULT_IPV6.map(IpAddr::from);
        Self::These(v4.into_iter().chain(v6).map(DnsServer::from).collect())
    }
}

impl DnsServer {
    /// The address with its port, also where that is the usual one.
    pub fn with_port(&self) -> String {
        match self.address {
            SocketAddr::V4(v4) => v4.to_string(),
            SocketAddr::V6(v6) => format!("[{}{}]:{}", v6.ip(), self.zone(), v6.port()),
        }
    }

    /// Whether it is a link-local address without a zone.
    pub fn lacks_zone(&self) -> bool {
        matches!(self.address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local())
            && self.zone().is_empty()
    }

    fn zone(&self) -> String {
        match (&self.interface, self.address) {
            (Some(interface), _) => format!("%{interface}"),
            (None, SocketAddr::V6(v6)) if v6.scope_id() != 0 => format!("%{}", v6.scope_id()),
            (None, _) => String::new(),
        }
    }
}

impl From<IpAddr> for DnsServer {
    fn from(ip: IpAddr) -> Self {
        Self { address: SocketAddr::new(ip, PORT), interface: None }
    }
}

/// As in the configuration: the port is left out where it is the usual one.
impl fmt::Display for DnsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.port() == PORT {
            write!(f, "{}{}", self.address.ip(), self.zone())
        } else {
            f.write_str(&self.with_port())
        }
    }
}

/// Not `IP`, `IP:port`, `IP%zone` or `[IP%zone]:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDnsServer;

impl FromStr for DnsServer {
    type Err = BadDnsServer;

    fn from_str(written: &str) -> Result<Self, BadDnsServer> {
        let Some(rest) = written.strip_prefix('[') else {
            let (host, port) = match written.split_once(':') {
                Some((v4, port)) if v4.parse::<Ipv4Addr>().is_ok() => (v4, port.parse().ok()),
                _ => (written, Some(PORT)),
            };
            return Self::at(host, port.ok_or(BadDnsServer)?);
        };
        let (host, rest) = rest.split_once(']').ok_or(BadDnsServer)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| BadDnsServer)?,
            None if rest.is_empty() => PORT,
            None => return Err(BadDnsServer),
        };
        Self::at(host, port).ok().filter(|server| server.address.is_ipv6()).ok_or(BadDnsServer)
    }
}

impl DnsServer {
    /// `host`: an address, and a zone where it has one.
    fn at(host: &str, port: u16) -> Result<Self, BadDnsServer> {
        if port == 0 {
            return Err(BadDnsServer);
        }
        let Some((ip, zone)) = host.split_once('%') else {
            let ip = host.parse().map_err(|_| BadDnsServer)?;
            return Ok(Self { address: SocketAddr::new(ip, port), interface: None });
        };
        let ip: Ipv6Addr = ip.parse().map_err(|_| BadDnsServer)?;
        let (scope_id, interface) = match zone.parse() {
            Ok(0) => return Err(BadDnsServer),
            Ok(scope_id) => (scope_id, None),
            Err(_) if is_interface_name(zone) => (0, Some(zone.to_owned())),
            Err(_) => return Err(BadDnsServer),
        };
        Ok(Self { address: SocketAddrV6::new(ip, port, 0, scope_id).into(), interface })
    }
}

/// Whether the kernel accepts that name for an interface.
fn is_interface_name(name: &str) -> bool {
    (1..=MAX_INTERFACE_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"/:%[]".contains(&byte))
}

/// Reads the section.
pub(super) fn keys(section: &mut Section<'_>) -> Dns {
    let servers = if section.value("servers", |v| Ok(v.is_str())).unwrap_or(false) {
        section.value("servers", |value| match value.as_str() {
            Some("system") => Ok(DnsServers::System),
            _ => Err("must be a list such as [\"1.1.1.1\"], or the word \"system\"".into()),
        })
    } else {
        let server = |written: &str| {
            let forms = match written.contains('%') {
                true => "\"IP%INTERFACE\" or \"[IP%INTERFACE]:port\" with an IPv6 address",
                false => "\"IP\" or \"IP:port\"",
            };
            written.parse().map_err(|_| format!("`{written}` is not a DNS server: write {forms}"))
        };
        section.list("servers", |value| text(value).and_then(server)).map(DnsServers::These)
    };
    if servers == Some(DnsServers::These(Vec::new())) {
        section.problem("servers", "at least one, or \"system\"");
    }
    Dns {
        servers: servers.unwrap_or_default(),
        timeout: section.value("timeout", duration).unwrap_or(5 * SECOND),
        valid: section.value("valid", duration).unwrap_or(300 * SECOND),
        stale: section.value("stale", duration).unwrap_or(3600 * SECOND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_as_they_are_written() {
        for (written, shown, with_port) in [
            ("1.1.1.1", "1.1.1.1", "1.1.1.1:53"),
            ("1.1.1.1:5353", "1.1.1.1:5353", "1.1.1.1:5353"),
            ("::1", "::1", "[::1]:53"),
            ("[::1]", "::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353", "[::1]:5353"),
            ("fe80::1%eth0", "fe80::1%eth0", "[fe80::1%eth0]:53"),
            ("[fe80::1%eth0]:53", "fe80::1%eth0", "[fe80::1%eth0]:53"),
            ("[fe80::1%br-a.7]:5353", "[fe80::1%br-a.7]:5353", "[fe80::1%br-a.7]:5353"),
            ("fe80::1%2", "fe80::1%2", "[fe80::1%2]:53"),
        ] {
            let server: DnsServer = written.parse().unwrap_or_else(|_| panic!("{written}"));
            assert_eq!((&*server.to_string(), &*server.with_port()), (shown, with_port), "{written}");
            assert_eq!(shown.parse(), Ok(server), "{written}");
        }
        for wrong in [
            "",
            "dns.example",
            "1.1.1.1:0",
            "[::1]:0",
            "[::1]53",
            "1.1.1.1:",
            "[1.1.1.1]:53",
            "1.1.1.1%eth0",
            "fe80::1%",
            "fe80::1%0",
            "fe80::1%a/b",
            "fe80::1%sixteen-letters-",
            "fe80::1%eth0:53",
            "[fe80::1%eth0",
        ] {
            assert_eq!(wrong.parse::<DnsServer>(), Err(BadDnsServer), "{wrong}");
        }
    }

    #[test]
    fn link_local_addresses_need_a_zone() {
        let lacks_zone = |written: &str| written.parse::<DnsServer>().map(|server| server.lacks_zone());
        assert_eq!(lacks_zone("fe80::1"), Ok(true));
        for enough in ["fe80::1%eth0", "fe80::1%2", "2001:db8::1", "169.254.1.1"] {
            assert_eq!(lacks_zone(enough), Ok(false), "{enough}");
        }
    }
}
