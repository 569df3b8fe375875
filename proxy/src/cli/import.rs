//! `hookgate import`: what another server's configuration means here.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Subcommand;

use super::{counted, print, print_error};
use crate::config::{Config, ConfigError};
use crate::nginx::{Imported, import};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the hookgate.toml that nginx's configuration amounts to, and what could not be carried
    /// over
    Nginx {
        /// nginx.conf, or the files of the sites and maps that matter; what they include is read
        /// too
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
    },
}

pub(super) fn run(command: &Command) -> anyhow::Result<()> {
    let Command::Nginx { files } = command;
    let Imported { toml, upstreams, notes } = import(files)?;
    if upstreams == 0 {
        print(&toml)?;
        bail!("no host was found that is forwarded to: the comments above say why");
    }
    print(&toml)?;
    let (upstreams, notes) = (counted(upstreams, "upstream"), counted(notes, "directive"));
    let mut said = format!("{upstreams}, {notes} not carried over (see the comments at the end)\n");
    if let Err(ConfigError(problems)) = Config::parse(Path::new("hookgate.toml"), &toml) {
        for problem in problems {
            said += &format!("to correct by hand: {problem}\n");
        }
    }
    print_error(&said);
    Ok(())
}
