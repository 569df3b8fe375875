//! The admin listener: health and metrics over plain HTTP, for this machine and its monitoring alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::http::head::{EndOfHead, HeadLimits, RequestHead, slots};
use crate::http::target::Target;
use crate::observe::Exposition;

/// How long one request may take altogether.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests answered at once; more wait.
const MOST_AT_ONCE: usize = 16;
/// How long accepting pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const LIMITS: HeadLimits = HeadLimits { bytes: 8192, target_bytes: 1024, field_lines: 64 };

/// What the pages say.
pub trait Pages: Send + Sync {
    /// Everything that is counted.
    fn metrics(&self) -> Exposition;
    /// What keeps the proxy from serving, a reason each; none when it is ready.
    fn unready(&self) -> Vec<String>;
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, pages: Arc<dyn Pages>) {
    let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
    loop {
        // The semaphore is never closed, so that there is always a place in the end.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((tcp, _)) => {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    // A monitor that goes away or is too slow has nobody else to tell.
                    let _ = timeout(PATIENCE, answer(tcp, &*pages)).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn answer(mut tcp: TcpStream, pages: &dyn Pages) -> io::Result<()> {
    let response = match read_head(&mut tcp).await? {
        Some(head) => respond(&head, pages),
        None => response("400 Bad Request", TEXT, "not an HTTP request\n"),
    };
    tcp.write_all(response.as_bytes()).await?;
    tcp.shutdown().await
}

/// A whole request head; `None` where what comes is none.
async fn read_head(tcp: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let (mut buffer, mut end) = (Vec::new(), EndOfHead::default());
    loop {
        match end.find_request(&buffer, &LIMITS) {
            Ok(Some(length)) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Ok(None) if tcp.read_buf(&mut buffer).await? > 0 => {}
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn respond(head: &[u8], pages: &dyn Pages) -> String {
    let mut slots = slots();
    let Ok(head) = RequestHead::parse(head, &mut slots, &LIMITS) else {
        return response("400 Bad Request", TEXT, "not a valid HTTP request\n");
    };
    if head.method != "GET" {
        return response("405 Method Not Allowed", TEXT, "GET /health, /ready or /metrics\n");
    }
    let path = match head.target {
        Target::Path(path) => path.split(|b| *b == b'?').next().unwrap_or_default(),
        Target::Asterisk | Target::Authority => b"",
    };
    match path {
        b"/health" => response("200 OK", TEXT, "serving\n"),
        b"/ready" => match pages.unready() {
            reasons if reasons.is_empty() => response("200 OK", TEXT, "ready\n"),
            reasons => response("503 Service Unavailable", TEXT, &(reasons.join("\n") + "\n")),
        },
        b"/metrics" => response("200 OK", Exposition::CONTENT_TYPE, &pages.metrics().into_text()),
        _ => response("404 Not Found", TEXT, "/health, /ready and /metrics are here\n"),
    }
}

fn response(status: &str, content_type: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}
