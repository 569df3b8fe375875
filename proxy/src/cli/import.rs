//! `hookgate import`: what another server's configuration means here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::output::{counted, print, print_error};
use crate::check;
use crate::config::{Config, ConfigError, Key, Pair, Severity};
use crate::import::{Group, Imported, caddy, haproxy, nginx, open_title};
use crate::observe::clock;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the hookgate.toml that forwards what nginx's configuration does, and each difference
    /// as a comment
    Nginx {
        /// nginx.conf, or the files of the sites and maps that matter; what they include is read
        /// too
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        /// Exit with 0 even where hookgate would forward requests that nginx refuses
        #[arg(long)]
        accept_open: bool,
    },
    /// The same of a Caddyfile
    Caddy {
        /// The Caddyfile; what it imports is read too
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Exit with 0 even where hookgate would forward requests that Caddy refuses
        #[arg(long)]
        accept_open: bool,
    },
    /// The same of HAProxy's configuration
    Haproxy {
        /// haproxy.cfg; the maps that it names are read too
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Exit with 0 even where hookgate would forward requests that HAProxy refuses
        #[arg(long)]
        accept_open: bool,
    },
}

/// Exit code 1 where nothing would get through, `hookgate check` would refuse the outcome, or
/// requests that the other server refuses would be forwarded.
pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let (imported, accept_open) = match command {
        Command::Nginx { files, accept_open } => (nginx::import(files)?, accept_open),
        Command::Caddy { file, accept_open } => (caddy::import(file)?, accept_open),
        Command::Haproxy { file, accept_open } => (haproxy::import(file)?, accept_open),
    };
    let Imported { origin, toml, upstreams, open, differences, blocked } = imported;
    print(&toml)?;
    let mut said = String::new();
    if !open.is_empty() {
        said += &format!("{}\n", open_title(origin));
        open.iter().for_each(|line| said += &format!("  {line}\n"));
    }
    let counts = differences.map(|(group, count)| format!("{count} {}", name(group)));
    said += &format!("{}; differences: {}\n", counted(upstreams, "upstream"), counts.join(", "));
    let mut problems = blocked;
    if upstreams == 0 {
        problems.push("no host is carried over: the comments in the outcome say why".to_owned());
    } else {
        problems.extend(refusals(&toml));
    }
    problems.iter().for_each(|problem| said += &format!("to correct by hand: {problem}\n"));
    let is_accepted = open.is_empty() || *accept_open;
    if !is_accepted {
        said += "--accept-open takes what is open as it is\n";
    }
    print_error(&said);
    Ok(if problems.is_empty() && is_accepted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn name(group: Group) -> &'static str {
    match group {
        Group::Open => "open now",
        Group::Elsewhere => "elsewhere or left out",
        Group::Different => "set differently",
        Group::NoConsequence => "without consequence",
    }
}

/// What `hookgate check` would refuse, except ports, which nginx holds until hookgate takes its
/// place.
fn refusals(toml: &str) -> Vec<String> {
    let config = match Config::parse(Path::new("hookgate.toml"), toml) {
        Ok(config) => config,
        Err(ConfigError(problems)) => return problems.iter().map(ToString::to_string).collect(),
    };
    let pairs = config.tls.iter().flat_map(|tls| &tls.pairs);
    let of_pair = |pair: &Pair| check::certificate(&Key::new("tls"), pair, clock::now()).1;
    let faults = pairs.flat_map(of_pair).chain(check::others(&config));
    let faults = faults.filter(|fault| fault.severity != Severity::Warning);
    let mut refusals: Vec<String> = faults.map(|fault| format!("{}: {fault}", fault.key)).collect();
    if refusals.is_empty() {
        refusals.extend(check::rest(&config));
    }
    refusals
}
