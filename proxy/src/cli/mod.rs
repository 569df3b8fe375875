//! The command line: a file a command.

mod check;
mod completions;
mod deliveries;
mod doctor;
mod guard;
mod health;
mod import;
mod man;
mod prefixes;
mod probe;
mod proxy;
mod rehearse;
mod reload;
mod run;
mod send;
mod stats;
mod top;
mod upstream;

use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::config::{self, Config, PinName};
use crate::observe::Log;
use crate::prefixes::{BadState, PrefixState, Table};
use crate::server::{self, log_format};

/// The whole program. 0 fine, 1 it failed, 2 usage (clap's own exit).
pub fn main() -> ExitCode {
    let outcome = match server::is_worker() {
        true => server::run_worker().map(|()| ExitCode::SUCCESS).map_err(Into::into),
        false => Cli::parse().run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            print_error(&format!("hookgate: {error:#}\n"));
            ExitCode::FAILURE
        }
    }
}

/// A relay for Meta's webhooks, with an XDP guard that counts every connection.
#[derive(Debug, Parser)]
#[command(name = "hookgate", version, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration [default: /etc/hookgate/hookgate.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy and, when configured and permitted, the guard
    Run(run::Options),
    /// Read the whole configuration and say what is wrong and where
    Check(check::Options),
    /// Have the running proxy read its configuration again
    Reload,
    /// Say what this machine can do, what is misconfigured, and where messages are being lost
    Doctor(doctor::Options),
    /// Show what was counted for each of Meta's prefixes
    Stats(stats::Options),
    /// The same, live, full screen
    Top,
    /// Show the latest requests: source, upstream, how far, how long
    Deliveries(deliveries::Options),
    /// Say whether the running proxy is ready, as /ready does; exit code 1 when it is not
    Health,
    /// Attach or detach the XDP program by itself
    #[command(subcommand)]
    Guard(guard::Command),
    /// Show or refresh Meta's prefixes, or say whose an address is
    #[command(subcommand)]
    Prefixes(prefixes::Command),
    /// Show or change the allowlist
    #[command(subcommand)]
    Upstream(upstream::Command),
    /// Go the way to an upstream step by step: DNS, TCP, TLS, HTTP
    Probe(probe::Options),
    /// Play Meta towards a callback URL: a verification request, then signed deliveries
    Send(Box<send::Options>),
    /// Print a hookgate.toml for the set-up that another server has
    #[command(subcommand)]
    Import(import::Command),
    /// Print what makes a shell complete hookgate's commands
    Completions(completions::Options),
    /// Print the manual page, or write all of them
    Man(man::Options),
}

impl Cli {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let config = ConfigFile(self.config);
        match self.command {
            Command::Run(options) => run::run(&config, &options),
            Command::Check(options) => check::run(&options, &config),
            Command::Reload => reload::run(&config),
            Command::Doctor(options) => doctor::run(&options, &config),
            Command::Stats(options) => stats::run(&options, &config),
            Command::Deliveries(options) => deliveries::run(&options, &config),
            Command::Top => top::run(&config),
            Command::Health => health::run(&config),
            Command::Guard(command) => guard::run(command, &config),
            Command::Prefixes(command) => prefixes::run(command, &config),
            Command::Upstream(command) => upstream::run(command, &config),
            Command::Probe(options) => probe::run(&options, &config),
            Command::Send(options) => send::run(&options),
            Command::Import(command) => import::run(&command),
            Command::Completions(options) => completions::run(&options).map(|()| ExitCode::SUCCESS),
            Command::Man(options) => man::run(&options).map(|()| ExitCode::SUCCESS),
        }
    }
}

/// `1 upstream`, `2 upstreams`.
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Consent to a guard that may lock out its operator.
#[derive(Clone, Copy, Debug, Args)]
struct Consent {
    /// Let the guard filter even where that will most likely lock you or Meta out
    #[arg(long)]
    yes_lock_me_out: bool,
}

impl Consent {
    /// Errors: it is needed, and was not given.
    fn ensure_given(self, guard: &config::Guard, meta: &Table) -> Result<(), crate::guard::Error> {
        if self.yes_lock_me_out { Ok(()) } else { crate::guard::ensure_none_locked_out(guard, meta) }
    }
}

/// `--config`, if given.
struct ConfigFile(Option<PathBuf>);

impl ConfigFile {
    fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new(config::DEFAULT_PATH))
    }

    /// Errors: the file can't be read or is no valid configuration, also when it is the default
    /// one.
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.path())?)
    }

    /// For commands that also work without a configuration: where there is neither `--config` nor a
    /// file at the default path, the defaults hold.
    fn load_or_defaults(&self) -> anyhow::Result<Config> {
        if self.is_absent()? { Ok(Config::absent()) } else { self.load() }
    }

    fn is_absent(&self) -> io::Result<bool> {
        Ok(self.0.is_none() && !self.path().try_exists()?)
    }

    /// The `[guard]` section, for commands that also work without it.
    fn guard(&self) -> anyhow::Result<Option<config::Guard>> {
        Ok(self.load_or_defaults()?.guard)
    }
}

fn pin(guard: Option<&config::Guard>) -> PinName {
    guard.map_or_else(PinName::default, |guard| guard.pin.clone())
}

/// Meta's prefixes as they stand; says so where the last refresh can't be used.
fn standing(prefixes: &config::Prefixes) -> anyhow::Result<PrefixState> {
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
fn log(config: &config::Log) -> Log {
    Log::new(log_format(config.format), config.access)
}

fn json(document: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// To standard output.
fn print(text: &str) -> io::Result<()> {
    is_read(text).map(drop)
}

/// To standard error, where a command reports what is not its result. A closed one is ignored:
/// there is no other place.
fn print_error(text: &str) {
    io::stderr().write_all(text.as_bytes()).ok();
}

/// [`print`]. Returns whether the output is still read: a reader that stops (`| head`) has seen
/// enough.
fn is_read(text: &str) -> io::Result<bool> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}
