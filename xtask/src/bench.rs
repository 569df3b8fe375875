//! Starts the bench, which is a program of its own: tests/bench/runner.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use harness_core::Workspace;

use crate::build;
use crate::ebpf::{self, Object};

/// Measures hookgate, nginx and HAProxy side by side, and the guard's program; figures go to
/// target/bench
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// The bench's own options: see `cargo xtask bench --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

pub fn main(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    if let Object::Missing { why } = ebpf::build(workspace)? {
        eprintln!("xtask: the guard's program can't be measured: {why}");
    }
    let bench = build::beside_hookgate(workspace, build::BENCH)?;
    Err(Command::new(&bench).args(&args.options).exec())
        .with_context(|| format!("starting {}", bench.display()))
}

/// What `cargo xtask bench --help` prints.
///
/// # Errors
/// The bench does not compile.
pub fn help(workspace: &Workspace) -> Result<String> {
    let mut bench = Command::new(build::beside_hookgate(workspace, build::BENCH)?);
    bench.arg("--help");
    harness_core::run(bench)
}
