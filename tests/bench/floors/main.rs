//! The least that a relay can cost, for `cargo xtask bench`: bytes go from one connection to
//! another, unparsed and unlogged. One thread, like every proxy there.
//!
//! Three sorts of listener, each before an upstream of its own: `--tls` ends the client's TLS and
//! speaks TLS to the upstream, a connection there for each connection here, with the TLS library
//! that hookgate has; `--pooled` does the same for clients of one request each, and keeps the
//! upstream's connection for the next client; `--splice` moves plaintext through a pipe, and no
//! byte passes through this process.
#![forbid(unsafe_code)]

mod pooled;
mod splice;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Relays bytes
#[derive(Parser)]
struct Args {
    #[arg(long, value_name = "LISTEN=UPSTREAM", value_parser = route)]
    tls: Vec<Route>,
    #[arg(long, value_name = "LISTEN=UPSTREAM", value_parser = route)]
    pooled: Vec<Route>,
    #[arg(long, value_name = "LISTEN=UPSTREAM", value_parser = route)]
    splice: Vec<Route>,
    /// Our certificate and its key (PEM)
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
    /// The name that the upstreams' certificate must have
    #[arg(long)]
    name: String,
    /// Who signed that certificate (PEM)
    #[arg(long)]
    ca: PathBuf,
}

/// Where clients come from, and where they are led to.
#[derive(Clone, Copy)]
struct Route {
    listen: SocketAddr,
    upstream: SocketAddr,
}

fn route(text: &str) -> Result<Route> {
    let (listen, upstream) = text.split_once('=').context("no = between two addresses")?;
    Ok(Route { listen: listen.parse()?, upstream: upstream.parse()? })
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.context("starting").and_then(|runtime| runtime.block_on(run(Args::parse()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("floors: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let relay = tls::Relay::new(&args.cert, &args.key, &args.ca, &args.name)?;
    let mut listeners = JoinSet::new();
    for route in args.tls {
        let relay = relay.clone();
        listeners.spawn(serve(route.listen, move |client| relay.clone().run(client, route.upstream)));
    }
    for route in args.pooled {
        let pool = pooled::Pool::new(relay.clone(), route.upstream);
        listeners.spawn(serve(route.listen, move |client| pool.clone().run(client)));
    }
    for route in args.splice {
        listeners.spawn(serve(route.listen, move |client| splice::run(client, route.upstream)));
    }
    listeners.join_next().await.context("nothing to listen on")??
}

/// Each connection is served by itself; one that fails is reported.
async fn serve<F>(listen: SocketAddr, run: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    loop {
        let (client, _) = listener.accept().await.context("accepting")?;
        client.set_nodelay(true)?;
        let connection = run(client);
        tokio::spawn(async move {
            if let Err(e) = connection.await {
                eprintln!("floors: {e:#}");
            }
        });
    }
}

async fn connect(upstream: SocketAddr) -> Result<TcpStream> {
    let tcp = TcpStream::connect(upstream).await.with_context(|| format!("connecting to {upstream}"))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
