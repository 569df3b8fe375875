//! The way to an upstream, a step at a time and each with its time: DNS, TCP, TLS, HTTP, large
//! packets. It is the way that requests go. In addition every address is tried, and certificates
//! are shown even when they don't hold.

mod handshake;
mod names;
mod packets;
mod report;
mod request;
mod sockets;

use crate::config::{Timeouts, Upstream};
use crate::net::Stream;
use crate::upstream::Dns;

pub use report::{Attempt, Certificate, Failure, Name, Names, Packets, Report, Request, Tls};

/// Goes as far as there is a way.
pub async fn probe(upstream: &Upstream, dns: &Dns, timeouts: &Timeouts) -> Report {
    let mut report = Report::new(&upstream.name);
    report.failure = walk(&mut report, upstream, dns, timeouts).await.err();
    report
}

async fn walk(
    report: &mut Report,
    upstream: &Upstream,
    dns: &Dns,
    timeouts: &Timeouts,
) -> Result<(), Failure> {
    let addresses = match upstream.address {
        Some(address) => vec![address],
        None => names::addresses(upstream, dns, &mut report.dns).await?,
    };
    let (address, tcp) = sockets::connect(&addresses, timeouts.connect, &mut report.tcp).await?;
    let mut stream = match upstream.tls {
        true => handshake::shake_hands(upstream, address, tcp, timeouts.connect, &mut report.tls).await?,
        false => Stream::Plain(tcp),
    };
    request::get(upstream, &mut stream, timeouts.response, &mut report.http).await?;
    packets::send_large(upstream, address, timeouts, &mut report.packets).await
}
