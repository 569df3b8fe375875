use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

/// A listener whose queue is full: the kernel drops further SYNs.
pub struct FullQueue {
    address: SocketAddr,
    _held: Vec<TcpStream>,
    _listener: rustix::fd::OwnedFd,
}

impl FullQueue {
    /// On a free port of `ip`; with the unspecified address, on all of this machine's addresses.
    ///
    /// # Errors
    /// No port.
    pub fn new(ip: Ipv4Addr) -> Result<Self> {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&listener, &SocketAddr::from((ip, 0)))?;
        listen(&listener, 0)?;
        let address = SocketAddr::try_from(getsockname(&listener)?)?;
        let mut held = Vec::new();
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()));
        while let Ok(stream) = TcpStream::connect_timeout(&own, Duration::from_millis(200)) {
            held.push(stream);
        }
        Ok(Self { address, _held: held, _listener: listener })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
