use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::context::Protocol;
use crate::net::Stream;

/// TLS with a client, where its listener speaks TLS. `None`: it failed or took too long, and is closed.
pub(super) async fn handshake(tcp: TcpStream, protocol: &Protocol, deadline: Instant) -> Option<Stream> {
    match protocol {
        Protocol::Plain(_) => Some(Stream::Plain(tcp)),
        Protocol::Https(acceptor) => {
            let accepted = timeout_at(deadline, acceptor.accept(tcp)).await.ok()?.ok()?;
            Some(Stream::Tls(Box::new(accepted.into())))
        }
    }
}
