//! Health and metrics over plain HTTP: on an address, for this machine and its monitoring; on a socket, for the command
//! line.

mod socket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::http::head::{EndOfHead, HeadLimits, RequestHead, slots};
use crate::http::target::Target;
use crate::observe::{Delivery, Exposition};
use crate::stats::Document;

/// How long one request may take altogether.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests answered at once; more wait.
const MOST_AT_ONCE: usize = 16;
/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const LIMITS: HeadLimits = HeadLimits { bytes: 8192, target_bytes: 1024, field_lines: 64 };

/// What the pages say. Each may block for a moment.
pub trait Pages: Send + Sync {
    /// Everything that is counted.
    fn metrics(&self) -> Exposition;
    /// The document of `hookgate stats --json`.
    fn stats(&self) -> Document;
    /// The latest requests, those after that number.
    fn deliveries(&self, after: u64) -> Vec<Delivery>;
    /// Puts in force the prefixes that were stored; how many there are then.
    ///
    /// Errors: why those that were in force still are.
    fn take_prefixes(&self) -> Result<usize, String>;
    /// Reads the configuration again and puts it in force; what has changed.
    ///
    /// Errors: why nothing has.
    fn reload(&self) -> Result<String, String>;
    /// What keeps the proxy from serving, a reason each; none when it is ready.
    fn unready(&self) -> Vec<String>;
}

pub use socket::{AdminSocket, BadSocket};

/// Where the pages are asked for.
pub enum Listener {
    Address(TcpListener),
    Socket(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Who asks.
#[derive(Clone, Copy)]
enum Origin {
    Anybody,
    /// Root, or the user or the group that the proxy runs as.
    CommandLine,
}

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
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    loop {
        // The semaphore is never closed, so that there is always a place in the end.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok(stream) => {
                let (pages, origin) = (Arc::clone(&pages), listener.origin());
                tokio::spawn(async move {
                    // A monitor that goes away or is too slow has nobody else to tell.
                    let _ = timeout(PATIENCE, answer(stream, pages, origin)).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn answer(mut stream: Box<dyn Stream>, pages: Arc<dyn Pages>, origin: Origin) -> io::Result<()> {
    let response = match read_head(&mut stream).await? {
        Some(head) => spawn_blocking(move || respond(&head, &*pages, origin)).await?,
        None => response("400 Bad Request", TEXT, "not an HTTP request\n"),
    };
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

const TEXT: &str = "text/plain; charset=utf-8";

fn respond(head: &[u8], pages: &dyn Pages, origin: Origin) -> String {
    let mut slots = slots();
    let Ok(head) = RequestHead::parse(head, &mut slots, &LIMITS) else {
        return response("400 Bad Request", TEXT, "not a valid HTTP request\n");
    };
    let target = match head.target {
        Target::Path(path) => path,
        Target::Asterisk | Target::Authority => b"",
    };
    let question = target.iter().position(|b| *b == b'?');
    let (path, query) = target.split_at(question.unwrap_or(target.len()));
    match (head.method, origin) {
        ("GET", _) => page(path, query, pages),
        ("POST", Origin::CommandLine) => act(path, pages),
        _ => response(
            "405 Method Not Allowed",
            TEXT,
            "GET /health, /ready, /metrics, /stats.json or /deliveries.json\n",
        ),
    }
}

fn act(path: &[u8], pages: &dyn Pages) -> String {
    match path {
        b"/prefixes" => match pages.take_prefixes() {
            Ok(count) => response("200 OK", TEXT, &format!("{count} in force\n")),
            Err(why) => response("409 Conflict", TEXT, &format!("{why}\n")),
        },
        b"/reload" => match pages.reload() {
            Ok(report) => response("200 OK", TEXT, &report),
            Err(why) => response("409 Conflict", TEXT, &format!("{why}\n")),
        },
        _ => response("404 Not Found", TEXT, "/prefixes and /reload are here\n"),
    }
}

fn page(path: &[u8], query: &[u8], pages: &dyn Pages) -> String {
    match path {
        b"/health" => response("200 OK", TEXT, "serving\n"),
        b"/ready" => match pages.unready() {
            reasons if reasons.is_empty() => response("200 OK", TEXT, "ready\n"),
            reasons => response("503 Service Unavailable", TEXT, &(reasons.join("\n") + "\n")),
        },
        b"/metrics" => response("200 OK", Exposition::CONTENT_TYPE, &pages.metrics().into_text()),
        b"/stats.json" => json(&pages.stats()),
        b"/deliveries.json" => {
            let after = std::str::from_utf8(query).ok().and_then(|query| query.strip_prefix("?after="));
            json(&pages.deliveries(after.and_then(|number| number.parse().ok()).unwrap_or(0)))
        }
        _ => response(
            "404 Not Found",
            TEXT,
            "/health, /ready, /metrics, /stats.json and /deliveries.json are here\n",
        ),
    }
}

fn json(document: &impl Serialize) -> String {
    match serde_json::to_string(document) {
        Ok(json) => response("200 OK", "application/json", &json),
        Err(error) => response("500 Internal Server Error", TEXT, &format!("{error}\n")),
    }
}

fn response(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
