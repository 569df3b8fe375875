//! Connections: how many there are, and what they begin with.

use std::io;
use std::net::SocketAddr;

use anyhow::Result;
use harness::Strangers;
use tokio::io::AsyncWriteExt;

use crate::row::Row;
use crate::testbed::{Environment, Testbed};

/// Says nothing.
async fn idle(stranger: Strangers, proxy: SocketAddr) -> io::Result<()> {
    let mut tcp = stranger.tcp(proxy).await?;
    stranger.acted(1);
    Strangers::end(&mut tcp).await
}

#[test]
fn idle_connections() -> Result<()> {
    let row = Row::new("idle-connections", "connections", |seen| {
        seen.connections() >= seen.testbed.share && seen.refused("reserved_for_meta") > 0.0
    });
    let testbed = Testbed::start(Environment::default())?;
    let (https, count) = (testbed.https, testbed.share + testbed.share / 8);
    row.run(&testbed, move |strangers| async move {
        strangers.crowd(count, 2000, move |stranger| idle(stranger, https)).await;
    })
}

#[test]
fn per_source() -> Result<()> {
    let row = Row::new("per-source", "connections", |seen| seen.refused("per_source") > 100.0);
    let testbed = Testbed::start(Environment::default())?;
    let (https, count) = (testbed.https, testbed.share / 2);
    row.run(&testbed, move |strangers| async move {
        strangers.alone().crowd(count, 2000, move |stranger| idle(stranger, https)).await;
    })
}

#[test]
fn kept_connections() -> Result<()> {
    let row = Row::new("kept-connections", "requests", |seen| seen.connections() >= seen.testbed.share / 5);
    let testbed = Testbed::start(Environment::default())?;
    let (https, count) = (testbed.https, testbed.share / 4);
    row.run(&testbed, move |strangers| async move {
        let request = move |stranger: Strangers| async move {
            let mut tls = stranger.tls(https).await?;
            tls.write_all(b"GET /nobody.example.com/ HTTP/1.1\r\nHost: proxy.example.com\r\n\r\n").await?;
            stranger.acted(1);
            Strangers::end(&mut tls).await
        };
        strangers.crowd(count, 400, request).await;
    })
}

#[test]
fn not_tls() -> Result<()> {
    let row = Row::new("not-tls", "connections", |seen| {
        seen.rise("hookgate_tls_handshakes_total{reason=\"protocol\"}") > 100.0
    });
    let testbed = Testbed::start(Environment::default())?;
    let https = testbed.https;
    row.run(&testbed, move |strangers| async move {
        let knock = move |stranger: Strangers| async move {
            let mut tcp = stranger.tcp(https).await?;
            tcp.write_all(b"GET / HTTP/1.1\r\nHost: proxy.example.com\r\n\r\n").await?;
            stranger.acted(1);
            Strangers::end(&mut tcp).await
        };
        strangers.crowd(16, 3000, knock).await;
    })
}
