//! `hookgate check`: says what a start would say, without starting.

use std::process::ExitCode;

use super::{ConfigFile, Consent, print};
use crate::access::Disk;
use crate::server::{self, Machine, Prepared};

pub(super) fn run(file: &ConfigFile, consent: Consent) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let path = file.path().display();
    let standing = super::standing(&config.prefixes)?;
    if let Some(guard) = &config.guard {
        consent.suffices(guard, &standing.table())?;
    }
    let log = super::log(&config.log);
    server::worker_user(&config)?;
    Prepared::new(&config, &standing, &Machine::measure(), &log, &Disk.shared())?;
    print(&format!("{path}: fine, {} upstreams\n", config.upstreams.len()))?;
    Ok(ExitCode::SUCCESS)
}
