//! `hookgate man`: the manual, made from what `--help` says.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::Man;

use super::output::print;

#[derive(Debug, Args)]
pub struct Options {
    /// Write hookgate.1 and a page for each command into this folder, instead of printing
    /// hookgate.1
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

pub(super) fn run(options: &Options, command: Command) -> anyhow::Result<()> {
    if let Some(folder) = &options.folder {
        return clap_mangen::generate_to(command, folder)
            .with_context(|| format!("cannot write into {}", folder.display()));
    }
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(print(&String::from_utf8(page)?)?)
}
