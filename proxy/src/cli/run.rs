//! `hookgate run`: the proxy and, when configured and permitted, the guard.

use std::process::ExitCode;

use super::{ConfigFile, Consent};
use crate::server::{self, Start};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// Take the place of the hookgate that runs with this configuration, without a refused connection
    #[arg(long)]
    takeover: bool,
}

pub(super) fn run(file: &ConfigFile, options: &Options) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let log = super::log(&config.log);
    let (standing, bad) = config.prefixes.load()?;
    if let Some(bad) = bad {
        log.note(&super::without_refresh(&bad));
    }
    Ok(server::run(Start {
        file: file.path().to_owned(),
        config,
        standing,
        may_lock_out: options.consent.yes_lock_me_out,
        takes_over: options.takeover,
        log,
    })?)
}
