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
use crate::tls::{chain, fault};
use crate::upstream::client_config_of;

/// TLS as towards any upstream. Where the certificate is not believed, a second handshake without verification shows
/// it.
pub async fn shake_hands(
    upstream: &Upstream,
    address: SocketAddr,
    tcp: TcpStream,
    limit: Duration,
    report: &mut Option<Tls>,
) -> Result<Stream, Failure> {
    let config = client_config_of(upstream.ca.as_deref(), upstream.verify, &Disk)
        .map_err(|error| failed(error.to_string(), "correct the upstream's `ca`"))?;
    let name = ServerName::try_from(upstream.name.clone())
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
            let why = fault(&error);
            let chain = match certificate_error(&error) {
                Some(_) => shown(&name, address, limit).await,
                None => Vec::new(),
            };
            let next = next(upstream, address, &error, &chain);
            let verification = why.clone();
            *report = Some(Tls { took, protocol: None, suite: None, verification, chain });
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
        verification: verification.into(),
        chain: chain(shown).into_iter().map(Certificate::from).collect(),
    }
}

/// The certificates that nobody believed; none when they can't be had a second time.
async fn shown(name: &ServerName<'static>, address: SocketAddr, limit: Duration) -> Vec<Certificate> {
    let Ok(config) = client_config_of(None, false, &Disk) else { return Vec::new() };
    let Ok(tcp) = connect_to(address, limit).await else { return Vec::new() };
    let session = handshake(config, name, tcp, limit).await;
    session.map_or_else(|_| Vec::new(), |session| found(Duration::ZERO, session.state(), "").chain)
}

fn certificate_error(error: &io::Error) -> Option<&CertificateError> {
    match error.get_ref()?.downcast_ref()? {
        Error::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}

fn next(upstream: &Upstream, address: SocketAddr, error: &io::Error, chain: &[Certificate]) -> String {
    let (name, port) = (&upstream.name, address.port());
    match certificate_error(error) {
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "renew it at the upstream".into()
        }
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => {
            let names = chain.first().map_or(String::new(), |own| own.names.join(", "));
            format!("it is for {names}: get one for {name}, or name the upstream as it is")
        }
        Some(CertificateError::UnknownIssuer) => match chain {
            [own] if own.is_self_signed => "it has signed itself: give it with ca = \"FILE\"".into(),
            [_] => {
                "the server shows its own certificate alone: let it show the whole chain (fullchain.pem), \
                    or give its authority with ca = \"FILE\""
                    .into()
            }
            [.., last] => format!("give the authority with ca = \"FILE\": {}", last.issuer),
            [] => "give its authority with ca = \"FILE\"".into(),
        },
        Some(_) => "get another certificate for the upstream".into(),
        None if error.kind() == io::ErrorKind::TimedOut => format!(
            "does port {port} of the upstream speak TLS? If it does, large packets may not get through from there (path \
             MTU): clamp the MSS where the tunnel begins, or let ICMP \"fragmentation needed\" through"
        ),
        None => {
            format!("is port {port} the upstream's HTTPS port? tls = false where it speaks plain HTTP")
        }
    }
}

fn failed(error: impl Into<String>, next: &str) -> Failure {
    Failure { step: "TLS", error: error.into(), next: next.into() }
}
