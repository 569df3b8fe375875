use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::config_file::{ConfigFile, Consent, pin};
use super::output::{print, print_error};
use super::{guard_log, rehearse, stats};
use crate::config;
use crate::guard::{self, Absence, Attached};
use crate::prefixes::Table;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach the program, or replace the running one without a gap; it stays when this command
    /// ends
    Attach(Consent),
    /// Detach the program and forget its counters
    Detach,
    /// Say whether the program is attached, and to what
    Status,
    /// Show the senders that mode strict would have dropped so far
    Rehearse(rehearse::Options),
    /// Show what the guard drops, sees fail or cannot parse, as it happens
    Log(guard_log::Options),
}

pub fn run(command: Command, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    match command {
        Command::Attach(consent) => {
            let config = config.load()?;
            let guard = config
                .guard
                .filter(config::Guard::is_attached)
                .context("the configuration has no [guard] section with `interfaces`: add one")?;
            let meta = super::config_file::standing(&config.prefixes)?.table();
            print(&format!("{}\n", attach(&guard, &meta, consent)?))?;
        }
        Command::Detach => {
            let config = config.guard()?;
            let interfaces = guard::detach(&pin(config.as_ref()))?;
            match interfaces.is_empty() {
                true => print("nothing was attached\n")?,
                false => print(&format!("detached from {}\n", interfaces.join(", ")))?,
            }
        }
        Command::Rehearse(options) => return rehearse::run(&options, config),
        Command::Log(options) => return guard_log::run(&options, config),
        Command::Status => {
            let source = stats::Source::new(config)?;
            let memory = guard::memory(&pin(config.guard()?.as_ref()))?.map(|bytes| {
                format!("; its maps take {:.1} MiB of the kernel's memory", bytes as f64 / f64::from(1 << 20))
            });
            print(&format!("{}{}\n", source.pinned()?.guard.describe(), memory.unwrap_or_default()))?;
            if let Some(error) = source.silence() {
                print_error(&format!("hookgate: the pins say so, but hookgate does not answer: {error}\n"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn attach(config: &config::Guard, meta: &Table, consent: Consent) -> anyhow::Result<Attached> {
    consent.ensure_given(config, meta)?;
    Ok(guard::start(config, meta, Absence::Refused)?)
}
