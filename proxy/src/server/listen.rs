use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use rustix::io::Errno;
use socket2::{Domain, Socket, Type};

/// Connections that the kernel keeps until they are accepted; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket that listens, or is about to.
pub(super) struct Listener {
    socket: Socket,
    address: SocketAddr,
}

/// A listener that cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", remedy(error, address))]
pub struct ListenerError {
    address: SocketAddr,
    error: io::Error,
}

fn remedy(error: &io::Error, address: &SocketAddr) -> String {
    if lacks_family(error) {
        return format!("; this machine has no IPv6: listen on 0.0.0.0:{}", address.port());
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; `ss -ltnp sport = :{}` shows who has it", address.port())
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE".into()
        }
        io::ErrorKind::AddrNotAvailable => "; this machine does not have this address".into(),
        _ => String::new(),
    }
}

impl Listener {
    /// `socket` has the address.
    pub(super) fn new(socket: Socket, address: SocketAddr) -> Self {
        Self { socket, address }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same socket, to accept from.
    pub(super) fn share(&self) -> io::Result<TcpListener> {
        Ok(self.socket.try_clone()?.into())
    }
}

/// Whether this machine has IPv6 at all (`ipv6.disable=1` takes it away).
pub fn has_ipv6() -> bool {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None);
    !socket.is_err_and(|error| lacks_family(&error))
}

fn lacks_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

/// Whether a machine without IPv6 can do without `address`: it means all IPv6 addresses, and all
/// IPv4 ones are among `others`.
pub fn is_optional(address: SocketAddr, others: &[SocketAddr]) -> bool {
    address.ip() == Ipv6Addr::UNSPECIFIED && others.contains(&(Ipv4Addr::UNSPECIFIED, address.port()).into())
}

/// Whether this process could take the address; nothing is kept.
pub fn can_bind(address: SocketAddr) -> io::Result<()> {
    socket(address).map(drop)
}

/// From now on clients can connect to `socket`, which has `address`.
pub(super) fn listen(socket: &Socket, address: SocketAddr) -> Result<(), ListenerError> {
    socket.listen(BACKLOG).map_err(|error| ListenerError { address, error })
}

/// Takes the address; clients are still refused.
pub(super) fn bind(address: SocketAddr) -> Result<Socket, ListenerError> {
    socket(address).map_err(|error| ListenerError { address, error })
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // "[::]:443" stands beside "0.0.0.0:443", whatever net.ipv6.bindv6only says.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_every_ipv6_address_beside_every_ipv4_one_is_optional() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let others = ["0.0.0.0:443", "192.0.2.1:80", "[::]:443", "[::]:80"].map(parse);
        for (address, expected) in [
            ("[::]:443", true),
            ("[::]:80", false),
            ("[2001:db8::1]:443", false),
            ("[::1]:443", false),
            ("0.0.0.0:443", false),
        ] {
            assert_eq!(is_optional(parse(address), &others), expected, "{address}");
        }
    }

    #[test]
    fn a_machine_without_ipv6_says_where_to_listen() {
        let error = io::Error::from(Errno::AFNOSUPPORT);
        let bad = ListenerError { address: "[::]:443".parse().unwrap(), error };
        assert!(bad.to_string().ends_with("this machine has no IPv6: listen on 0.0.0.0:443"), "{bad}");
    }
}
