//! Whether packets of full size get through. A link on the way may be smaller than both ends' own,
//! and the ICMP message that says so may be filtered ("path MTU black hole"): small requests work
//! then, and large ones hang.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::report::{Failure, Packets};
use super::{handshake, sockets};
use crate::config::{Timeouts, Upstream};
use crate::net::{Stream, http_client};
use crate::sys::send_queue_bytes;

/// The length of the field that fills the packets: two and more of Ethernet's, and within what
/// servers take of one field (8 KB with nginx, Apache and gunicorn).
const FIELD_BYTES: usize = 4096;
/// How long the packets may go unacknowledged. With `net.ipv4.tcp_mtu_probing = 1` the kernel tries
/// smaller ones when it has repeated them for 3 s or more, with its pauses twice as long each time:
/// after 6.4 s at the latest.
const LIMIT: Duration = Duration::from_secs(10);

/// What to do about a path MTU that no ICMP message reports.
const REMEDY: &str = "clamp the MSS where the tunnel begins (nftables: `tcp flags syn tcp option maxseg size set rt mtu`), \
    or let ICMP \"fragmentation needed\" (IPv6: \"packet too big\") through, or run `sysctl net.ipv4.tcp_mtu_probing=1` here (2 where nothing may wait)";

/// One more `GET /` on a connection of its own, with a head of several packets. It got through when
/// the upstream's kernel has acknowledged it, whatever the answer.
pub async fn send_large(
    upstream: &Upstream,
    address: SocketAddr,
    timeouts: &Timeouts,
    report: &mut Option<Packets>,
) -> Result<(), Failure> {
    // A server that refuses a second connection tells nothing about packets.
    let Ok(tcp) = sockets::connect_to(address, timeouts.connect).await else { return Ok(()) };
    let mut stream = match upstream.tls {
        true => {
            let shaken = handshake::shake_hands(upstream, address, tcp, timeouts.connect, &mut None).await;
            let Ok(stream) = shaken else { return Ok(()) };
            stream
        }
        false => Stream::Plain(tcp),
    };
    let Some(socket) = stream.tcp().and_then(|tcp| tcp.as_fd().try_clone_to_owned().ok()) else {
        return Ok(());
    };
    let request = request(upstream);
    let begun = Instant::now();
    let answer = timeout(LIMIT, http_client::request(&mut stream, request.as_bytes())).await;
    let took = begun.elapsed();
    let status = answer.ok().and_then(Result::ok).map(|answer| answer.status);
    let acknowledged = status.is_some() || is_acknowledged(&socket);
    *report = Some(Packets { took, head_bytes: request.len(), acknowledged, status });
    if acknowledged || took < LIMIT {
        return Ok(());
    }
    Err(Failure {
        step: "MTU",
        error: format!(
            "large packets do not get through (path MTU): a request of {} bytes was not acknowledged within {} s, while \
             a small one was answered",
            request.len(),
            LIMIT.as_secs()
        ),
        next: REMEDY.into(),
    })
}

fn request(upstream: &Upstream) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nUser-Agent: hookgate/{}\r\nAccept: */*\r\nConnection: close\r\n\
         X-Hookgate-Probe: {}\r\n\r\n",
        upstream.name,
        env!("CARGO_PKG_VERSION"),
        "x".repeat(FIELD_BYTES)
    )
}

/// Whether the peer's kernel has everything that was written.
fn is_acknowledged(socket: &OwnedFd) -> bool {
    send_queue_bytes(socket.as_fd()).is_ok_and(|queued| queued == 0)
}
