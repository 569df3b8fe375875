use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::protocol::Protocol;
use crate::net::{Buffers, KernelTls, QueueFull, Session, StrangersHandshakes, Stream};
use crate::observe::{Cause, Handshake};
use crate::tls::{ACME_TLS, VerifiedClient, group_name};

/// Why a connection got no further than its TLS handshake.
pub(super) enum NoSession {
    /// It failed, took too long, or was all that the client wanted. `cause`: why an attempt to
    /// connect is lost with it; `None`: the client never began, or has what it wanted.
    Ended { outcome: Handshake, cause: Option<Cause> },
    /// Too many others wait for theirs.
    Refused,
}

/// A connection whose handshake, if its listener asks for one, is over.
pub(super) struct Shaken {
    pub(super) stream: Stream,
    /// The certificate that the client has shown.
    pub(super) certificate: Option<VerifiedClient>,
    /// As [`group_name`] says.
    pub(super) group: Option<&'static str>,
}

/// TLS with a client, where its listener speaks TLS.
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
) -> Result<Shaken, NoSession> {
    let Protocol::Https(config, authority) = protocol else {
        return Ok(Shaken { stream: Stream::Plain(tcp), certificate: None, group: None });
    };
    let accepted = Session::accept(tcp, Arc::clone(config), kernel_tls, buffers, strangers);
    let accepted = timeout_at(deadline, accepted).await;
    let Ok(session) = accepted else {
        let cause = Some(Cause::Name("timed_out"));
        return Err(NoSession::Ended { outcome: Handshake::TimedOut, cause });
    };
    let session = session.map_err(|error| no_session(&error))?;
    if session.state().alpn_protocol() == Some(ACME_TLS) {
        return Err(NoSession::Ended { outcome: Handshake::AcmeChallenge, cause: None });
    }
    let chain = session.state().peer_certificates().unwrap_or_default();
    let certificate = VerifiedClient::new(chain, authority);
    let group = group_name(session.state());
    let stream = session.into_stream().map_err(|error| no_session(&error))?;
    Ok(Shaken { stream, certificate, group })
}

fn no_session(error: &io::Error) -> NoSession {
    match error.get_ref() {
        Some(inner) if inner.is::<QueueFull>() => NoSession::Refused,
        _ => ended(error),
    }
}

fn ended(error: &io::Error) -> NoSession {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (outcome, cause) = match inner {
        Some(AlertReceived(alert)) => (Handshake::AlertReceived, Some(Cause::from(*alert))),
        Some(InvalidCertificate(_)) => {
            (Handshake::ClientCertificate, Some(Cause::Name("client_certificate")))
        }
        Some(_) => (Handshake::Protocol, Some(Cause::Name("protocol"))),
        // A probe of a load balancer, for example.
        None if error.kind() == ErrorKind::ConnectionAborted => (Handshake::Closed, None),
        None => (Handshake::Closed, Some(Cause::Name("closed"))),
    };
    NoSession::Ended { outcome, cause }
}
