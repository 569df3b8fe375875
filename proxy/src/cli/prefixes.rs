use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::runtime;

use super::config_file::{ConfigFile, pin, standing};
use super::output::{json, print, print_error};
use super::proxy::{self, AskError};
use crate::access::Disk;
use crate::config::{Config, Registry};
use crate::guard;
use crate::observe::clock;
use crate::prefixes::{BadAnswer, LeftOut, Network, PrefixState};
use crate::registry::{self, Refreshed, Refused};
use crate::upstream::Dns;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the prefixes in force, one a line
    List(Output),
    /// Print the prefix that an address belongs to; exit code 1 when it is not Meta's
    Lookup {
        #[arg(value_name = "IP")]
        address: IpAddr,
        #[command(flatten)]
        output: Output,
    },
    /// Ask the routing registry, check its answer, and put it in force
    Update {
        /// Put the answer in force although it exceeds the bounds that refreshes have
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Print what `update` would change, and what would be refused; changes nothing
    Diff(Output),
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.load_or_defaults()?;
    match command {
        Command::List(output) => list(&config, output),
        Command::Lookup { address, output } => lookup(&config, address, output),
        Command::Update { force, output } => update(&config, force, output),
        Command::Diff(output) => diff(&config, output),
    }
}

fn list(config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    let standing = standing(&config.prefixes)?;
    let table = standing.table();
    print(&match output.json {
        false => table.iter().map(|network| format!("{network}\n")).collect(),
        true => json(&List {
            version: 1,
            source: config.prefixes.source.to_string(),
            refreshed: standing.refresh.as_ref().map(|refresh| clock::rfc3339(refresh.asked)),
            prefixes: table.iter().map(|network| Row::new(network, &standing)).collect(),
        })?,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn lookup(config: &Config, address: IpAddr, output: Output) -> anyhow::Result<ExitCode> {
    let metas = standing(&config.prefixes)?.table().longest_match(address);
    let allow = config.guard.iter().flat_map(|guard| guard.allow.iter().copied());
    let allowed = allow.filter(|network| network.contains(address.to_canonical()));
    let allowed = allowed.max_by_key(Network::length);
    if output.json {
        let (class, network) = match (metas, allowed) {
            (Some(network), _) => ("meta", Some(network)),
            (None, Some(network)) => ("allowed", Some(network)),
            (None, None) => ("other", None),
        };
        let network = network.map(|network| network.to_string());
        print(&json(&Lookup { version: 1, address, class, network })?)?;
        return Ok(if metas.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    match (metas, allowed) {
        (Some(network), _) => print(&format!("{network}\n"))?,
        (None, Some(network)) => {
            bail!("{address} is in none of Meta's prefixes, but in {network} of [guard] allow")
        }
        (None, None) => bail!("{address} is in none of Meta's prefixes"),
    }
    Ok(ExitCode::SUCCESS)
}

fn update(config: &Config, force: bool, output: Output) -> anyhow::Result<ExitCode> {
    let (standing, answer) = ask(config)?;
    let registry = &config.prefixes.registry;
    let (refreshed, overridden) = match answer {
        Ok(refreshed) => (refreshed, None),
        Err(Refused::Refresh { bad, forced: Some(refreshed) }) if force => (*refreshed, Some(bad)),
        Err(Refused::Refresh { bad, forced: Some(_) }) => {
            let why = format!("{bad}; if that is what Meta has, `hookgate prefixes update --force` takes it");
            return refuse(config, &standing, &[], &why, output);
        }
        Err(refused) => return refuse(config, &standing, others(&refused), &refused.to_string(), output),
    };
    let violations = overridden.map(|bad| bad.violations).unwrap_or_default();
    for violation in &violations {
        print_error(&format!("hookgate: warning: --force overrides: {violation}\n"));
    }
    let done = put_in_force(config, &refreshed.standing)?;
    print(&match output.json {
        true => json(&Answer { overridden: texts(&violations), ..Answer::good(registry, &refreshed) })?,
        false => told(registry, &refreshed) + &done,
    })?;
    Ok(ExitCode::SUCCESS)
}

fn diff(config: &Config, output: Output) -> anyhow::Result<ExitCode> {
    let (standing, answer) = ask(config)?;
    let registry = &config.prefixes.registry;
    match answer {
        Ok(refreshed) => {
            print(&if output.json {
                json(&Answer::good(registry, &refreshed))?
            } else {
                told(registry, &refreshed)
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Err(Refused::Refresh { bad, forced: Some(refreshed) }) => {
            if output.json {
                print(&json(&Answer {
                    refused: Some(bad.to_string()),
                    in_force: standing.table().len(),
                    ..Answer::good(registry, &refreshed)
                })?)?;
                return Ok(ExitCode::FAILURE);
            }
            let refusals = bad.violations.iter().map(|violation| format!("refused: {violation}\n"));
            print(&(told(registry, &refreshed) + &refusals.collect::<String>()))?;
            bail!("{registry}: `hookgate prefixes update` would refuse this: the prefixes in force stay")
        }
        Err(refused) => refuse(config, &standing, others(&refused), &refused.to_string(), output),
    }
}

/// The prefixes as they stand, and what the registry makes of them.
fn ask(config: &Config) -> anyhow::Result<(PrefixState, Result<Refreshed, Refused>)> {
    let standing = standing(&config.prefixes)?;
    let registry = &config.prefixes.registry;
    let dns = Dns::new(&config.dns, &Disk)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start asking the registry")?;
    let answer = runtime.block_on(registry::refresh(&standing, registry, &dns));
    Ok((standing, answer))
}

/// Says why an answer is not used.
fn refuse(
    config: &Config,
    standing: &PrefixState,
    objects: &[LeftOut],
    why: &str,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let registry = &config.prefixes.registry;
    if output.json {
        print(&json(&Answer { refused: Some(why.to_owned()), ..Answer::new(registry, standing, objects) })?)?;
        return Ok(ExitCode::FAILURE);
    }
    print(&left_out(objects))?;
    bail!("{registry}: the prefixes in force stay: {why}")
}

/// Stores the refresh, so that every later start begins with it, and has the running proxy take it
/// over.
fn put_in_force(config: &Config, standing: &PrefixState) -> anyhow::Result<String> {
    let path = &config.prefixes.state;
    if let Some(refresh) = &standing.refresh {
        refresh.store(path).context("the prefixes in force stay")?;
    }
    let stored = format!("stored in {}", path.display());
    match config.admin_socket().map(|socket| proxy::post(socket, "/prefixes")) {
        Some(Ok(told)) => return Ok(format!("{stored}; in the running proxy: {told}")),
        None | Some(Err(AskError::Unreachable { .. })) => {}
        Some(Err(error @ AskError::Silent { .. })) => print_error(&format!(
            "hookgate: hookgate does not answer: {error}; it takes the prefixes over at its next start\n"
        )),
        Some(Err(error)) => return Err(error).context(format!("{stored}, but the running proxy")),
    }
    let pin = &pin(config.guard.as_ref());
    // Without permission to look there is nothing to put in force from here.
    if guard::is_pinned(pin).unwrap_or(false) {
        guard::set_prefixes(pin, &standing.table()).context(format!("{stored}, but the guard"))?;
        return Ok(format!("{stored}; in force in the guard\n"));
    }
    Ok(format!("{stored}, for the next start\n"))
}

fn told(registry: &Registry, refreshed: &Refreshed) -> String {
    let Refreshed { changes, .. } = refreshed;
    let mut text = left_out(&refreshed.left_out);
    text.extend(changes.added.iter().map(|network| format!("+ {network}\n")));
    text.extend(changes.removed.iter().map(|network| format!("- {network}\n")));
    let _infallible = writeln!(
        text,
        "{registry} has {} prefixes of Meta's own, and {} objects of others: {} added, {} removed, {} in force",
        refreshed.registered.len(),
        refreshed.left_out.len(),
        changes.added.len(),
        changes.removed.len(),
        refreshed.standing.table().len()
    );
    text
}

fn left_out(objects: &[LeftOut]) -> String {
    objects.iter().map(|object| format!("left out: {object}\n")).collect()
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// The objects of others, where that is all there was.
fn others(refused: &Refused) -> &[LeftOut] {
    match refused {
        Refused::Answer(BadAnswer::Nothing { left_out }) => left_out,
        _ => &[],
    }
}

/// `prefixes list --json`, version 1.
#[derive(Serialize)]
struct List {
    version: u32,
    source: String,
    refreshed: Option<String>,
    prefixes: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    prefix: String,
    registered: bool,
}

impl Row {
    fn new(network: Network, standing: &PrefixState) -> Self {
        let refresh = standing.refresh.as_ref();
        let registered = refresh.is_some_and(|refresh| refresh.registered.contains(&network));
        Self { prefix: network.to_string(), registered }
    }
}

/// `prefixes lookup --json`, version 1.
#[derive(Serialize)]
struct Lookup {
    version: u32,
    address: IpAddr,
    class: &'static str,
    network: Option<String>,
}

/// `prefixes update --json` and `prefixes diff --json`, version 1.
#[derive(Serialize)]
struct Answer {
    version: u32,
    registry: String,
    /// Why the answer is not used; then nothing changes.
    refused: Option<String>,
    /// The bounds that `--force` has overridden.
    overridden: Vec<String>,
    added: Vec<String>,
    removed: Vec<String>,
    in_force: usize,
    left_out: Vec<LeftOutObject>,
}

#[derive(Serialize)]
struct LeftOutObject {
    object: String,
    reason: String,
}

impl Answer {
    fn good(registry: &Registry, refreshed: &Refreshed) -> Self {
        let added = texts(&refreshed.changes.added);
        let removed = texts(&refreshed.changes.removed);
        Self { added, removed, ..Self::new(registry, &refreshed.standing, &refreshed.left_out) }
    }

    fn new(registry: &Registry, standing: &PrefixState, left_out: &[LeftOut]) -> Self {
        let object = |of: &LeftOut| LeftOutObject { object: of.object.clone(), reason: of.why.to_string() };
        Self {
            version: 1,
            registry: registry.to_string(),
            refused: None,
            overridden: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
            in_force: standing.table().len(),
            left_out: left_out.iter().map(object).collect(),
        }
    }
}
