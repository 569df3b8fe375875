use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::report::{Attempt, Failure};

/// Tries every address at once; the connection that requests would prefer of those that came about.
pub async fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
    report: &mut Vec<Attempt>,
) -> Result<(SocketAddr, TcpStream), Failure> {
    let mut attempts = JoinSet::new();
    for (index, address) in addresses.iter().copied().enumerate() {
        attempts.spawn(async move {
            let begun = Instant::now();
            let outcome = connect_to(address, limit).await;
            (index, address, begun.elapsed(), outcome)
        });
    }
    let mut ended = attempts.join_all().await;
    ended.sort_by_key(|(index, ..)| *index);
    let mut connected = None;
    for (_, address, took, outcome) in ended {
        let error = outcome.as_ref().err().map(ToString::to_string);
        report.push(Attempt { address, took, error });
        connected = connected.or(outcome.ok().map(|stream| (address, stream)));
    }
    connected.ok_or_else(|| failure(report))
}

/// One connection, for at most `limit`.
pub async fn connect_to(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let connected = timeout(limit, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn failure(attempts: &[Attempt]) -> Failure {
    let error = match attempts {
        [Attempt { address, error: Some(error), .. }] => format!("{address}: {error}"),
        several => format!("none of {} addresses can be connected to", several.len()),
    };
    let next = "does the upstream listen on this port, and does every firewall between let this machine in?";
    Failure { step: "TCP", error, next: next.into() }
}
