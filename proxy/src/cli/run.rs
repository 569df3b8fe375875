//! `hookgate run`: the proxy and, when configured and permitted, the guard.

use std::process::ExitCode;

use super::{ConfigFile, Consent};
use crate::server::{self, Start};

pub(super) fn run(file: &ConfigFile, consent: Consent) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let log = super::log(&config.log);
    let (standing, bad) = config.prefixes.load()?;
    if let Some(bad) = bad {
        log.note(&super::without_refresh(&bad));
    }
    let (file, may_lock_out) = (file.path().to_owned(), consent.yes_lock_me_out);
    Ok(server::run(Start { file, config, standing, may_lock_out, log })?)
}
