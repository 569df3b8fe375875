//! `hookgate check`: says what a start would say, without starting.

use std::process::ExitCode;

use super::ConfigFile;
use crate::observe::Log;
use crate::server::Prepared;

pub(super) fn run(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    for key in &config.without_effect {
        println!("{}: warning: `{key}` has no effect in this version", file.path().display());
    }
    let upstreams = config.upstreams.len();
    Prepared::new(&config, Log::new(config.log))?;
    println!("{}: fine, {upstreams} upstreams", file.path().display());
    Ok(ExitCode::SUCCESS)
}
