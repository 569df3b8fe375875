//! `hookgate run`: the proxy and, when configured and permitted, the guard.

use std::process::ExitCode;

use super::config_file::{ConfigFile, Consent};
use crate::check;
use crate::config::Files;
use crate::server::{self, Start};

#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// Take the place of the hookgate that runs with this configuration, without a refused
    /// connection
    #[arg(long)]
    takeover: bool,
}

pub(super) fn run(file: &ConfigFile, options: &Options) -> anyhow::Result<ExitCode> {
    let files = Files::read(file.path());
    let inherits_sockets = options.takeover || server::inherits_sockets();
    let (config, problems) = check::before_start(&files, options.consent.yes_lock_me_out, inherits_sockets)?;
    drop(files);
    let log = super::config_file::log(&config.log);
    for problem in problems {
        log.note(&problem.to_string());
    }
    let (standing, _) = config.prefixes.load()?;
    Ok(server::run(Start {
        file: file.path().to_owned(),
        config,
        standing,
        may_lock_out: options.consent.yes_lock_me_out,
        takes_over: options.takeover,
        log,
    })?)
}
