//! `hookgate messages`: how events ended, and how late they were.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::config_file::ConfigFile;
use super::output::{json, print};
use super::proxy;
use crate::config::HostName;
use crate::messages::{Document, Percentiles, UpstreamRow};

#[derive(Debug, Args)]
pub struct Options {
    /// Only those to this upstream
    #[arg(long, value_name = "HOST")]
    upstream: Option<HostName>,
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options, file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load_or_defaults()?;
    if !config.insight.messages {
        anyhow::bail!("bodies are not looked at: [insight] messages is false");
    }
    let socket = config.admin_socket().context("[admin] socket: not in the configuration")?;
    let query = options.upstream.as_ref().map(|host| format!("?upstream={host}")).unwrap_or_default();
    let text = proxy::get(socket, &format!("/messages.json{query}"))?;
    let document: Document = serde_json::from_str(&text).context("the running proxy's answer")?;
    print(&if options.json { json(&document)? } else { self::text(&document) })?;
    Ok(ExitCode::SUCCESS)
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    for row in &document.upstreams {
        append(row, &mut text);
    }
    if document.upstreams.is_empty() {
        text += "no event of Meta's has come\n";
    }
    let reasons = used(&document.unscanned);
    if !reasons.is_empty() {
        text += &format!("bodies that were not looked at to their end: {reasons}\n");
    }
    text + &format!("the ledger reaches {} back\n", span(document.horizon_seconds))
}

fn append(row: &UpstreamRow, text: &mut String) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{} ({})", row.upstream, row.product);
    let _ = writeln!(text, "  events     {}; outstanding {}", used(&row.outcomes), row.outstanding);
    let _ = writeln!(text, "  lag        {}", percentiles(&row.lag_seconds));
    let _ = writeln!(text, "  recovered  {}", percentiles(&row.recovered_seconds));
    let chains = used(&row.chains);
    if !chains.is_empty() {
        let _ = writeln!(text, "  statuses   {chains}");
    }
    if row.batches + row.without_number > 0 {
        let (batches, without_number) = (row.batches, row.without_number);
        let _ = writeln!(
            text,
            "  requests   {batches} with several events; {without_number} messages without a number"
        );
    }
    for number in &row.numbers {
        let last = number.last.map_or_else(|| "never".into(), |last| format!("{last:.0}"));
        let quiet = number.quiet_since.map(|since| format!(", QUIET since {since:.0}")).unwrap_or_default();
        let _ = writeln!(text, "  number     {}: last event {last}{quiet}", number.id);
    }
    text.push('\n');
}

/// Counts that are not 0, in words.
fn used(counts: &BTreeMap<String, u64>) -> String {
    let used = counts.iter().filter(|(_, count)| **count > 0);
    used.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn percentiles(Percentiles { p50, p90, p99 }: &Percentiles) -> String {
    let parts = [("p50", p50), ("p90", p90), ("p99", p99)];
    let parts =
        parts.iter().filter_map(|(name, value)| value.map(|value| format!("{name} <= {}", span(value))));
    let text = parts.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none in 24 hours".into() } else { text }
}

fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_801 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
