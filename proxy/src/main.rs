//! The `hookgate` binary.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use hookgate::cli::Cli;

/// 0 fine, 1 it failed, 2 usage (clap's own exit).
fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(code) => code,
        Err(error) => {
            // Where standard error is closed there is nobody left to tell.
            writeln!(io::stderr(), "hookgate: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}
