//! What was sent beside what was counted, prefix by prefix.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use harness::Counts;
use serde_json::Value;

use super::scene::{Counted, SENDERS, SILENT, STRANGER};

const OTHER: &str = "other";

/// Prints `hookgate stats`, then a line a prefix; true when every figure is equal.
pub fn print(counted: &Counted) -> Result<bool> {
    println!("\n$ hookgate stats\n{}", counted.stats.trim_end());
    let sent = by_prefix(counted)?;
    let mut seen = from_json(&counted.stats_json)?;
    println!("\n{:<22}{:>22}{:>26}{:>14}", "sent = counted", "packets", "bytes", "SYNs");
    let mut all_equal = true;
    for (prefix, sent) in &sent {
        let seen = seen.remove(prefix).unwrap_or_default();
        all_equal &= line(prefix, *sent, seen);
    }
    // Every other prefix must have stayed at nothing.
    for (prefix, seen) in seen.iter().filter(|(_, seen)| **seen != Counts::default()) {
        all_equal &= line(prefix, Counts::default(), *seen);
    }
    println!(
        "{}",
        if all_equal { "every packet was counted, under its own prefix" } else { "THE COUNTS DIFFER" }
    );
    Ok(all_equal)
}

fn line(prefix: &str, sent: Counts, seen: Counts) -> bool {
    let pair = |sent: u64, seen: u64| format!("{sent} {} {seen}", if sent == seen { '=' } else { '≠' });
    let (packets, bytes) = (pair(sent.packets, seen.packets), pair(sent.bytes, seen.bytes));
    println!("{prefix:<22}{packets:>22}{bytes:>26}{:>14}", pair(sent.syns, seen.syns));
    sent == seen
}

fn by_prefix(counted: &Counted) -> Result<BTreeMap<String, Counts>> {
    let mut sums = BTreeMap::<String, Counts>::new();
    for (address, prefix) in SENDERS.iter().chain([&SILENT, &(STRANGER, OTHER)]) {
        let sent = counted.sent.get(&address.parse()?).with_context(|| format!("{address} sent nothing"))?;
        *sums.entry((*prefix).to_owned()).or_default() += *sent;
    }
    Ok(sums)
}

fn from_json(text: &str) -> Result<BTreeMap<String, Counts>> {
    let stats = serde_json::from_str::<Value>(text).context("hookgate stats --json is not JSON")?;
    let rows = stats.get("prefixes").and_then(Value::as_array).context("stats without prefixes")?;
    let mut counts = BTreeMap::new();
    for row in rows {
        let prefix = row.get("prefix").and_then(Value::as_str).context("a row without its prefix")?;
        counts.insert(prefix.to_owned(), from_row(row)?);
    }
    counts.insert(OTHER.to_owned(), from_row(stats.get(OTHER).context("stats without `other`")?)?);
    Ok(counts)
}

fn from_row(row: &Value) -> Result<Counts> {
    let count =
        |name: &str| row.get(name).and_then(Value::as_u64).with_context(|| format!("a row without {name}"));
    Ok(Counts { packets: count("packets")?, bytes: count("bytes")?, syns: count("syns")? })
}
