use std::io;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::context::Protocol;
use crate::net::{Stream, Tcp};
use crate::observe::Handshake;

/// TLS with a client, where its listener speaks TLS.
///
/// Errors: it failed or took too long, and the connection is closed.
pub(super) async fn handshake(
    tcp: TcpStream,
    protocol: &Protocol,
    deadline: Instant,
) -> Result<Stream, Handshake> {
    match protocol {
        Protocol::Plain(_) | Protocol::Redirect(_) => Ok(Stream::Plain(tcp)),
        Protocol::Https(acceptor) => match timeout_at(deadline, acceptor.accept(Tcp(tcp))).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream.into()))),
            Ok(Err(error)) => Err(outcome(&error)),
            Err(_) => Err(Handshake::TimedOut),
        },
    }
}

fn outcome(error: &io::Error) -> Handshake {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(AlertReceived(_)) => Handshake::AlertReceived,
        Some(InvalidCertificate(_)) => Handshake::ClientCertificate,
        Some(_) => Handshake::Protocol,
        None => Handshake::Closed,
    }
}
