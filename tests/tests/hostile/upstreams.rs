//! Upstreams that attack, or whose names do, asked for by strangers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use harness::{DnsServer, FullQueue, HostileUpstream, Need, NetNs, Strangers, free_port, pace_task, require};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::row::{Extent, Row, Seen};
use crate::testbed::{Environment, Testbed};

const UPSTREAM: &str = "hostile.example.com";

/// Whether strangers have had all of the upstream that they may have.
fn is_full(seen: &Seen<'_>) -> bool {
    seen.refused("connection_limit_reached") > 0.0
}

/// More requests to the upstream than strangers may have under way.
fn ask_for_all(testbed: &Testbed, row: &Row) -> Result<()> {
    let (https, count) = (testbed.https, testbed.slots + testbed.slots / 4);
    row.run(testbed, move |strangers| async move {
        let ask = move |stranger: Strangers| async move {
            let mut tls = stranger.tls(https).await?;
            tls.write_all(format!("GET /{UPSTREAM}/ HTTP/1.1\r\nHost: p\r\n\r\n").as_bytes()).await?;
            tls.flush().await?;
            stranger.acted(1);
            Strangers::responses(&mut tls, 1).await?;
            // The rest of a response that has begun.
            Strangers::end(&mut tls).await
        };
        strangers.crowd(count, 400, ask).await;
    })
}

#[test]
fn response_heads() -> Result<()> {
    let upstream = HostileUpstream::start(|mut tcp| async move {
        let tokens = (0..2000).map(|n| format!("t{n:05}")).collect::<Vec<_>>().join(",");
        let fields: String = (0..90).map(|n| format!("X-{n}: {}\r\n", "x".repeat(500))).collect();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: {tokens}\r\n{fields}Content-Length: 0\r\n\r\n");
        // A request is less than one read.
        while tcp.read(&mut [0; 4096]).await? > 0 {
            tcp.write_all(head.as_bytes()).await?;
        }
        Ok(())
    })?;
    let testbed = Testbed::start(Environment::with(UPSTREAM, &upstream)?)?;
    let https = testbed.https;
    let row = Row::new("response-heads", "requests", |seen| {
        seen.rise(&format!("hookgate_requests_total{{upstream=\"{UPSTREAM}\",code=\"200\"}}")) > 50.0
    });
    row.run(&testbed, move |strangers| async move {
        let ask = move |stranger: Strangers| async move {
            let mut tls = stranger.tls(https).await?;
            let request: Rc<str> = format!("GET /{UPSTREAM}/ HTTP/1.1\r\nHost: p\r\n\r\n").into();
            loop {
                tls.write_all(request.as_bytes()).await?;
                tls.flush().await?;
                Strangers::responses(&mut tls, 1).await?;
                stranger.acted(1);
            }
        };
        strangers.crowd(8, 400, ask).await;
    })
}

#[test]
fn silent_upstream() -> Result<()> {
    let silent = HostileUpstream::start(|mut tcp| async move { Strangers::end(&mut tcp).await })?;
    let testbed = Testbed::start(Environment::with(UPSTREAM, &silent)?)?;
    ask_for_all(&testbed, &Row::new("silent-upstream", "requests", is_full))
}

#[test]
fn slow_upstream() -> Result<()> {
    let slow = HostileUpstream::start(|mut tcp| async move {
        let _request = tcp.read(&mut [0; 4096]).await?;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").await?;
        loop {
            // Within `body_idle`.
            pace_task(Duration::from_millis(500)).await;
            tcp.write_all(b"x").await?;
        }
    })?;
    let testbed = Testbed::start(Environment::with(UPSTREAM, &slow)?)?;
    ask_for_all(&testbed, &Row::new("slow-upstream", "requests", is_full))
}

/// An upstream by name, for which the DNS is asked at `dns`.
fn by_name(dns: SocketAddr, port: u16) -> Result<Environment> {
    let in_flight = Extent::wanted()?.in_flight;
    Ok(Environment {
        sections: format!("[dns]\nservers = [\"{dns}\"]\n"),
        upstreams: format!(
            "\"{UPSTREAM}\" = {{ port = {port}, tls = false, allow_private = true, in_flight = {in_flight} }}\n"
        ),
        ..Environment::default()
    })
}

#[test]
fn silent_addresses() -> Result<()> {
    if !require(&[Need::Program("dnsmasq")]) {
        return Ok(());
    }
    let silent = FullQueue::new(Ipv4Addr::UNSPECIFIED)?;
    let records: Vec<_> =
        (2..62).map(|last| (UPSTREAM, IpAddr::from(Ipv4Addr::new(127, 8, 8, last)))).collect();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let dns = DnsServer::start_with(&NetNs::here(), address, &records, &["--local-ttl=1"])?;
    let testbed = Testbed::start(by_name(dns.address(), silent.address().port())?)?;
    ask_for_all(&testbed, &Row::new("silent-addresses", "requests", is_full))
}

#[test]
fn silent_dns() -> Result<()> {
    let silent = UdpSocket::bind("127.0.0.1:0")?;
    let testbed = Testbed::start(by_name(silent.local_addr()?, 80)?)?;
    ask_for_all(&testbed, &Row::new("silent-dns", "requests", is_full))
}
