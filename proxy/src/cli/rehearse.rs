//! `hookgate guard rehearse`: the senders that `strict` would have dropped so far.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::config_file::{ConfigFile, pin};
use super::output::{json, print};
use crate::config::Mode;
use crate::guard::{self, Detail, Rehearsal, Stats, StrangerNetwork};
use crate::observe::clock;
use crate::stats::Funnel;

#[derive(Debug, Args)]
pub struct Options {
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

/// How many of the strangers are shown as text.
const SHOWN: usize = 50;

pub fn run(options: &Options, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.guard()?;
    let pin = &pin(config.as_ref());
    let stats = guard::read(pin, Detail::Prefixes)?;
    let stats =
        stats.context("the guard is not attached: there is nothing to rehearse; `hookgate guard attach`")?;
    let rehearsal = guard::rehearsal(pin)?;
    print(&match options.json {
        true => json(&Document::new(&stats, &rehearsal))?,
        false => text(&stats, &rehearsal),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn text(stats: &Stats, rehearsal: &Rehearsal) -> String {
    let would = if stats.mode == Mode::Strict {
        "has dropped, and would have dropped,"
    } else {
        "would have dropped"
    };
    let delivered = Funnel::from(rehearsal.counts.funnel).delivered;
    let verdict = match (rehearsal.counts.packets, delivered) {
        (0, _) => {
            "nobody but Meta and `allow` has come: strict changes nothing for those who came so far".into()
        }
        (_, 0) => {
            "no request of theirs was delivered: strict loses nothing that an upstream has answered with 200"
                .into()
        }
        (_, count) => format!(
            "{count} requests of theirs were delivered: find out whose they are, and put them into [guard] allow, before \
             strict"
        ),
    };
    let mut text = format!(
        "since {}, strict {would} {} packets from strangers, {} SYNs among them\n{verdict}\n",
        clock::rfc3339(stats.since),
        rehearsal.counts.packets,
        rehearsal.counts.syns,
    );
    if rehearsal.strangers.is_empty() {
        return text;
    }
    // Writing to a String does not fail.
    let _ = writeln!(text, "\n{:<24} {:>12} {:>9}  LAST SEEN", "NETWORK", "PACKETS", "SYNS");
    for StrangerNetwork { network, packets, syns, last_seen } in rehearsal.strangers.iter().take(SHOWN) {
        let seen = last_seen.map_or("never".into(), clock::rfc3339);
        let _ = writeln!(text, "{:<24} {packets:>12} {syns:>9}  {seen}", network.to_string());
    }
    if rehearsal.strangers.len() > SHOWN {
        let _ = writeln!(text, "… and {} more: --json shows them all", rehearsal.strangers.len() - SHOWN);
    }
    text
}

/// `hookgate guard rehearse --json`, version 1.
#[derive(Serialize)]
struct Document {
    version: u32,
    since: String,
    mode: Mode,
    packets: u64,
    syns: u64,
    requests: u64,
    delivered: u64,
    strangers: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    network: String,
    packets: u64,
    syns: u64,
    last_seen: Option<String>,
}

impl Document {
    fn new(stats: &Stats, rehearsal: &Rehearsal) -> Self {
        let funnel = Funnel::from(rehearsal.counts.funnel);
        let row = |passer: &StrangerNetwork| Row {
            network: passer.network.to_string(),
            packets: passer.packets,
            syns: passer.syns,
            last_seen: passer.last_seen.map(clock::rfc3339),
        };
        Self {
            version: 1,
            since: clock::rfc3339(stats.since),
            mode: stats.mode,
            packets: rehearsal.counts.packets,
            syns: rehearsal.counts.syns,
            requests: funnel.requests,
            delivered: funnel.delivered,
            strangers: rehearsal.strangers.iter().map(row).collect(),
        }
    }
}
