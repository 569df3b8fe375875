//! What the proxies stand in front of where bodies are large, for `cargo xtask bench`: it takes
//! them and throws them away, or sends zeros, as cheaply as it can, with and without TLS. One
//! thread.
//!
//! `GET` is answered with [`DOWN_BYTES`]; any other request with a few bytes, once its body is
//! there. The body of one to [`STALLED`] is left unread for [`STALL`].
#![forbid(unsafe_code)]

mod request;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use harness::{meta_tls, pace_task};
use request::{Reader, Request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Takes and sends large bodies
#[derive(Parser)]
struct Args {
    /// Where to listen with TLS
    #[arg(long)]
    tls: SocketAddr,
    /// Where to listen without
    #[arg(long)]
    plain: SocketAddr,
    /// Our certificate and its key (PEM)
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
}

const DOWN_BYTES: usize = 64 << 20;
const STALLED: &str = "/stalled";
const STALL: Duration = Duration::from_secs(4);
/// Beneath TLS, which by itself asks the kernel for 4 KiB at a time.
const READ_BYTES: usize = 256 * 1024;
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("starting").and_then(|runtime| runtime.block_on(run(Args::parse()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("origin: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let tls = TlsAcceptor::from(Arc::new(meta_tls::server_config(&args.cert, &args.key)?));
    let (plain, encrypted) = (listen(args.plain).await?, listen(args.tls).await?);
    loop {
        tokio::select! {
            accepted = plain.accept() => spawn(serve(nodelay(accepted?.0)?)),
            accepted = encrypted.accept() => {
                let (tls, tcp) = (tls.clone(), nodelay(accepted?.0)?);
                spawn(async move {
                    let tcp = BufReader::with_capacity(READ_BYTES, tcp);
                    serve(tls.accept(tcp).await.context("a handshake")?).await
                });
            }
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}

fn nodelay(tcp: TcpStream) -> Result<TcpStream> {
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn spawn(connection: impl Future<Output = Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(e) = connection.await {
            eprintln!("origin: {e:#}");
        }
    });
}

/// Answers a connection's requests, one after the other.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let mut reader = Reader::new(stream);
    while let Some(request) = reader.head().await? {
        if request.target.contains(STALLED) {
            pace_task(STALL).await;
        }
        reader.throw_away(request.body_bytes).await?;
        answer(reader.stream(), &request).await.context("answering")?;
        if !request.keeps_alive {
            return reader.stream().shutdown().await.context("closing");
        }
    }
    Ok(())
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin), request: &Request) -> std::io::Result<()> {
    const RECEIVED: &str = "EVENT_RECEIVED\n";
    let is_down = request.method == "GET";
    let mut left = if is_down { DOWN_BYTES } else { RECEIVED.len() };
    let connection = if request.keeps_alive { "keep-alive" } else { "close" };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {left}\r\nConnection: {connection}\r\n\r\n");
    if is_down {
        stream.write_all(head.as_bytes()).await?;
        while left > 0 {
            left -= stream.write(&ZEROS[..left.min(ZEROS.len())]).await?;
        }
    } else {
        stream.write_all((head + RECEIVED).as_bytes()).await?;
    }
    stream.flush().await
}
