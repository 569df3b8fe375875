use std::time::Duration;

use anyhow::{Result, bail};
use harness::sender::{Connection, Connector, Then};
use serde_json::json;
use tokio::time::Instant;

use crate::turns::Starter;

/// As much as a TLS session takes at a time.
static BLOCK: [u8; 64 * 1024] = [b'x'; 64 * 1024];

pub async fn run(to: Connector, target: &str, up_bytes: Option<usize>, seconds: f64) -> Result<()> {
    let mut connection = to.connect().await?;
    let mut starter = Starter::ready()?;
    starter.go().await?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let mut bytes = 0;
    while Instant::now() < end {
        let (body_bytes, then) = match up_bytes {
            Some(body_bytes) => (body_bytes, upload(&mut connection, target, body_bytes).await?),
            None => download(&mut connection, target).await?,
        };
        bytes += body_bytes;
        if then == Then::Close {
            connection = to.connect().await?;
        }
    }
    if bytes == 0 {
        bail!("no time for a single body");
    }
    let (port, seconds) = (connection.local_port(), start.elapsed().as_secs_f64());
    starter.done(json!({ "bytes": bytes, "seconds": seconds, "port": port })).await
}

async fn upload(connection: &mut Connection, target: &str, bytes: usize) -> Result<Then> {
    connection.send(post(target, bytes).as_bytes()).await?;
    let mut left = bytes;
    while left > 0 {
        let block = &BLOCK[..left.min(BLOCK.len())];
        connection.send(block).await?;
        left -= block.len();
    }
    connection.answer().await
}

async fn download(connection: &mut Connection, target: &str) -> Result<(usize, Then)> {
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: proxy\r\n\r\n").as_bytes()).await?;
    connection.large_answer().await
}

/// The head of a request with a body.
pub fn post(target: &str, bytes: usize) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: proxy\r\nContent-Length: {bytes}\r\n\r\n")
}
