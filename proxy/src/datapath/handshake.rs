use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::context::Protocol;
use crate::net::{Buffers, KernelTls, Session, Stream};
use crate::observe::Handshake;
use crate::tls::{ACME_TLS, VerifiedClient};

/// TLS with a client, where its listener speaks TLS; and the certificate that the client has shown.
///
/// Errors: it failed, took too long, or was all that the client wanted; the connection is closed.
pub(super) async fn handshake(
    tcp: TcpStream,
    protocol: &Protocol,
    deadline: Instant,
    kernel_tls: Option<KernelTls>,
    buffers: &Rc<Buffers>,
) -> Result<(Stream, Option<VerifiedClient>), Handshake> {
    match protocol {
        Protocol::Plain(_) | Protocol::Redirect(_) => Ok((Stream::Plain(tcp), None)),
        Protocol::Https(config, authority) => {
            let accepted = Session::accept(tcp, Arc::clone(config), kernel_tls, buffers);
            match timeout_at(deadline, accepted).await {
                Ok(Ok(session)) if session.state().alpn_protocol() == Some(ACME_TLS) => {
                    Err(Handshake::AcmeChallenge)
                }
                Ok(session) => {
                    let session = session.map_err(|error| outcome(&error))?;
                    let chain = session.state().peer_certificates().unwrap_or_default();
                    let verified = VerifiedClient::new(chain, authority);
                    let stream = session.into_stream().map_err(|error| outcome(&error))?;
                    Ok((stream, verified))
                }
                Err(_) => Err(Handshake::TimedOut),
            }
        }
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
