//! Health, metrics and status over plain HTTP: on an address, for this machine, its monitoring and
//! a browser; on a socket, for the command line.

mod answer;
mod host;
mod page;
mod pages;
pub mod status;
mod waiting;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{sleep, timeout};

use crate::http::head::EndOfHead;
use answer::{LIMITS, is_probe, respond};
use pages::Origin;
use waiting::{Registration, Waiting};

pub use pages::Pages;

/// How long one request may take altogether.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests answered at once; more wait. `/health` and `/ready` do not count, whose answers are
/// short.
const MAX_CONNECTIONS: usize = 16;
/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the pages are asked for.
pub enum Listener {
    Address(TcpListener),
    Socket(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Listener {
    fn origin(&self) -> Origin {
        match self {
            Self::Address(_) => Origin::Anybody,
            Self::Socket(_) => Origin::CommandLine,
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Address(listener) => Box::new(listener.accept().await?.0),
            Self::Socket(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Serves for ever.
pub async fn serve(listener: Listener, pages: Arc<dyn Pages>) {
    let (places, waiting) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Waiting::default());
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let (pages, origin, places) = (Arc::clone(&pages), listener.origin(), Arc::clone(&places));
                waiting.add(|registration| async move {
                    // An error: the monitor has gone, or is too slow.
                    let _ =
                        timeout(REQUEST_TIMEOUT, answer(stream, pages, origin, &places, registration)).await;
                });
                // It reads its request before the connections that would push it out are accepted.
                yield_now().await;
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn answer(
    mut stream: Box<dyn Stream>,
    pages: Arc<dyn Pages>,
    origin: Origin,
    places: &Semaphore,
    waiting: Registration,
) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    // Only a whole head gets a place: a silent connection keeps none from others.
    let _place = match head.as_deref().is_some_and(is_probe) {
        true => (None, Some(waiting)),
        false => {
            let place = places.acquire().await.map_err(io::Error::other)?;
            drop(waiting);
            (Some(place), None)
        }
    };
    let response = spawn_blocking(move || respond(head.as_deref(), &*pages, origin)).await?;
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// A whole request head; `None` where what comes is none.
async fn read_head(stream: &mut Box<dyn Stream>) -> io::Result<Option<Vec<u8>>> {
    let (mut buffer, mut end) = (Vec::new(), EndOfHead::default());
    loop {
        match end.find_request(&buffer, &LIMITS) {
            Ok(Some(length)) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Ok(None) if stream.read_buf(&mut buffer).await? > 0 => {}
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}
