use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as Task, Poll};

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;

use crate::tls::{Relay, Upstream};

/// What a webhook and its answer need: larger ones would be paid for by every new connection.
const COPY_BYTES: usize = 4 * 1024;

/// TLS connections to the upstream that wait for a client. Clients close when they have their
/// answer, which tells us, who know no HTTP, that the connection to the upstream is free again.
#[derive(Clone)]
pub struct Pool {
    relay: Relay,
    upstream: SocketAddr,
    idle: Arc<Mutex<Vec<Upstream>>>,
}

impl Pool {
    pub fn new(relay: Relay, upstream: SocketAddr) -> Self {
        Self { relay, upstream, idle: Arc::default() }
    }

    /// One client, whose connection ends after one answer.
    ///
    /// # Errors
    /// One of the two connections fails.
    pub async fn run(self, client: TcpStream) -> Result<()> {
        let mut client = self.relay.accept(client).await?;
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let upstream = match idle {
            Some(upstream) => upstream,
            None => self.relay.connect(self.upstream).await?,
        };
        let mut lent = Lent { upstream, client_is_done: false };
        copy_bidirectional_with_sizes(&mut client, &mut lent, COPY_BYTES, COPY_BYTES)
            .await
            .context("relaying TLS over a pooled connection")?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(lent.upstream);
        Ok(())
    }
}

/// A connection to the upstream that stays open when its client is done: it only looks closed.
struct Lent {
    upstream: Upstream,
    client_is_done: bool,
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.client_is_done {
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.upstream).poll_read(task, buffer)
        }
    }
}

impl AsyncWrite for Lent {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.upstream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.upstream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        self.client_is_done = true;
        Poll::Ready(Ok(()))
    }
}
