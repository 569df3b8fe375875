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
use crate::messages::{BOUNDS, ChainEnd, Document, NumberRow, Outcome, Percentiles, UpstreamRow};

#[derive(Debug, Args)]
pub struct Options {
    /// Only those to this upstream
    #[arg(long, value_name = "HOST")]
    upstream: Option<HostName>,
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

/// Of those that are not quiet, in text.
const MAX_NUMBERS: usize = 20;

pub(super) fn run(options: &Options, file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load_or_defaults()?;
    if !config.insight.messages {
        anyhow::bail!(
            "bodies are not scanned: [insight] messages is false; `true` and a restart begin with it"
        );
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
    let reasons = words(document.unscanned.iter().map(|(reason, count)| (&**reason, *count)));
    if !reasons.is_empty() {
        text += &format!("POSTs that were not scanned since hookgate started: {reasons}\n");
    }
    if document.horizon_seconds > 0 {
        text += &format!("the oldest event in the ledger is {} old\n", span(document.horizon_seconds));
    }
    text
}

fn append(row: &UpstreamRow, text: &mut String) {
    let name = if row.upstream.is_empty() { "(no upstream)" } else { &row.upstream };
    let mut lines = vec![
        ("events", outcomes(&row.outcomes)),
        ("lag", percentiles(&row.lag_seconds)),
        ("recovered", percentiles(&row.recovered_seconds)),
        ("chains", chains(&row.chains)),
    ];
    if row.outstanding > 0 {
        let text = format!("{} events failed so far, and Meta may send them again", row.outstanding);
        lines.insert(1, ("outstanding", text));
    }
    if row.batches > 0 {
        lines.push(("batches", format!("{} POSTs with more than one event", row.batches)));
    }
    if row.without_number > 0 {
        let text = format!("{} messages without their sender's telephone number", row.without_number);
        lines.push(("no number", text));
    }
    let (quiet, others): (Vec<_>, Vec<_>) =
        row.numbers.iter().partition(|number| number.quiet_since.is_some());
    let unlisted = others.len().saturating_sub(MAX_NUMBERS);
    lines.extend(quiet.into_iter().chain(others.into_iter().take(MAX_NUMBERS)).map(number));
    if unlisted > 0 {
        lines.push(("", format!("and {unlisted} more that are not quiet (--json has them all)")));
    }
    // Writing to a String does not fail.
    let _ = writeln!(text, "{name} ({})", row.product);
    for (what, line) in lines.iter().filter(|(_, line)| !line.is_empty()) {
        let _ = writeln!(text, "  {what:<13}{line}");
    }
    text.push('\n');
}

fn outcomes(outcomes: &BTreeMap<String, u64>) -> String {
    let count = |outcome: &Outcome| outcomes.get(outcome.name()).copied().unwrap_or(0);
    let text = words(Outcome::ALL.iter().map(|outcome| (outcome.name(), count(outcome))));
    if text.is_empty() { "no outcome is known yet".into() } else { text }
}

fn chains(chains: &BTreeMap<String, u64>) -> String {
    let count = |end: ChainEnd| chains.get(end.name()).copied().unwrap_or(0);
    let mut text = words(ChainEnd::ALL.iter().map(|end| (end.name(), count(*end))));
    let missing = count(ChainEnd::SentMissing);
    if missing > 0 {
        let share = missing as f64 * 100.0 / (missing + count(ChainEnd::Complete)) as f64;
        text += &format!(" (about {share:.1} % are lost before this machine)");
    }
    text
}

fn number(number: &NumberRow) -> (&'static str, String) {
    let last = number.last.map_or_else(|| "never".into(), |last| format!("{last:.0}"));
    let line = match number.quiet_since {
        Some(since) => format!("{}: QUIET, nothing since {since:.0}", number.id),
        None => format!("{}: last event {last}", number.id),
    };
    ("number", line)
}

/// Counts that are not 0.
fn words<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let used = counts.filter(|(_, count)| *count > 0);
    used.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

fn percentiles(Percentiles { p50, p90, p99 }: &Percentiles) -> String {
    let parts = [("p50", p50), ("p90", p90), ("p99", p99)];
    let parts =
        parts.iter().filter_map(|(name, value)| value.map(|value| format!("{name} {}", within(value))));
    let text = parts.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none in 24 hours".into() } else { text + " (24 hours)" }
}

/// A bucket by its upper end. The last one has none.
fn within(seconds: i64) -> String {
    match BOUNDS {
        [.., below, last] if seconds >= last => format!("> {}", span(below)),
        _ => format!("<= {}", span(seconds)),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_801 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::clock;

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let counts = |counts: &[(&str, u64)]| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect::<BTreeMap<_, _>>()
        };
        let numbers = (0..30).map(|id| NumberRow::new(&format!("{id}"), 0, (id == 29).then_some(0)));
        let none = Percentiles { p50: None, p90: None, p99: None };
        let row = UpstreamRow {
            upstream: "a.example".into(),
            product: "whatsapp".into(),
            outcomes: counts(&[("duplicate", 1), ("lost", 2), ("delivered", 3), ("unknown", 0)]),
            outstanding: 4,
            batches: 0,
            without_number: 0,
            recovered_seconds: none,
            lag_seconds: Percentiles { p50: Some(2), p90: Some(300), p99: Some(604_800) },
            chains: counts(&[("complete", 97), ("sent_missing", 3), ("unknown", 0)]),
            numbers: numbers.collect(),
        };
        let unscanned = counts(&[("compressed", 5), ("unread", 0)]);
        let upstreams = vec![row];
        let text = text(&Document {
            version: 1,
            taken: clock::now(),
            horizon_seconds: 90_000,
            unscanned,
            upstreams,
            products: Vec::new(),
        });
        for line in [
            "a.example (whatsapp)",
            "  events       delivered 3, lost 2, duplicate 1",
            "  outstanding  4 events failed so far, and Meta may send them again",
            "  lag          p50 <= 2 s, p90 <= 5 min, p99 > 48 h (24 hours)",
            "  recovered    none in 24 hours",
            "  chains       complete 97, sent_missing 3 (about 3.0 % are lost before this machine)",
            "  number       29: QUIET, nothing since 1970-01-01T00:00:00Z",
            "               and 9 more that are not quiet (--json has them all)",
            "POSTs that were not scanned since hookgate started: compressed 5",
            "the oldest event in the ledger is 25 h old",
        ] {
            assert!(text.lines().any(|of| of == line), "{line:?} in\n{text}");
        }
        assert!(text.find("29: QUIET") < text.find("0: last event"), "{text}");
        assert!(!text.contains("batches"), "{text}");
    }
}
