//! hookgate beside nginx and HAProxy: the same webhooks, the same origin, the same machine, in the
//! same minutes.
//!
//! The proxy under load has core 0 to itself; the senders and the origins share core 1. Rounds go
//! around the peers, so that whatever else the machine does meets all of them, and medians over the
//! rounds are what counts.
#![forbid(unsafe_code)]

mod cgroup;
mod chart;
mod config;
mod environment;
mod figures;
mod fresh;
mod generator;
mod guard;
mod hostile;
mod kind;
mod loads;
mod neighbours;
mod peer;
mod prepare;
mod process;
mod report;
mod running;
mod scale;
mod spread;
mod testbed;
mod threads;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use harness_core::Workspace;
use rustix::thread::{CpuSet, sched_setaffinity};

use kind::Kind;
use loads::Load;
use peer::Peer;
use report::{Measurement, Report};
use testbed::Testbed;

/// Measures hookgate, nginx and HAProxy side by side, and the guard's program; figures go to
/// target/bench
#[derive(Parser)]
#[command(name = "hookgate-bench", bin_name = "cargo xtask bench")]
struct Args {
    /// How often each load meets each peer; medians are taken over the rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each load lasts in each round, 2 unless given; with --hostile how long each attack
    /// does in all rounds together, 60 unless given
    #[arg(long)]
    seconds: Option<f64>,
    /// Attacks of strangers beside Meta's webhooks instead: the rows of docs/security.md
    #[arg(long)]
    hostile: bool,
    /// Only this load or this peer, or the guard's program (`guard`), or this row; can be given
    /// several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// nginx and HAProxy of this suite of Debian (trixie, sid) in place of this machine's, from a
    /// root in the cache that is made for it; needs root
    #[arg(long, value_name = "SUITE", conflicts_with = "hostile")]
    peers: Option<String>,
    /// How many cores hookgate has, and so threads; the second is that of the load. The peers have
    /// one process each
    #[arg(long, default_value_t = 1, conflicts_with_all = ["hostile", "publish"])]
    cores: usize,
    /// This binary of hookgate in place of one that is built
    #[arg(long, value_name = "FILE", conflicts_with_all = ["hostile", "publish"])]
    hookgate: Option<PathBuf>,
    /// Another binary of hookgate beside it, in a column of its own
    #[arg(long, value_name = "FILE", conflicts_with = "hostile")]
    before: Option<PathBuf>,
    /// One short round: to see that it works, not for its figures
    #[arg(long)]
    quick: bool,
    /// Write report and charts to docs/performance too; rows of --hostile take their places in the
    /// report that is there
    #[arg(long, conflicts_with = "quick")]
    publish: bool,
}

const LOAD_SECONDS: f64 = 2.0;
const ATTACK_SECONDS: f64 = 60.0;

fn main() -> ExitCode {
    let args = Args::parse();
    match Workspace::find().and_then(|workspace| measure(&workspace, &args)) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    ensure!(
        args.hostile || !args.publish || args.only.is_empty(),
        "--publish takes all loads, without --only"
    );
    if args.hostile {
        let seconds = args.seconds.unwrap_or(ATTACK_SECONDS);
        let (rounds, seconds) = if args.quick { (1, 2.0) } else { (args.rounds.max(1), seconds) };
        return hostile::measure(workspace, rounds, seconds, &args.only, args.publish);
    }
    let wants_guard = args.only.is_empty() || args.only.iter().any(|name| name == guard::NAME);
    let only = args.only.iter().filter(|name| *name != guard::NAME).cloned().collect::<Vec<_>>();
    if args.only.is_empty() || !only.is_empty() {
        proxies(workspace, args, &only)?;
    }
    if wants_guard {
        guard::measure(workspace, if args.quick { 1 } else { args.rounds.max(1) }, args.publish)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn proxies(workspace: &Workspace, args: &Args, only: &[String]) -> Result<()> {
    let (loads, mut kinds) = chosen(only, args.cores)?;
    kinds.retain(|kind| *kind != Kind::Before || args.before.is_some());
    let (rounds, seconds) = match args.quick {
        true => (1, 0.5),
        false => (args.rounds.max(1), args.seconds.unwrap_or(LOAD_SECONDS)),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ensure!(cores >= 2, "the bench needs two cores: one for the proxy, one for its load");
    ensure!(seconds > 0.0 && seconds <= 60.0, "--seconds is more than 0, and 60 at most");
    prepare::install(workspace, "bench")?;
    let peers = args.peers.as_deref().map(|suite| prepare::peers(workspace, suite)).transpose()?;
    let hookgate = args.hookgate.as_deref().map(prepare::built);
    let hookgate = hookgate.unwrap_or_else(|| prepare::hookgate(workspace))?;
    let before = args.before.as_deref().map(prepare::built).transpose()?;
    let programs = prepare::programs(workspace, hookgate, before, peers)?;

    leave_the_proxies_core()?;
    ensure!((1..=cores).contains(&args.cores), "--cores {}: there are {cores}", args.cores);
    let testbed = Testbed::start(programs, args.cores)?;
    let peers = kinds.iter().map(|kind| Peer::start(*kind, &testbed)).collect::<Result<Vec<_>>>()?;
    let mut report = Report::new(&testbed, rounds, seconds)?;
    for round in 0..rounds {
        eprintln!("bench: round {} of {rounds}", round + 1);
        for load in &loads {
            // The first peer meets a cooler machine: each round begins with another one.
            let peers = peers.iter().filter(|peer| load.is_for(peer.kind)).collect::<Vec<_>>();
            for place in 0..peers.len() {
                let peer = peers[(round + place) % peers.len()];
                let figures =
                    load.measure(peer, &testbed, Duration::from_secs_f64(seconds)).map_err(|e| {
                        let (load, name, words) = (load.name, peer.kind.name(), peer.last_words());
                        anyhow!("{load} with {name}: {e:#}; the last words in its log:\n{words}")
                    })?;
                report.add(Measurement { round, load: load.name, peer: peer.kind.name(), figures });
            }
        }
    }
    drop(peers);
    println!("{}", report.markdown()?);
    let folder = workspace.target.join("bench");
    report.write(&folder)?;
    report.write_rounds(&folder)?;
    if args.publish { report.write(&workspace.root.join("docs/performance")) } else { Ok(()) }
}

/// We and all that we start go to the other core; the proxies are then sent to theirs.
fn leave_the_proxies_core() -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(testbed::LOAD_CORE);
    sched_setaffinity(None, &cores).with_context(|| format!("moving to core {}", testbed::LOAD_CORE))
}

/// The loads and peers that `--only` names; all of a sort when it names none of it. Loads that need
/// more cores are left out then.
fn chosen(only: &[String], cores: usize) -> Result<(Vec<Load>, Vec<Kind>)> {
    let is_named = |name: &str| only.iter().any(|wanted| wanted == name);
    let known = || loads::ALL.iter().map(|load| load.name).chain(Kind::ALL.iter().map(|kind| kind.name()));
    for wanted in only {
        let all = known().chain([guard::NAME]).collect::<Vec<_>>().join(", ");
        ensure!(known().any(|name| name == wanted), "--only {wanted}: there is {all}");
    }
    let mut loads = Vec::from(loads::ALL);
    if loads.iter().any(|load| is_named(load.name)) {
        loads.retain(|load| is_named(load.name));
        for load in &loads {
            ensure!(load.min_cores() <= cores, "{} needs --cores {}", load.name, load.min_cores());
        }
    } else {
        loads.retain(|load| load.min_cores() <= cores);
    }
    let mut kinds = Vec::from(Kind::ALL);
    if kinds.iter().any(|kind| is_named(kind.name())) {
        kinds.retain(|kind| is_named(kind.name()));
    }
    Ok((loads, kinds))
}
