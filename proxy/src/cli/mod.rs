//! The command line: a file a command.

mod check;
mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};

/// A relay for Meta's webhooks, with an XDP guard that counts every connection.
#[derive(Debug, Parser)]
#[command(name = "hookgate", version, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration [default: /etc/hookgate/hookgate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy and, when configured and permitted, the guard
    Run,
    /// Read the whole configuration and say what is wrong and where
    Check,
}

impl Cli {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = ConfigFile(self.config);
        match self.command {
            Command::Run => run::run(&config),
            Command::Check => check::run(&config),
        }
    }
}

/// `--config`, if given.
struct ConfigFile(Option<PathBuf>);

impl ConfigFile {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH))
    }

    /// Errors: the file can't be read or is no valid configuration, also when it is the default one.
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.path())?)
    }
}
