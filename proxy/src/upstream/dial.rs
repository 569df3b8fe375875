//! From an upstream to a connection: DNS, addresses in turn, TLS.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use super::addresses::{interleave, is_public};
use super::{ConnectError, Dns, Upstream};
use crate::net::{Buffers, KernelTls, Session, Stream};
use crate::observe::{Steps, TraceStep};

/// How long one address is tried alone before the next joins in (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How many addresses of one name are tried. Its owner chooses how many there are, and each costs a
/// socket and a SYN.
const MAX_ADDRESSES: usize = 8;

/// Connects to `upstream`, TLS included where it has TLS; `limit` bounds TCP and TLS together.
/// `steps`: where the times are noted.
pub async fn connect(
    upstream: &Upstream,
    dns: &Dns,
    limit: Duration,
    kernel_tls: Option<KernelTls>,
    buffers: &Rc<Buffers>,
    steps: Option<&Steps>,
) -> Result<Stream, ConnectError> {
    let note = |step| steps.into_iter().for_each(|steps| steps.now(step));
    let addresses = match upstream.settings().address {
        Some(address) => vec![address],
        None => {
            let resolved = resolve(upstream, dns).await?;
            note(TraceStep::Dns);
            resolved
        }
    };
    let deadline = Instant::now() + limit;
    let connected = timeout_at(deadline, connect_to_any(&addresses)).await;
    let tcp = connected.unwrap_or(Err(ConnectError::TimedOut))?;
    note(TraceStep::Connect);
    let Some(config) = upstream.tls.clone() else { return Ok(Stream::Plain(tcp)) };
    let name = upstream.server_name().map_err(ConnectError::handshake)?;
    let session = timeout_at(deadline, Session::connect(tcp, config, name, kernel_tls, buffers)).await;
    let session = session.map_err(|_| ConnectError::TlsTimedOut)?;
    let stream = session.and_then(Session::into_stream).map_err(ConnectError::handshake)?;
    note(TraceStep::UpstreamTls);
    Ok(stream)
}

/// The addresses that the upstream's name may lead to, in the order of attempts.
async fn resolve(upstream: &Upstream, dns: &Dns) -> Result<Vec<SocketAddr>, ConnectError> {
    let found = dns.lookup(&upstream.name).await?;
    let allowed = |address: &IpAddr| upstream.settings().allow_private || is_public(*address);
    let allowed: Vec<IpAddr> = found.iter().copied().filter(allowed).collect();
    if allowed.is_empty() {
        return Err(ConnectError::Prohibited);
    }
    let attempts = interleave(&allowed).into_iter().take(MAX_ADDRESSES);
    Ok(attempts.map(|ip| SocketAddr::new(ip, upstream.settings().port)).collect())
}

/// Happy Eyeballs (RFC 8305): the next address is tried when one failed or has had its time; the
/// first connection wins and the other attempts are dropped.
pub async fn connect_to_any(addresses: &[SocketAddr]) -> Result<TcpStream, ConnectError> {
    let mut left = addresses.iter();
    let mut attempts: Vec<Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>> = Vec::new();
    let mut failed = io::Error::from(io::ErrorKind::NotConnected);
    let mut delay = Box::pin(sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let mut finished = None;
            for (index, attempt) in attempts.iter_mut().enumerate() {
                if let Poll::Ready(outcome) = attempt.as_mut().poll(cx) {
                    finished = Some((index, outcome));
                    break;
                }
            }
            match finished {
                Some((_, Ok(stream))) => return Poll::Ready(Ok(stream)),
                Some((index, Err(error))) => {
                    drop(attempts.swap_remove(index));
                    failed = error;
                    delay.as_mut().reset(Instant::now());
                }
                None if attempts.is_empty() || delay.as_mut().poll(cx).is_ready() => match left.next() {
                    Some(address) => {
                        attempts.push(Box::pin(connect_to(*address)));
                        delay.as_mut().reset(Instant::now() + ATTEMPT_DELAY);
                    }
                    None if attempts.is_empty() => {
                        return Poll::Ready(Err(ConnectError::Refused(failed.to_string())));
                    }
                    None => return Poll::Pending,
                },
                None => return Poll::Pending,
            }
        }
    })
    .await
}

async fn connect_to(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
