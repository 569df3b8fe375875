//! `hookgate run`: the proxy and, when configured and permitted, the guard.

use std::process::ExitCode;

use super::{ConfigFile, Consent, guard};
use crate::config;
use crate::observe::Log;
use crate::prefixes::Table;
use crate::server::{Prepared, supervise};

pub(super) fn run(file: &ConfigFile, consent: Consent) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let log = super::log(&config.log);
    for key in &config.without_effect {
        log.note(&format!("{}: `{key}` has no effect in this version", file.path().display()));
    }
    let (standing, bad) = config.prefixes.load()?;
    if let Some(bad) = bad {
        log.note(&super::without_refresh(&bad));
    }
    let meta = standing.table();
    let server = Prepared::new(&config, meta.clone(), log.clone())?.bind()?;
    // Before the first connection can come in, so that none goes uncounted.
    match &config.guard {
        Some(guard) if attach(guard, &meta, consent, &log) => {
            Ok(supervise(&guard.pin, &log, |keeper| server.run(Some(keeper)))?)
        }
        _ => {
            server.run(None)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A guard that cannot be attached never stops the proxy. Whether it is.
fn attach(guard: &config::Guard, meta: &Table, consent: Consent, log: &Log) -> bool {
    let attached = guard::attach(guard, meta, consent);
    log.note(&match &attached {
        Ok(attached) => format!("guard: {attached}"),
        Err(error) => format!("guard: not attached, serving without it: {error:#}"),
    });
    attached.is_ok()
}
