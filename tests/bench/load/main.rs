//! Plays Meta's senders against one proxy, for `cargo xtask bench`: HTTP/1.1 over TLS 1.3,
//! AES-128-GCM, X25519, or X25519MLKEM768 where that is wanted and the proxy has it.
//!
//! It warms up, says `ready`, waits for a line on standard input, does its load, says what it
//! measured as one line of JSON, and holds its connections until its standard input ends. Any
//! answer but 200, and any connection that fails, ends it with an error: a figure of a proxy that
//! loses requests says nothing.
#![forbid(unsafe_code)]

mod bodies;
mod loads;
mod turns;
mod uploads;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use harness::meta_tls;
use harness::sender::Sender;
use loads::Load;

/// Sends webhooks to one proxy and measures its answers
#[derive(Parser)]
struct Args {
    /// The proxy
    #[arg(long)]
    address: SocketAddr,
    /// The name that its certificate must have; without TLS where it is left out
    #[arg(long, requires = "ca")]
    name: Option<String>,
    /// Who signed that certificate (PEM)
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Would rather agree on keys by X25519MLKEM768
    #[arg(long, global = true)]
    hybrid: bool,
    /// A file that holds the request as it is sent, head and body
    #[arg(long)]
    request: PathBuf,
    #[command(subcommand)]
    load: Load,
}

fn main() -> ExitCode {
    match send(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("load: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn send(args: &Args) -> Result<()> {
    let request =
        std::fs::read(&args.request).with_context(|| format!("reading {}", args.request.display()))?;
    let config = if args.hybrid { meta_tls::hybrid_client_config } else { meta_tls::client_config };
    let config = args.ca.as_deref().map(config).transpose()?;
    let sender = Sender::new(args.address, args.name.as_deref().zip(config), request)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(loads::run(&args.load, sender))
}
