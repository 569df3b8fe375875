//! `hookgate run`: the proxy and, when configured and permitted, the guard.

use std::process::ExitCode;

use super::{ConfigFile, Consent, guard};
use crate::config;
use crate::guard::{Attached, keeper::Kept};
use crate::observe::Log;
use crate::prefixes::Table;
use crate::server::{Prepared, supervise};

pub(super) fn run(file: &ConfigFile, consent: Consent) -> anyhow::Result<ExitCode> {
    let config = file.load()?;
    let log = super::log(&config.log);
    let (standing, bad) = config.prefixes.load()?;
    if let Some(bad) = bad {
        log.note(&super::without_refresh(&bad));
    }
    let mut server = Prepared::new(&config, standing.clone(), log.clone())?.bind()?;
    // Before the first connection can come in, so that none goes uncounted.
    let attached = config.guard.as_ref().map(|guard| attach(guard, &standing.table(), consent, &log));
    match (config.guard, attached) {
        (Some(guard), Some(Some(attached))) => {
            server.count_with(attached);
            let file = file.path().to_owned();
            let kept = Kept { file: file.clone(), pin: guard.pin, prefixes: config.prefixes, standing };
            Ok(supervise(kept, &log, |keeper| server.run(file, Some(keeper)))?)
        }
        _ => {
            server.run(file.path().to_owned(), None)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// `None`: it cannot be attached, which never stops the proxy.
fn attach(guard: &config::Guard, meta: &Table, consent: Consent, log: &Log) -> Option<Attached> {
    let attached = guard::attach(guard, meta, consent);
    log.note(&match &attached {
        Ok(attached) => format!("guard: {}", guard::describe(attached)),
        Err(error) => format!("guard: not attached, serving without it: {error:#}"),
    });
    attached.ok()
}
