//! Bodies that take their time, and bodies in the smallest of pieces.

use std::time::Duration;

use anyhow::Result;
use harness::{HostileUpstream, Strangers, pace_task};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::row::{Row, Seen};
use crate::testbed::{Environment, Testbed, UPSTREAM};

/// Far below the rate that a body must have, but never silent for as long as `body_idle`.
const DRIP: Duration = Duration::from_millis(250);
const DRIP_BYTES: usize = 64;

/// Whether the proxy has taken slots of strangers at an upstream back.
fn ends_slow_bodies(seen: &Seen<'_>, upstream: &str) -> bool {
    let ended =
        |code| seen.rise(&format!("hookgate_requests_total{{upstream=\"{upstream}\",code=\"{code}\"}}"));
    ended("408") + ended("other") > 0.0
}

#[test]
fn slow_uploads() -> Result<()> {
    let testbed = Testbed::start(Environment::default())?;
    let (https, count) = (testbed.https, testbed.slots + testbed.slots / 4);
    Row::new("slow-uploads", "bytes", |seen| ends_slow_bodies(seen, UPSTREAM)).run(
        &testbed,
        move |strangers| async move {
            let upload = move |stranger: Strangers| async move {
                let mut tls = stranger.tls(https).await?;
                let head =
                    format!("POST /{UPSTREAM}/ HTTP/1.1\r\nHost: p\r\nContent-Length: 1000000\r\n\r\n");
                tls.write_all(head.as_bytes()).await?;
                stranger.drip(&mut tls, b"x", DRIP).await
            };
            strangers.crowd(count, 400, upload).await;
        },
    )
}

#[test]
fn slow_downloads() -> Result<()> {
    const SOURCE: &str = "source.example.com";
    // The webhooks' own upstream would be busy filling the sockets of all strangers.
    let source = HostileUpstream::start(|mut tcp| async move {
        SockRef::from(&tcp).set_send_buffer_size(64 * 1024)?;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await?;
        loop {
            tcp.write_all(&[b'x'; 16 * 1024]).await?;
        }
    })?;
    let testbed = Testbed::start(Environment::with(SOURCE, &source)?)?;
    let (https, count) = (testbed.https, testbed.slots + testbed.slots / 4);
    let row = Row::new("slow-downloads", "bytes", |seen| ends_slow_bodies(seen, SOURCE));
    row.run(&testbed, move |strangers| async move {
        let download = move |stranger: Strangers| async move {
            let mut tls = stranger.tls(https).await?;
            Strangers::narrow(tls.get_ref().0)?;
            tls.write_all(format!("GET /{SOURCE}/ HTTP/1.1\r\nHost: p\r\n\r\n").as_bytes()).await?;
            tls.flush().await?;
            // What comes is encrypted, and not worth the trouble.
            let (mut tcp, _) = tls.into_inner();
            let mut bytes = [0; DRIP_BYTES];
            loop {
                match tcp.read(&mut bytes).await? {
                    0 => return Ok(()),
                    count => stranger.acted(count),
                }
                pace_task(DRIP).await;
            }
        };
        strangers.crowd(count, 400, download).await;
    })
}

#[test]
fn one_byte_chunks() -> Result<()> {
    const CHUNKS: usize = 2700;
    let sink = HostileUpstream::start(|mut tcp| async move { Strangers::end(&mut tcp).await })?;
    let testbed = Testbed::start(Environment::with("sink.example.com", &sink)?)?;
    let https = testbed.https;
    let row = Row::new("one-byte-chunks", "chunks", |seen| {
        seen.rise("hookgate_body_bytes_total{path=\"copy\"}") > 100_000.0
    });
    row.run(&testbed, move |strangers| async move {
        let upload = move |stranger: Strangers| async move {
            let mut tls = stranger.tls(https).await?;
            let head = "POST /sink.example.com/ HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n";
            tls.write_all(head.as_bytes()).await?;
            let chunks = b"1\r\nx\r\n".repeat(CHUNKS);
            loop {
                tls.write_all(&chunks).await?;
                tls.flush().await?;
                stranger.acted(CHUNKS);
            }
        };
        strangers.crowd(4, 100, upload).await;
    })
}
