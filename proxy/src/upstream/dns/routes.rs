//! Why a DNS server can't be reached, and which address families this machine has a route for.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

use crate::config::{DnsServer, DnsServers};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// Whether this machine has a route to the Internet. No packet is sent.
    pub(super) fn has_default_route(self) -> bool {
        // For a datagram socket, connect(2) only looks up a route.
        const DISCARD: u16 = 9;
        let to: IpAddr = match self {
            Self::V4 => DnsServers::DEFAULT_IPV4[0].into(),
            Self::V6 => DnsServers::DEFAULT_IPV6[0].into(),
        };
        let to = SocketAddr::from((to, DISCARD));
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None);
        socket.and_then(|socket| socket.connect(&to.into())).is_ok()
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The defaults of this family, as a line of the configuration.
    fn defaults(self) -> String {
        let list = match self {
            Self::V4 => DnsServers::DEFAULT_IPV4.map(|ip| format!("\"{ip}\"")).join(", "),
            Self::V6 => DnsServers::DEFAULT_IPV6.map(|ip| format!("\"{ip}\"")).join(", "),
        };
        format!("servers = [{list}]")
    }
}

/// Why no packet can be sent to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SendError {
    NoRoute(Family),
    /// The interface of the server's zone does not exist.
    NoInterface(String),
    /// A firewall rule or a prohibiting route of this machine.
    Denied,
    /// The kernel's message.
    Other(String),
}

impl SendError {
    /// `error`: the result of sending to `server`.
    pub(super) fn new(server: &DnsServer, error: &io::Error) -> Self {
        let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        match &server.interface {
            Some(interface) if is(Errno::NODEV) => return Self::NoInterface(interface.clone()),
            _ => {}
        }
        let no_route = [
            Errno::NETUNREACH,
            Errno::HOSTUNREACH,
            Errno::NETDOWN,
            // The kernel lacks the address family.
            Errno::AFNOSUPPORT,
            // The machine has no source address for the destination.
            Errno::ADDRNOTAVAIL,
            // A blackhole route, or a link-local address without a zone.
            Errno::INVAL,
            Errno::NODEV,
        ];
        if no_route.into_iter().any(is) {
            return Self::NoRoute(Family::of(server.address.ip()));
        }
        if is(Errno::PERM) || is(Errno::ACCESS) {
            return Self::Denied;
        }
        Self::Other(error.to_string())
    }
}

/// Explains why none of the servers can be asked, and what to do.
pub(super) fn explain_with_remedy(unreachable: &[(&DnsServer, SendError)]) -> String {
    let is_denied = |(_, why): &(&DnsServer, SendError)| *why == SendError::Denied;
    let other = [Family::V4, Family::V6].into_iter().find(|family| family.has_default_route());
    let next = match other {
        _ if unreachable.iter().all(is_denied) => "let UDP and TCP to port 53 out".to_owned(),
        Some(family) => format!("write {} or \"system\" in [dns]", family.defaults()),
        None => "name servers in [dns] that this machine has a route to".to_owned(),
    };
    format!("{}; {next}", explain(unreachable))
}

/// Explains why the servers can't be asked.
pub(super) fn explain(unreachable: &[(&DnsServer, SendError)]) -> String {
    let servers_with = |error: &SendError| {
        let servers = unreachable.iter().filter(|(_, why)| why == error);
        let servers = servers.map(|(server, _)| server.to_string()).collect::<Vec<_>>().join(", ");
        (!servers.is_empty()).then_some(servers)
    };
    let no_route = [Family::V4, Family::V6].into_iter().filter_map(|family| {
        let servers = servers_with(&SendError::NoRoute(family))?;
        Some(match family.has_default_route() {
            true => format!("no route to {servers}"),
            false => format!("no route to {servers}: this machine has no {} default route", family.name()),
        })
    });
    let denied = servers_with(&SendError::Denied)
        .map(|servers| format!("this machine's firewall or routes forbid packets to {servers}"));
    let others = unreachable.iter().filter_map(|(server, why)| match why {
        SendError::NoRoute(_) | SendError::Denied => None,
        SendError::NoInterface(interface) => Some(format!("{server}: there is no interface {interface}")),
        SendError::Other(error) => Some(format!("{server} can't be asked: {error}")),
    });
    no_route.chain(denied).chain(others).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(written: &str) -> DnsServer {
        written.parse().unwrap_or_else(|_| panic!("{written}"))
    }

    fn why(written: &str, errno: Errno) -> SendError {
        SendError::new(&server(written), &errno.into())
    }

    #[test]
    fn errors_of_sending() {
        assert_eq!(why("1.1.1.1", Errno::NETUNREACH), SendError::NoRoute(Family::V4));
        assert_eq!(why("::1", Errno::ADDRNOTAVAIL), SendError::NoRoute(Family::V6));
        assert_eq!(why("::1", Errno::AFNOSUPPORT), SendError::NoRoute(Family::V6));
        assert_eq!(why("fe80::1%dns0", Errno::NODEV), SendError::NoInterface("dns0".into()));
        assert_eq!(why("1.1.1.1", Errno::PERM), SendError::Denied);
        assert!(matches!(why("1.1.1.1", Errno::NOBUFS), SendError::Other(_)));
    }

    #[test]
    fn all_servers_are_named() {
        let [one, two, three] = ["192.0.2.1", "192.0.2.2", "fe80::1%dns0"].map(server);
        let no_route = SendError::NoRoute(Family::V4);
        let all =
            [(&one, no_route.clone()), (&two, no_route), (&three, SendError::NoInterface("dns0".into()))];
        let said = explain_with_remedy(&all);
        assert!(said.starts_with("no route to 192.0.2.1, 192.0.2.2"), "{said}");
        assert!(said.contains("fe80::1%dns0: there is no interface dns0; "), "{said}");
    }
}
