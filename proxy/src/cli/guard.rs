use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::{ConfigFile, Consent, pin, print, rehearse, stats};
use crate::config;
use crate::guard::{self, Attached, Continuity, Interface};
use crate::prefixes::Table;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Attach the program, or replace the running one without a gap; it stays when this command ends
    Attach(Consent),
    /// Detach the program and forget its counters
    Detach,
    /// Say whether the program is attached, and to what
    Status,
    /// Say whom mode strict would have dropped so far
    Rehearse(rehearse::Options),
}

pub fn run(command: Command, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    match command {
        Command::Attach(consent) => {
            let config = config.load()?;
            let guard = config
                .guard
                .context("the configuration has no [guard] section: add one with `interfaces`")?;
            let meta = super::standing(&config.prefixes)?.table();
            print(&format!("{}\n", describe(&attach(&guard, &meta, consent)?)))?;
        }
        Command::Detach => {
            let config = config.guard()?;
            let interfaces = guard::detach(pin(config.as_ref()))?;
            match interfaces.is_empty() {
                true => print("nothing was attached\n")?,
                false => print(&format!("detached from {}\n", interfaces.join(", ")))?,
            }
        }
        Command::Rehearse(options) => return rehearse::run(&options, config),
        Command::Status => {
            let document = stats::Source::new(config)?.pinned()?;
            print(&format!("{}\n", document.guard.describe()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn attach(config: &config::Guard, meta: &Table, consent: Consent) -> anyhow::Result<Attached> {
    consent.suffices(config, meta)?;
    Ok(guard::start(config, meta)?)
}

/// To what.
pub(super) fn describe(attached: &Attached) -> String {
    let counters = match attached.counters {
        Continuity::New => "",
        Continuity::Kept => ", with the counters it had",
        Continuity::Discarded => "; the counters of another version's layout are gone",
    };
    let without = attached.handshakes_uncounted.as_ref();
    let without = without.map_or(String::new(), |why| format!("; handshakes are not counted: {why}"));
    format!("attached to {}{counters}{without}", interfaces(&attached.interfaces))
}

/// `eth0 (native), eth1 (generic)`
pub fn interfaces(interfaces: &[Interface]) -> String {
    let named = interfaces.iter().map(|interface| format!("{} ({})", interface.name, interface.xdp));
    named.collect::<Vec<_>>().join(", ")
}
