//! `hookgate check`: says what a start would say, without starting.

use std::process::ExitCode;

use super::{ConfigFile, Consent, print};
use crate::server::Prepared;

pub(super) fn run(file: &ConfigFile, consent: Consent) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let path = file.path().display();
    let standing = super::standing(&config.prefixes)?;
    if let Some(guard) = &config.guard {
        consent.suffices(guard, &standing.table())?;
    }
    Prepared::new(&config, standing, super::log(&config.log))?;
    print(&format!("{path}: fine, {} upstreams\n", config.upstreams.len()))?;
    Ok(ExitCode::SUCCESS)
}
