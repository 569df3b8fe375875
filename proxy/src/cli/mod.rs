//! The command line: a file a command.

mod check;
mod completions;
mod config_file;
mod deliveries;
mod doctor;
mod evidence;
mod guard;
mod guard_log;
mod health;
mod import;
mod lost;
mod man;
mod messages;
mod output;
mod pcap;
mod prefixes;
mod probe;
mod proxy;
mod rehearse;
mod reload;
mod run;
mod send;
mod stats;
mod top;
mod trace;
mod upstream;
mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::server;
use config_file::ConfigFile;
use output::print_error;

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
    /// Say where messages were lost: at which stage, how many, since when; exit code 1 if any were
    Lost(lost::Options),
    /// Write what was measured into a file to attach to a ticket at the provider or at Meta
    Evidence(evidence::Options),
    /// Show what was counted for each of Meta's prefixes
    Stats(stats::Options),
    /// The same, live, full screen
    Top,
    /// Show the latest requests: source, upstream, how far, how long
    Deliveries(deliveries::Options),
    /// Show how Meta's events ended, how late they were, and which numbers are quiet
    Messages(messages::Options),
    /// Follow the next requests step by step, from the SYN to the answer's last byte
    Trace(trace::Options),
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
            Command::Lost(options) => lost::run(&options, &config),
            Command::Evidence(options) => evidence::run(&options, &config),
            Command::Stats(options) => stats::run(&options, &config),
            Command::Deliveries(options) => deliveries::run(&options, &config),
            Command::Messages(options) => messages::run(&options, &config),
            Command::Trace(options) => trace::run(&options, &config),
            Command::Top => top::run(&config),
            Command::Health => health::run(&config),
            Command::Guard(command) => guard::run(command, &config),
            Command::Prefixes(command) => prefixes::run(command, &config),
            Command::Upstream(command) => upstream::run(command, &config),
            Command::Probe(options) => probe::run(&options, &config),
            Command::Send(options) => send::run(&options),
            Command::Import(command) => import::run(&command),
            Command::Completions(options) => {
                completions::run(&options, Cli::command()).map(|()| ExitCode::SUCCESS)
            }
            Command::Man(options) => man::run(&options, Cli::command()).map(|()| ExitCode::SUCCESS),
        }
    }
}
