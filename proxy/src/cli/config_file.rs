//! The configuration that a command is about, and what is read with it.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::print_error;
use crate::config::{self, Config, PinName};
use crate::observe::Log;
use crate::prefixes::{BadState, PrefixState, Table};
use crate::server::log_format;

/// Consent to a guard that may lock out its operator.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Consent {
    /// Let the guard filter even where that will most likely lock you or Meta out
    #[arg(long)]
    pub(super) yes_lock_me_out: bool,
}

impl Consent {
    /// Errors: it is needed, and was not given.
    pub(super) fn ensure_given(self, guard: &config::Guard, meta: &Table) -> Result<(), crate::guard::Error> {
        if self.yes_lock_me_out { Ok(()) } else { crate::guard::ensure_none_locked_out(guard, meta) }
    }
}

/// `--config`, if given.
pub(super) struct ConfigFile(pub(super) Option<PathBuf>);

impl ConfigFile {
    pub(super) fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH))
    }

    /// Errors: the file can't be read or is no valid configuration, also when it is the default
    /// one.
    pub(super) fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.path())?)
    }

    /// For commands that also work without a configuration: where there is neither `--config` nor a
    /// file at the default path, the defaults hold.
    pub(super) fn load_or_defaults(&self) -> anyhow::Result<Config> {
        if self.is_absent()? { Ok(Config::absent()) } else { self.load() }
    }

    pub(super) fn is_absent(&self) -> io::Result<bool> {
        Ok(self.0.is_none() && !self.path().try_exists()?)
    }

    /// The `[guard]` section, for commands that also work without it.
    pub(super) fn guard(&self) -> anyhow::Result<Option<config::Guard>> {
        Ok(self.load_or_defaults()?.guard)
    }
}

pub(super) fn pin(guard: Option<&config::Guard>) -> PinName {
    guard.map_or_else(PinName::default, |guard| guard.pin.clone())
}

/// Meta's prefixes as they stand; says so where the last refresh can't be used.
pub(super) fn standing(prefixes: &config::Prefixes) -> anyhow::Result<PrefixState> {
    let (standing, bad) = prefixes.load()?;
    if let Some(bad) = bad {
        print_error(&format!("hookgate: {}\n", without_refresh(&bad)));
    }
    Ok(standing)
}

fn without_refresh(bad: &BadState) -> String {
    format!(
        "the last refresh of the prefixes can't be used, the configured list stands alone: {bad}; \
         `hookgate prefixes update` makes a new one"
    )
}

/// The log as configured.
pub(super) fn log(config: &config::Log) -> Log {
    Log::new(log_format(config.format), config.access)
}
