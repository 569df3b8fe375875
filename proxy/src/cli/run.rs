//! `hookgate run`: the proxy and, when configured and permitted, the guard.

use std::process::ExitCode;

use super::ConfigFile;
use crate::observe::Log;
use crate::server::Prepared;

pub(super) fn run(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let log = Log::new(config.log);
    for key in &config.without_effect {
        log.note(&format!("{}: `{key}` has no effect in this version", file.path().display()));
    }
    Prepared::new(&config, log)?.listen()?.run()?;
    Ok(ExitCode::SUCCESS)
}
