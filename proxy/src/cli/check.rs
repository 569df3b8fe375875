//! `hookgate check`: says what a start would say, without starting.

use std::process::ExitCode;

use super::{ConfigFile, print};
use crate::server::Prepared;

pub(super) fn run(file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let path = file.path().display();
    Prepared::new(&config, super::standing(&config.prefixes)?.table(), super::log(&config.log))?;
    for key in &config.without_effect {
        print(&format!("{path}: `{key}` has no effect in this version\n"))?;
    }
    print(&format!("{path}: fine, {} upstreams\n", config.upstreams.len()))?;
    Ok(ExitCode::SUCCESS)
}
