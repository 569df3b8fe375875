use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::pace_task;
use harness::sender::{Connection, Connector};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::bodies::post;
use crate::loads::all;
use crate::turns::Starter;

static BLOCK: [u8; 16 * 1024] = [b'x'; 16 * 1024];
/// What trickles: so much at a time, so long apart.
const DRIP_BYTES: usize = 1024;
const DRIP_EVERY: Duration = Duration::from_millis(100);
/// Nothing has been sent at full speed for so long: all that could be taken has been.
const SETTLED: Duration = Duration::from_millis(500);
/// The uploads end within this time after they are released, or never will.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What all uploads of a load have in common.
#[derive(Clone)]
struct Upload {
    head: Arc<str>,
    bytes: usize,
    at_once: usize,
    /// Bytes sent at full speed so far, by all together.
    sent: Arc<AtomicUsize>,
    /// Closed when the trickle may end.
    held: watch::Receiver<()>,
}

/// Starts the uploads, and says so when all that could be taken at full speed has been. After the
/// measurement it sends the rest and waits for each answer: a proxy that holds little because it
/// loses some has not won.
pub async fn run(
    to: Connector,
    target: &str,
    connections: usize,
    bytes: usize,
    at_once: usize,
) -> Result<()> {
    ensure!(at_once <= bytes, "more at once than there is");
    let opening = std::iter::repeat_n(to, connections);
    let opening = opening.map(|to| async move { Ok((to.connect().await?, Vec::new())) });
    let (open, _) = all(opening).await?;
    let mut starter = Starter::ready()?;
    starter.go().await?;

    let (hold, held) = watch::channel(());
    let upload = Upload { head: post(target, bytes).into(), bytes, at_once, sent: Arc::default(), held };
    let mut uploads: JoinSet<_> = open.into_iter().map(|connection| upload.clone().run(connection)).collect();
    let mut sent = usize::MAX;
    while sent != upload.sent.load(Ordering::Relaxed) {
        sent = upload.sent.load(Ordering::Relaxed);
        pace_task(SETTLED).await;
    }
    if let Some(ended) = uploads.try_join_next() {
        ended??;
        bail!("an upload has ended before it was looked at");
    }
    starter.done(json!({ "connections": connections, "sent": sent })).await?;
    drop(hold);
    timeout(MAX_WAIT, async { uploads.join_all().await.into_iter().collect::<Result<()>>() })
        .await
        .context("some uploads don't end")?
}

impl Upload {
    async fn run(mut self, mut connection: Connection) -> Result<()> {
        connection.send(self.head.as_bytes()).await?;
        let mut left = self.bytes;
        while left > self.bytes - self.at_once {
            let block = &BLOCK[..BLOCK.len().min(left - (self.bytes - self.at_once))];
            connection.send(block).await?;
            left -= block.len();
            self.sent.fetch_add(block.len(), Ordering::Relaxed);
        }
        while left > DRIP_BYTES && timeout(DRIP_EVERY, self.held.changed()).await.is_err() {
            connection.send(&BLOCK[..DRIP_BYTES]).await?;
            left -= DRIP_BYTES;
        }
        while left > 0 {
            let block = &BLOCK[..BLOCK.len().min(left)];
            connection.send(block).await?;
            left -= block.len();
        }
        connection.answer().await.map(|_| ())
    }
}
