use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, CommonState, Error};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::report::{Certificate, Failure, Tls};
use super::sockets::connect_to;
use crate::access::Disk;
use crate::config::Upstream;
use crate::net::{Buffers, Limits, Session, Stream};
use crate::tls::{HandshakeFault, chain, fault, group_name};
use crate::upstream::{Manner, client_config_of};

/// TLS as towards any upstream. Where the certificate is not believed, a second handshake without
/// verification shows it.
pub async fn shake_hands(
    upstream: &Upstream,
    address: SocketAddr,
    tcp: TcpStream,
    limit: Duration,
    report: &mut Option<Tls>,
) -> Result<Stream, Failure> {
    let manner = Manner::of(upstream);
    let config = client_config_of(&manner, &Disk)
        .map_err(|error| failed(error.to_string(), "correct the upstream's `ca`"))?;
    let name = ServerName::try_from(upstream.name.to_string())
        .map_err(|_| failed("the name cannot stand in a TLS handshake", "write tls = false, or rename it"))?;
    let begun = Instant::now();
    match handshake(config, &name, tcp, limit).await {
        Ok(session) => {
            let verification = if upstream.verify { "verified" } else { "off" };
            *report = Some(found(begun.elapsed(), session.state(), verification));
            Ok(Stream::Tls(Box::new(session)))
        }
        Err(error) => {
            let took = begun.elapsed();
            let HandshakeFault { why, next } = fault(&error);
            let chain = match certificate_error(&error) {
                Some(_) => shown(&name, address, limit).await,
                None => Vec::new(),
            };
            let next = match next {
                Some(next) => next,
                None if needs_a_small_hello(&manner, &name, address, limit).await => SMALL_HELLO.to_owned(),
                None => usual_cause(address.port(), &error),
            };
            let verification = why.clone();
            *report = Some(Tls { took, protocol: None, suite: None, group: None, verification, chain });
            Err(failed(why, &next))
        }
    }
}

async fn handshake(
    config: Arc<ClientConfig>,
    name: &ServerName<'static>,
    tcp: TcpStream,
    limit: Duration,
) -> io::Result<Session> {
    // There is but one connection, and it is used once.
    let buffers = Buffers::new(Limits { free: 0, large: 0, pipes: 0 });
    let shaking = Session::connect(tcp, config, name.clone(), None, &buffers);
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "the server does not answer the handshake");
    timeout(limit, shaking).await.unwrap_or_else(|_| Err(silent()))
}

fn found(took: Duration, session: &CommonState, verification: &str) -> Tls {
    let shown = session.peer_certificates().unwrap_or_default();
    Tls {
        took,
        protocol: session.protocol_version().and_then(|version| version.as_str()).map(str::to_owned),
        suite: session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).map(str::to_owned),
        group: group_name(session),
        verification: verification.into(),
        chain: chain(shown).into_iter().map(Certificate::from).collect(),
    }
}

/// The certificates that were not trusted; none when they can't be had a second time.
async fn shown(name: &ServerName<'static>, address: SocketAddr, limit: Duration) -> Vec<Certificate> {
    let manner = Manner { verify: false, ..Manner::default() };
    let session = shake_again(&manner, name, address, limit).await;
    session.map_or_else(Vec::new, |session| found(Duration::ZERO, session.state(), "").chain)
}

const SMALL_HELLO: &str = "without ML-KEM it answers: a device before it, or it itself, reads only the first packet of a \
                           handshake; write ml_kem = false for this upstream";

/// Whether a handshake succeeds that asks for no ML-KEM, where one has failed that did.
async fn needs_a_small_hello(
    manner: &Manner,
    name: &ServerName<'static>,
    address: SocketAddr,
    limit: Duration,
) -> bool {
    let without = Manner { ml_kem: false, ..manner.clone() };
    manner.ml_kem && shake_again(&without, name, address, limit).await.is_some()
}

/// A handshake on a connection of its own.
async fn shake_again(
    manner: &Manner,
    name: &ServerName<'static>,
    address: SocketAddr,
    limit: Duration,
) -> Option<Session> {
    let config = client_config_of(manner, &Disk).ok()?;
    let tcp = connect_to(address, limit).await.ok()?;
    handshake(config, name, tcp, limit).await.ok()
}

fn certificate_error(error: &io::Error) -> Option<&CertificateError> {
    match error.get_ref()?.downcast_ref()? {
        Error::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}

/// What to do about a handshake that failed for a reason that says nothing of it.
fn usual_cause(port: u16, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => format!(
            "does port {port} of the upstream speak TLS? If it does, large packets may not get through from there (path \
             MTU): clamp the MSS where the tunnel begins, or let ICMP \"fragmentation needed\" through"
        ),
        _ => format!("is port {port} the upstream's HTTPS port? tls = false where it speaks plain HTTP"),
    }
}

fn failed(error: impl Into<String>, next: &str) -> Failure {
    Failure { step: "TLS", error: error.into(), next: next.into() }
}
