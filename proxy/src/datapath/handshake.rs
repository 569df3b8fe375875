use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::protocol::Protocol;
use crate::net::{Buffers, KernelTls, QueueFull, Session, StrangersHandshakes, Stream};
use crate::observe::Handshake;
use crate::tls::{ACME_TLS, VerifiedClient};

/// Why a connection got no further than its TLS handshake.
pub(super) enum NoSession {
    /// It failed, took too long, or was all that the client wanted.
    Ended(Handshake),
    /// Too many others wait for theirs.
    Refused,
}

/// TLS with a client, where its listener speaks TLS; and the certificate that the client has shown.
/// A stranger's takes its turns among `strangers`.
///
/// Errors: the connection is closed.
pub(super) async fn handshake(
    tcp: TcpStream,
    protocol: &Protocol,
    deadline: Instant,
    kernel_tls: Option<KernelTls>,
    buffers: &Rc<Buffers>,
    strangers: Option<&StrangersHandshakes>,
) -> Result<(Stream, Option<VerifiedClient>), NoSession> {
    let Protocol::Https(config, authority) = protocol else { return Ok((Stream::Plain(tcp), None)) };
    let accepted = Session::accept(tcp, Arc::clone(config), kernel_tls, buffers, strangers);
    let accepted = timeout_at(deadline, accepted).await;
    let Ok(session) = accepted else { return Err(NoSession::Ended(Handshake::TimedOut)) };
    let session = session.map_err(|error| no_session(&error))?;
    if session.state().alpn_protocol() == Some(ACME_TLS) {
        return Err(NoSession::Ended(Handshake::AcmeChallenge));
    }
    let chain = session.state().peer_certificates().unwrap_or_default();
    let verified = VerifiedClient::new(chain, authority);
    let stream = session.into_stream().map_err(|error| no_session(&error))?;
    Ok((stream, verified))
}

fn no_session(error: &io::Error) -> NoSession {
    match error.get_ref() {
        Some(inner) if inner.is::<QueueFull>() => NoSession::Refused,
        _ => NoSession::Ended(outcome(error)),
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
