//! `hookgate evidence`: what was measured, for a ticket.

mod addresses;
mod document;
mod file;
mod gather;
mod markdown;
mod summary;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::config_file::ConfigFile;
use super::output::{json, print, print_error};
use super::window::minutes;
use crate::config::HostName;
use crate::insight::Query;
use document::Reader;

#[derive(Debug, Args)]
pub struct Options {
    /// Who is to read it
    #[arg(long = "for", value_name = "READER")]
    reader: Reader,
    /// How far back, in whole minutes: 90s, 30m, 1h, 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = minutes)]
    since: i64,
    /// Name this upstream, and tell of its requests and events; otherwise none is named
    #[arg(long, value_name = "HOST")]
    upstream: Option<HostName>,
    /// Write the text to FILE and the figures to FILE.json, in place of what is there
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the figures as JSON, version 1, instead of the text
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// There is nothing to tell for want of figures.
const NO_FIGURES: u8 = 3;

pub(super) fn run(options: &Options, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    if let Some(path) = &options.output {
        file::ensure_writable(path)?;
    }
    let upstream = options.upstream.as_ref().map(|upstream| upstream.to_ascii_lowercase());
    let query = Query { minutes: options.since, upstream, prefix: None };
    let Some(document) = gather::gather(options.reader, &query, config)? else {
        print_error(
            "hookgate: there are no figures of that time: does hookgate run, and may you ask it? try as root\n",
        );
        return Ok(ExitCode::from(NO_FIGURES));
    };
    match &options.output {
        Some(path) => {
            file::replace(&file::figures_beside(path), &json(&document)?)?;
            file::replace(path, &markdown::text(&document))?;
        }
        None if options.json => print(&json(&document)?)?,
        None => print(&markdown::text(&document))?,
    }
    Ok(ExitCode::SUCCESS)
}
