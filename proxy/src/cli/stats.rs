use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::{ConfigFile, guard::interfaces, pin, prefix_source, print};
use crate::config::Mode;
use crate::guard::{self, Counts, Stats};
use crate::observe::clock;
use crate::prefixes::Network;

#[derive(Debug, Args)]
pub struct Options {
    /// Print JSON, version 1: every prefix, whatever --all says
    #[arg(long)]
    json: bool,
    /// Also show prefixes without traffic
    #[arg(long)]
    all: bool,
}

pub fn run(options: &Options, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = config.guard()?;
    let stats = guard::read(pin(config.as_ref()))?;
    let text = match (&stats, options.json) {
        (Some(stats), true) => json(&Document::attached(stats))?,
        (None, true) => {
            let mode = config.as_ref().map_or(Mode::Observe, |guard| guard.mode);
            json(&Document::without_guard(clock::now(), mode, prefix_source(config.as_ref()).load()?.iter()))?
        }
        (Some(stats), false) => format!("{}\n\n{}", status(Some(stats)), table(stats, options.all)),
        (None, false) => format!("{}\n", status(None)),
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// One line: whether the guard runs, and where.
pub fn status(stats: Option<&Stats>) -> String {
    match (stats, guard::is_supported()) {
        (Some(stats), _) => format!(
            "attached to {}, mode {}, counting since {}",
            interfaces(&stats.interfaces),
            stats.mode,
            clock::rfc3339(stats.since)
        ),
        (None, Ok(())) => "detached: nothing is counted".into(),
        (None, Err(error)) => format!("unsupported: {error}"),
    }
}

/// By traffic, the rest of the world last.
fn table(stats: &Stats, all: bool) -> String {
    let mut rows: Vec<(String, Counts)> =
        stats.prefixes.iter().map(|(network, counts)| (network.to_string(), *counts)).collect();
    rows.retain(|(_, counts)| all || counts.packets > 0);
    rows.sort_by_key(|(_, counts)| std::cmp::Reverse((counts.bytes, counts.packets)));
    rows.push(("other".into(), stats.other));
    let mut text = line("PREFIX", "PACKETS", "BYTES", "SYNS", "LAST SEEN");
    for (name, Counts { packets, bytes, syns, last_seen }) in rows {
        let seen = last_seen.map_or("never".into(), clock::rfc3339);
        text += &line(&name, &packets.to_string(), &bytes.to_string(), &syns.to_string(), &seen);
    }
    text
}

fn line(prefix: &str, packets: &str, bytes: &str, syns: &str, last_seen: &str) -> String {
    format!("{prefix:<20} {packets:>12} {bytes:>15} {syns:>9}  {last_seen}\n")
}

fn json(document: &Document) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(document)?;
    writeln!(text)?;
    Ok(text)
}

/// `hookgate stats --json`, version 1: fields are added, never renamed or removed.
#[derive(Serialize)]
struct Document {
    version: u32,
    taken: String,
    guard: GuardObject,
    prefixes: Vec<PrefixObject>,
    other: CountsObject,
}

#[derive(Serialize)]
struct GuardObject {
    state: &'static str,
    mode: String,
    since: Option<String>,
    interfaces: Vec<InterfaceObject>,
}

#[derive(Serialize)]
struct InterfaceObject {
    name: String,
    xdp: String,
}

#[derive(Serialize)]
struct PrefixObject {
    prefix: String,
    #[serde(flatten)]
    counts: CountsObject,
}

#[derive(Serialize)]
struct CountsObject {
    packets: u64,
    bytes: u64,
    syns: u64,
    last_seen: Option<String>,
}

impl Document {
    fn attached(stats: &Stats) -> Self {
        let interfaces = stats.interfaces.iter().map(|interface| InterfaceObject {
            name: interface.name.clone(),
            xdp: interface.xdp.to_string(),
        });
        let guard = GuardObject {
            state: "attached",
            mode: stats.mode.to_string(),
            since: Some(clock::rfc3339(stats.since)),
            interfaces: interfaces.collect(),
        };
        Self::new(stats.taken, guard, stats.prefixes.iter().copied(), stats.other)
    }

    /// The same shape, so that a reader needs no second way to look at it.
    fn without_guard(taken: Timestamp, mode: Mode, prefixes: impl Iterator<Item = Network>) -> Self {
        let state = if guard::is_supported().is_ok() { "detached" } else { "unsupported" };
        let guard = GuardObject { state, mode: mode.to_string(), since: None, interfaces: Vec::new() };
        Self::new(taken, guard, prefixes.map(|network| (network, Counts::default())), Counts::default())
    }

    fn new(
        taken: Timestamp,
        guard: GuardObject,
        prefixes: impl Iterator<Item = (Network, Counts)>,
        other: Counts,
    ) -> Self {
        let prefixes = prefixes
            .map(|(network, counts)| PrefixObject { prefix: network.to_string(), counts: counts.into() })
            .collect();
        Self { version: 1, taken: clock::rfc3339(taken), guard, prefixes, other: other.into() }
    }
}

impl From<Counts> for CountsObject {
    fn from(counts: Counts) -> Self {
        let Counts { packets, bytes, syns, last_seen } = counts;
        Self { packets, bytes, syns, last_seen: last_seen.map(clock::rfc3339) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::guard::{Interface, Xdp};

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn stats() -> Stats {
        let counts = |packets, last_seen| Counts { packets, bytes: packets * 60, syns: 1, last_seen };
        Stats {
            taken: at("2026-11-24T16:00:00.999Z"),
            mode: Mode::Observe,
            since: at("2026-11-24T09:00:00Z"),
            interfaces: vec![Interface { name: "eth0".into(), xdp: Xdp::Native }],
            prefixes: vec![
                ("31.13.64.0/18".parse().unwrap(), counts(2, Some(at("2026-11-24T15:59:59Z")))),
                ("157.240.0.0/17".parse().unwrap(), counts(9, Some(at("2026-11-24T16:00:00.999Z")))),
                ("2a03:2880::/32".parse().unwrap(), Counts::default()),
            ],
            other: counts(1, Some(at("2026-11-24T16:00:00.999Z"))),
        }
    }

    #[test]
    fn json_has_the_promised_shape() {
        let document = serde_json::to_value(Document::attached(&stats())).unwrap();
        assert_eq!(document["version"], 1);
        assert_eq!(document["taken"], "2026-11-24T16:00:00Z");
        let guard = json!({ "state": "attached", "mode": "observe", "since": "2026-11-24T09:00:00Z",
                            "interfaces": [{ "name": "eth0", "xdp": "native" }] });
        assert_eq!(document["guard"], guard);
        let first = json!({ "prefix": "31.13.64.0/18", "packets": 2, "bytes": 120, "syns": 1,
                            "last_seen": "2026-11-24T15:59:59Z" });
        assert_eq!(document["prefixes"][0], first);
        assert_eq!(document["prefixes"][2]["last_seen"], Value::Null);
        assert_eq!(document["prefixes"].as_array().unwrap().len(), 3);
        let other = json!({ "packets": 1, "bytes": 60, "syns": 1, "last_seen": "2026-11-24T16:00:00Z" });
        assert_eq!(document["other"], other);
    }

    #[test]
    fn without_a_guard_the_shape_stays() {
        let prefixes = ["157.240.0.0/17".parse().unwrap()].into_iter();
        let document = Document::without_guard(at("2026-11-24T16:00:00Z"), Mode::Observe, prefixes);
        let document = serde_json::to_value(document).unwrap();
        assert_ne!(document["guard"]["state"], "attached");
        assert_eq!(document["guard"]["since"], Value::Null);
        assert_eq!(document["guard"]["interfaces"], json!([]));
        let row =
            json!({ "prefix": "157.240.0.0/17", "packets": 0, "bytes": 0, "syns": 0, "last_seen": null });
        assert_eq!(document["prefixes"], json!([row]));
        assert_eq!(document["other"]["packets"], 0);
    }

    #[test]
    fn the_table_is_sorted_by_traffic() {
        let names = |all| {
            let table = table(&stats(), all);
            table.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["PREFIX", "157.240.0.0/17", "31.13.64.0/18", "other"]);
        assert_eq!(names(true)[3], "2a03:2880::/32");
    }
}
