//! TLS: handshakes, and records that are no content.

use std::io;
use std::net::SocketAddr;

use anyhow::Result;
use harness::{Need, Records, Strangers, require};
use rustls::ContentType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::row::Row;
use crate::testbed::{Environment, Testbed, rsa_certs};

/// More than that is asked of handshakes nowhere: Meta's own have to wait for a processor, too.
const HANDSHAKE_GOAL: f64 = 3.0;

/// The part of their connections that strangers shake hands on at the same time: 250 where it is
/// measured. Without optimisation a handshake takes ten times as long.
const AT_ONCE_OF_SHARE: usize = 24;

/// Sends the same ClientHello again and again, each time for the server's signature, and leaves.
async fn replay(strangers: Strangers, proxy: SocketAddr, at_once: usize) {
    let Ok(hello) = strangers.client_hello() else { return };
    let replay = move |stranger: Strangers| {
        let hello = hello.clone();
        async move {
            let mut tcp = stranger.tcp(proxy).await?;
            tcp.write_all(&hello).await?;
            // The proxy may end it without an answer.
            if tcp.read(&mut [0; 1]).await? > 0 {
                stranger.acted(1);
            }
            Ok(())
        }
    };
    strangers.crowd(at_once, 4000, replay).await;
}

#[test]
fn handshakes_rsa() -> Result<()> {
    if !require(&[Need::Program("openssl")]) {
        return Ok(());
    }
    let testbed = Testbed::start(Environment { certs: Some(rsa_certs()?), ..Environment::default() })?;
    let (https, at_once) = (testbed.https, testbed.share / AT_ONCE_OF_SHARE);
    Row::new("handshakes-rsa", "ServerHellos", |seen| seen.actions() > 100)
        .goal(HANDSHAKE_GOAL)
        .run(&testbed, move |strangers| replay(strangers, https, at_once))
}

#[test]
fn handshakes_ecdsa() -> Result<()> {
    let testbed = Testbed::start(Environment::default())?;
    let (https, at_once) = (testbed.https, testbed.share / AT_ONCE_OF_SHARE);
    Row::new("handshakes-ecdsa", "ServerHellos", |seen| seen.actions() > 100)
        .goal(HANDSHAKE_GOAL)
        .run(&testbed, move |strangers| replay(strangers, https, at_once))
}

/// Says that a ClientHello of 65,535 bytes comes, and sends all but the end of it.
async fn hold_a_hello(stranger: Strangers, proxy: SocketAddr) -> io::Result<()> {
    const RECORD: [u8; 5] = [22, 3, 1, 0x40, 0];
    const CONTENT_BYTES: usize = 0x4000;
    let first = [&RECORD[..], &[1, 0, 0xff, 0xff], &[0; CONTENT_BYTES - 4]].concat();
    let another = [&RECORD[..], &[0; CONTENT_BYTES]].concat();
    let mut tcp = stranger.tcp(proxy).await?;
    for record in [&first, &another, &another, &another] {
        tcp.write_all(record).await?;
        stranger.acted(1);
    }
    Strangers::end(&mut tcp).await
}

#[test]
fn handshake_memory() -> Result<()> {
    let testbed = Testbed::start(Environment::default())?;
    let (https, count) = (testbed.https, testbed.share);
    let row = Row::new("handshake-memory", "records", |seen| seen.actions() >= 2 * seen.testbed.share as u64);
    row.run(&testbed, move |strangers| async move {
        strangers.crowd(count, 1000, move |stranger| hold_a_hello(stranger, https)).await;
    })
}

#[test]
fn key_updates() -> Result<()> {
    const AT_ONCE: usize = 16;
    let testbed = Testbed::start(Environment::default())?;
    let https = testbed.https;
    let row = Row::new("key-updates", "key updates", |seen| seen.actions() > 100);
    row.run(&testbed, move |strangers| async move {
        let update = move |stranger: Strangers| async move {
            let mut tls = stranger.tls(https).await?;
            loop {
                for _ in 0..AT_ONCE {
                    // Each asks for one in return.
                    tls.get_mut().1.refresh_traffic_keys().map_err(io::Error::other)?;
                }
                tls.flush().await?;
                stranger.acted(AT_ONCE);
            }
        };
        strangers.crowd(8, 400, update).await;
    })
}

/// Records of one kind, as fast as they are taken.
async fn flood(stranger: Strangers, proxy: SocketAddr, kind: ContentType, content: &[u8]) -> io::Result<()> {
    const AT_ONCE: usize = 256;
    let tls = stranger.tls(proxy).await?;
    let (mut tcp, mut records): (_, Records) = Strangers::records(tls).map_err(io::Error::other)?;
    loop {
        let mut bytes = Vec::new();
        for _ in 0..AT_ONCE {
            bytes.extend(records.encrypt(kind, content).map_err(io::Error::other)?);
        }
        tcp.write_all(&bytes).await?;
        stranger.acted(AT_ONCE);
    }
}

#[test]
fn tls_warnings() -> Result<()> {
    const USER_CANCELED: [u8; 2] = [1, 90];
    let testbed = Testbed::start(Environment::default())?;
    let https = testbed.https;
    let row = Row::new("tls-warnings", "records", |seen| seen.actions() > 100);
    row.run(&testbed, move |strangers| async move {
        let warn = move |stranger| flood(stranger, https, ContentType::Alert, &USER_CANCELED);
        strangers.crowd(8, 400, warn).await;
    })
}

#[test]
fn empty_records() -> Result<()> {
    let testbed = Testbed::start(Environment::default())?;
    let https = testbed.https;
    let row = Row::new("empty-records", "records", |seen| seen.actions() > 100);
    row.run(&testbed, move |strangers| async move {
        let say_nothing = move |stranger| flood(stranger, https, ContentType::ApplicationData, b"");
        strangers.crowd(4, 400, say_nothing).await;
    })
}
