//! Requests' heads: slow, large, odd, and many.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use harness::Strangers;
use tokio::io::AsyncWriteExt;

use crate::row::Row;
use crate::testbed::{Environment, Testbed, UPSTREAM};

/// Sends `count` requests at once, and again when they are answered.
async fn pipeline(
    stranger: Strangers,
    proxy: SocketAddr,
    requests: Rc<[u8]>,
    count: usize,
) -> io::Result<()> {
    let mut tls = stranger.tls(proxy).await?;
    loop {
        tls.write_all(&requests).await?;
        tls.flush().await?;
        Strangers::responses(&mut tls, count).await?;
        stranger.acted(count);
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: proxy.example.com\r\n\r\n")
}

#[test]
fn slow_heads() -> Result<()> {
    let row = Row::new("slow-heads", "bytes", |seen| {
        seen.connections() >= seen.testbed.share / 5 && seen.actions() > seen.testbed.share as u64 / 4
    });
    let testbed = Testbed::start(Environment::default())?;
    let (https, count) = (testbed.https, testbed.share / 4);
    row.run(&testbed, move |strangers| async move {
        let write = move |stranger: Strangers| async move {
            let mut tls = stranger.tls(https).await?;
            tls.write_all(b"GET /").await?;
            stranger.drip(&mut tls, b"x", Duration::from_secs(1)).await
        };
        strangers.crowd(count, 400, write).await;
    })
}

#[test]
fn large_heads() -> Result<()> {
    let row = Row::new("large-heads", "requests", |seen| seen.actions() > 50);
    let testbed = Testbed::start(Environment::default())?;
    let https = testbed.https;
    row.run(&testbed, move |strangers| async move {
        let fields: String = (0..40).map(|n| format!("X-{n}: {}\r\n", "x".repeat(350))).collect();
        let tokens = (0..2300).map(|n| format!("t{n:05}")).collect::<Vec<_>>().join(",");
        let head = format!(
            "POST /{UPSTREAM}/ HTTP/1.1\r\nHost: p\r\n{fields}Connection: {tokens}\r\nContent-Length: 0\r\n\r\n"
        );
        let head: Rc<[u8]> = head.into_bytes().into();
        strangers.crowd(16, 400, move |stranger| pipeline(stranger, https, head.clone(), 1)).await;
    })
}

#[test]
fn long_methods() -> Result<()> {
    let row = Row::new("long-methods", "requests", |seen| {
        seen.rise("hookgate_requests_total{upstream=\"\",code=\"400\"}") > 20.0
    });
    let testbed = Testbed::start(Environment::default())?;
    let https = testbed.https;
    row.run(&testbed, move |strangers| async move {
        let head: Rc<[u8]> =
            format!("{} / HTTP/1.1\r\nHost: p\r\n\r\n", "A".repeat(32_700)).into_bytes().into();
        strangers.crowd(16, 400, move |stranger| pipeline(stranger, https, head.clone(), 1)).await;
    })
}

#[test]
fn log_flood() -> Result<()> {
    let row = Row::new("log-flood", "requests", |seen| {
        seen.rise("hookgate_log_lines_missing_total{reason=\"strangers\"}") > 1000.0
    });
    let testbed = Testbed::start(Environment::default())?;
    let https = testbed.https;
    row.run(&testbed, move |strangers| async move {
        let long = get(&format!("/{}", "x".repeat(7000)));
        let requests: Rc<[u8]> = [get("/x").repeat(28), long.repeat(4)].concat().into_bytes().into();
        strangers.crowd(4, 100, move |stranger| pipeline(stranger, https, requests.clone(), 32)).await;
    })
}

#[test]
fn deliveries_ring() -> Result<()> {
    // Measured, it is more than the 10,000 of each thread for which there is room; kept whole, they
    // would be more than is planned.
    let row = Row::new("deliveries-ring", "requests", |seen| {
        seen.actions() > if seen.testbed.share < 6000 { 500 } else { 36_000 }
    });
    let testbed = Testbed::start(Environment::default())?;
    let https = testbed.https;
    row.run(&testbed, move |strangers| async move {
        let requests: Rc<[u8]> = get(&format!("/{}", "x".repeat(7900))).repeat(16).into_bytes().into();
        strangers.crowd(8, 100, move |stranger| pipeline(stranger, https, requests.clone(), 16)).await;
    })
}
