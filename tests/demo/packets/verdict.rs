//! What was sent beside what was counted, prefix by prefix.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use harness::Counts;
use serde_json::Value;

use super::testbed::{Counted, SENDERS, SILENT, STRANGER};

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

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(other_bytes: u64) -> Counted {
        let senders = SENDERS.iter().map(|(address, _)| *address).chain([SILENT.0, STRANGER]);
        let sent = Counts { packets: 2, bytes: 140, syns: 1 };
        let row = |prefix: &str| format!(r#"{{"prefix":"{prefix}","packets":2,"bytes":140,"syns":1}}"#);
        let rows =
            SENDERS.iter().chain([&SILENT]).map(|(_, prefix)| row(prefix)).collect::<Vec<_>>().join(",");
        Counted {
            sent: senders.map(|address| (address.parse().unwrap(), sent)).collect(),
            stats: String::new(),
            stats_json: format!(
                r#"{{"prefixes":[{rows},{{"prefix":"45.64.40.0/22","packets":0,"bytes":0,"syns":0}}],
                    "other":{{"packets":2,"bytes":{other_bytes},"syns":1}}}}"#
            ),
        }
    }

    #[test]
    fn one_byte_makes_the_difference() {
        assert!(print(&counted(140)).unwrap());
        assert!(!print(&counted(139)).unwrap());
    }

    #[test]
    fn a_prefix_that_sent_nothing_must_count_nothing() {
        let mut counted = counted(140);
        counted.stats_json = counted.stats_json.replace(r#""packets":0"#, r#""packets":1"#);
        assert!(!print(&counted).unwrap());
    }
}
