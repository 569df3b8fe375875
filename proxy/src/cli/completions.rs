//! `hookgate completions`: for the shell that asks.

use clap::{Args, Command};
use clap_complete::Shell;

use super::output::print;

#[derive(Debug, Args)]
pub struct Options {
    shell: Shell,
}

pub(super) fn run(options: &Options, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, "hookgate", &mut script);
    Ok(print(&String::from_utf8(script)?)?)
}
