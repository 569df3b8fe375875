//! `hookgate completions`: for the shell that asks.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, print};

#[derive(Debug, Args)]
pub struct Options {
    shell: Shell,
}

pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "hookgate", &mut script);
    Ok(print(&String::from_utf8(script)?)?)
}
