//! The `http` listener, which reads files for certificate authorities.

use anyhow::Result;
use harness::{Strangers, TempDir};
use tokio::io::AsyncWriteExt;

use crate::row::Row;
use crate::testbed::{Environment, Testbed};

#[test]
fn acme_tokens() -> Result<()> {
    let webroot = TempDir::new("webroot")?;
    let sections = format!("[acme]\nwebroot = {:?}", webroot.path());
    let testbed = Testbed::start(Environment { sections, ..Environment::default() })?;
    let http = testbed.http;
    let row = Row::new("acme-tokens", "requests", |seen| seen.actions() > 100);
    row.run(&testbed, move |strangers| async move {
        let ask = move |stranger: Strangers| async move {
            let mut tcp = stranger.tcp(http).await?;
            let token = stranger.counts().actions.load(std::sync::atomic::Ordering::Relaxed);
            let path = format!("/.well-known/acme-challenge/token-{token}");
            tcp.write_all(format!("GET {path} HTTP/1.1\r\nHost: proxy.example.com\r\n\r\n").as_bytes())
                .await?;
            Strangers::responses(&mut tcp, 1).await?;
            stranger.acted(1);
            Ok(())
        };
        strangers.crowd(64, 1000, ask).await;
    })
}
