//! The whois protocol (RFC 3912): a line out, text back until the server closes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Registry, RegistryHost};
use crate::prefixes::QUERY;
use crate::upstream::addresses::interleave;
use crate::upstream::{ConnectError, Dns, connect_to_any};

const CONNECT: Duration = Duration::from_secs(10);
/// The longest that a server may say nothing.
const SILENCE: Duration = Duration::from_secs(10);
/// For the whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer. RADB's, mirrors of every other registry included, stays below one.
const MIB: usize = 1 << 20;
const MAX_BYTES: usize = 8 * MIB;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhoisError {
    #[error(
        "cannot resolve {name}: {error}; [dns] servers are asked, or name an address in [guard] registry"
    )]
    Name { name: String, error: ConnectError },
    #[error("cannot connect: {0}; is TCP to that port open from here?")]
    Connect(ConnectError),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("it said nothing for {} s", SILENCE.as_secs())]
    Silence,
    #[error("its answer was not whole after {} s", ANSWER_TIMEOUT.as_secs())]
    Slow,
    #[error("its answer goes on after {} MiB", MAX_BYTES / MIB)]
    Endless,
}

/// All that the registry sends, until it closes.
pub(super) async fn ask(registry: &Registry, dns: &Dns) -> Result<Vec<u8>, WhoisError> {
    let addresses = match &registry.host {
        RegistryHost::Address(address) => vec![*address],
        RegistryHost::Name(name) => {
            let unresolved = |error| WhoisError::Name { name: name.to_string(), error };
            interleave(&dns.lookup(name).await.map_err(unresolved)?)
        }
    };
    let addresses: Vec<SocketAddr> =
        addresses.into_iter().map(|address| SocketAddr::new(address, registry.port)).collect();
    exchange(connect(&addresses).await?).await
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, WhoisError> {
    let connected = timeout(CONNECT, connect_to_any(addresses)).await;
    connected.unwrap_or(Err(ConnectError::TimedOut)).map_err(WhoisError::Connect)
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Vec<u8>, WhoisError> {
    timeout(ANSWER_TIMEOUT, query_and_answer(stream)).await.unwrap_or(Err(WhoisError::Slow))
}

async fn query_and_answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<Vec<u8>, WhoisError> {
    stream.write_all(format!("{QUERY}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        let read = timeout(SILENCE, stream.read_buf(&mut answer)).await.map_err(|_| WhoisError::Silence)?;
        if read? == 0 {
            return Ok(answer);
        }
        if answer.len() > MAX_BYTES {
            return Err(WhoisError::Endless);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    /// The client's outcome and how long it took, against a server that got its query.
    async fn against<F: Future<Output = ()>>(
        server: impl FnOnce(DuplexStream) -> F,
    ) -> (Result<Vec<u8>, WhoisError>, Duration) {
        let (ours, mut theirs) = duplex(64 * 1024);
        let begun = Instant::now();
        let serve = async {
            let mut query = [0; 19];
            theirs.read_exact(&mut query).await.unwrap();
            assert_eq!(query, *b"-i origin AS32934\r\n");
            server(theirs).await;
        };
        let outcome = tokio::select! {
            outcome = exchange(ours) => outcome,
            () = async { serve.await; std::future::pending().await } => unreachable!(),
        };
        (outcome, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn takes_what_comes_until_the_server_closes() {
        let (outcome, _) = against(|mut stream| async move {
            for part in ["route: ", "157.240.0.0/17\n\n\n"] {
                stream.write_all(part.as_bytes()).await.unwrap();
                sleep(Duration::from_secs(9)).await;
            }
        })
        .await;
        assert_eq!(outcome.unwrap(), b"route: 157.240.0.0/17\n\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it() {
        let (outcome, took) = against(|stream| async move {
            sleep(Duration::from_secs(3600)).await;
            drop(stream);
        })
        .await;
        assert!(matches!(outcome, Err(WhoisError::Silence)), "{outcome:?}");
        assert_eq!(took, SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_does_not_keep_it() {
        let (outcome, took) = against(|mut stream| async move {
            while stream.write_all(b"%").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        })
        .await;
        assert!(matches!(outcome, Err(WhoisError::Slow)), "{outcome:?}");
        assert_eq!(took, ANSWER_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_without_end_is_not_collected() {
        let (outcome, _) =
            against(|mut stream| async move { while stream.write_all(&[b'%'; 4096]).await.is_ok() {} }).await;
        assert!(matches!(outcome, Err(WhoisError::Endless)), "{outcome:?}");
    }
}
