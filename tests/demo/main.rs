//! hookgate at work with real peers. `cargo xtask run` and `cargo xtask demo` build this program
//! and become it.
#![forbid(unsafe_code)]

mod bpffs;
mod packets;
mod run;

use std::process::ExitCode;

use clap::Parser;

/// hookgate at work with real peers
#[derive(Parser)]
enum Command {
    Run(run::Args),
    Packets(packets::Args),
}

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Run(args) => run::main(&args),
        Command::Packets(args) => packets::main(&args),
    };
    done.unwrap_or_else(|e| {
        eprintln!("demo: {e:#}");
        ExitCode::FAILURE
    })
}
