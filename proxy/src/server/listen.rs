use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

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
pub struct BadListener {
    address: SocketAddr,
    error: io::Error,
}

fn remedy(error: &io::Error, address: &SocketAddr) -> String {
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

    /// From now on clients can connect.
    pub(super) fn open(&self) -> Result<(), BadListener> {
        self.socket.listen(BACKLOG).map_err(|error| BadListener { address: self.address, error })
    }

    /// The same socket, for somebody to accept from.
    pub(super) fn share(&self) -> io::Result<TcpListener> {
        Ok(self.socket.try_clone()?.into())
    }
}

/// Whether this process could take the address; nothing is kept.
pub fn can_bind(address: SocketAddr) -> io::Result<()> {
    socket(address).map(drop)
}

/// Takes the address; clients are still refused.
pub(super) fn bind(address: SocketAddr) -> Result<Socket, BadListener> {
    socket(address).map_err(|error| BadListener { address, error })
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
