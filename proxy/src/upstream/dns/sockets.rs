//! Sockets to one DNS server. hickory drops zones, so these use the server's own address.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::config::DnsServer;

type SocketFuture<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Opens sockets to one server.
#[derive(Clone)]
pub(super) struct Sockets {
    server: Arc<DnsServer>,
    tokio: TokioRuntimeProvider,
}

impl Sockets {
    pub(super) fn to(server: Arc<DnsServer>) -> Self {
        Self { server, tokio: TokioRuntimeProvider::default() }
    }
}

/// Whether this machine has the interface now.
pub fn has_interface(name: &str) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None);
    let bound = socket.and_then(|socket| socket.bind_device(Some(name.as_bytes())));
    bound.is_ok()
}

impl RuntimeProvider for Sockets {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = ServerSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        _server: SocketAddr,
        _local: Option<SocketAddr>,
        limit: Option<Duration>,
    ) -> SocketFuture<Self::Tcp> {
        let server = Arc::clone(&self.server);
        Box::pin(async move {
            let socket = match server.address {
                SocketAddr::V4(_) => TcpSocket::new_v4(),
                SocketAddr::V6(_) => TcpSocket::new_v6(),
            }?;
            if let Some(interface) = &server.interface {
                socket.bind_device(Some(interface.as_bytes()))?;
            }
            socket.set_nodelay(true)?;
            let connecting = socket.connect(server.address);
            let connected = timeout(limit.unwrap_or(Duration::MAX), connecting).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(AsyncIoTokioAsStd)
        })
    }

    /// The kernel picks a free port at random when the socket first sends: bind(2) is not among the
    /// worker's system calls.
    fn bind_udp(&self, _local: SocketAddr, _server: SocketAddr) -> SocketFuture<ServerSocket> {
        let server = Arc::clone(&self.server);
        Box::pin(async move {
            let socket = Socket::new(Domain::for_address(server.address), Type::DGRAM, None)?;
            socket.set_nonblocking(true)?;
            let socket = UdpSocket::from_std(socket.into())?;
            if let Some(interface) = &server.interface {
                socket.bind_device(Some(interface.as_bytes()))?;
            }
            Ok(ServerSocket { socket, server: server.address })
        })
    }
}

/// A UDP socket that always sends to the server, with its scope id.
pub(super) struct ServerSocket {
    socket: UdpSocket,
    server: SocketAddr,
}

impl DnsUdpSocket for ServerSocket {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        DnsUdpSocket::poll_recv_from(&self.socket, cx, into)
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], _: SocketAddr) -> Poll<io::Result<usize>> {
        self.socket.poll_send_to(cx, bytes, self.server)
    }
}
