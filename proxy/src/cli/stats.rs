//! `hookgate stats`: what was counted, once or again and again.

use std::cell::Cell;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::time::Instant;

use super::config_file::{ConfigFile, pin};
use super::output::{is_read, json, print, print_error};
use super::proxy::{self, AskError};
use super::window::minutes;
use crate::config::{Config, Mode};
use crate::guard::{self, Detail, FailedBy};
use crate::insight::{Chart, Query, Window};
use crate::observe::clock;
use crate::stats::{Counts, Document, Live, rows};

#[derive(Debug, Args)]
pub struct Options {
    /// Print JSON, version 1: every prefix, whatever --all says
    #[arg(long)]
    json: bool,
    /// Also show prefixes without traffic, and the /24s and /48s that were seen
    #[arg(long)]
    all: bool,
    /// Again every second, with rates; as JSON one object a line
    #[arg(long)]
    watch: bool,
    /// Only what was counted in this time, in whole minutes: 90s, 30m, 1h, 7d
    #[arg(long, value_name = "DURATION", value_parser = minutes, conflicts_with = "watch")]
    since: Option<i64>,
}

const INTERVAL: Duration = Duration::from_secs(1);

pub fn run(options: &Options, config: &ConfigFile) -> anyhow::Result<ExitCode> {
    let source = Source::new(config)?;
    if options.watch {
        watch(options, &source)?;
    } else {
        let reading = match options.since {
            None => source.read()?,
            Some(minutes) => source.read_since(&Query { minutes, ..Query::default() })?,
        };
        if let Some(note) = reading.note() {
            print_error(&format!("hookgate: {note}\n"));
        }
        print(&match options.json {
            true => json(&reading.document)?,
            false => table(&reading.document, options.all, None),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "this command has one thread, which has nothing else to do")]
fn watch(options: &Options, source: &Source) -> anyhow::Result<()> {
    let (mut live, mut taken, mut was_silent) = (Live::default(), Instant::now(), false);
    loop {
        let reading = source.read()?;
        if let Some(note) = reading.note().filter(|_| !was_silent) {
            print_error(&format!("hookgate: {note}\n"));
        }
        let Reading { document, silence } = reading;
        was_silent = silence.is_some();
        let goes_on = match options.json {
            true => is_read(&(serde_json::to_string(&document)? + "\n"))?,
            false => {
                live.push(document, taken.elapsed());
                let text = live.latest().map(|document| table(document, options.all, Some(&live)));
                is_read(&(text.unwrap_or_default() + "\n"))?
            }
        };
        if !goes_on {
            return Ok(());
        }
        taken = Instant::now();
        sleep(INTERVAL);
    }
}

/// Where the figures come from: the running proxy, else the pinned maps.
pub struct Source {
    config: Config,
    socket: Option<PathBuf>,
    /// How long the proxy may take to answer.
    timeout: Cell<Duration>,
}

/// What there is to show.
pub struct Reading {
    pub document: Document,
    /// Why it is from the pins, although a proxy runs.
    pub silence: Option<Silence>,
}

/// A proxy that should have told the figures, and did not.
#[derive(Debug, thiserror::Error)]
#[error("hookgate does not answer: {error}")]
pub struct Silence {
    pub socket: PathBuf,
    pub error: AskError,
}

impl Reading {
    /// Where the figures are from, where it is not the usual place.
    pub fn note(&self) -> Option<String> {
        self.silence.as_ref().map(|silence| format!("{silence}; the figures are from the pins"))
    }
}

/// For a proxy that was silent the last time: a watching operator should not wait long each time.
const RETRY_TIMEOUT: Duration = Duration::from_millis(500);

impl Source {
    pub fn new(config: &ConfigFile) -> anyhow::Result<Self> {
        let config = config.load_or_defaults()?;
        let socket = config.admin_socket().map(Path::to_owned);
        Ok(Self { config, socket, timeout: Cell::new(proxy::ANSWER_TIMEOUT) })
    }

    pub fn read(&self) -> anyhow::Result<Reading> {
        let Some(socket) = &self.socket else { return self.read_pins(None) };
        let answer = proxy::get_within(self.timeout.get(), socket, "/stats.json");
        let is_silent = matches!(answer, Err(AskError::Silent { .. }));
        self.timeout.set(if is_silent { RETRY_TIMEOUT } else { proxy::ANSWER_TIMEOUT });
        match answer {
            Ok(json) => {
                let document = serde_json::from_str(&json);
                let document = document.with_context(|| format!("the proxy at {}", socket.display()))?;
                Ok(Reading { document, silence: None })
            }
            // No process listens there, or this user may not ask: the pins may still be read.
            Err(AskError::Unreachable { .. }) => self.read_pins(None),
            Err(error) => self.read_pins(Some(Silence { socket: socket.clone(), error })),
        }
    }

    /// What was counted in a window.
    ///
    /// Errors: also that there are no figures of it.
    pub(super) fn read_since(&self, query: &Query) -> anyhow::Result<Reading> {
        let path = format!("/stats.json{}", query.to_text());
        let answer = self.socket.as_deref().map(|socket| proxy::get(socket, &path));
        let silence = match answer {
            Some(Ok(json)) => {
                return Ok(Reading { document: serde_json::from_str(&json)?, silence: None });
            }
            Some(Err(AskError::Refused(why))) => bail!("{why}"),
            Some(Err(error)) if !matches!(error, AskError::Unreachable { .. }) => {
                self.socket.clone().map(|socket| Silence { socket, error })
            }
            _ => None,
        };
        Ok(Reading { document: self.kept_since(query)?, silence })
    }

    /// What was counted in a window, from files and the pinned maps alone.
    ///
    /// Errors: also that there are no figures of it.
    pub(super) fn kept_since(&self, query: &Query) -> anyhow::Result<Document> {
        let periods = super::lost::periods(&self.config, query)?;
        let window = Window::new(&periods, query, clock::now()).context(
            "there are no figures of that time: does hookgate run, and may you ask it? try as root",
        )?;
        Ok(self.pinned()?.within(&window))
    }

    /// What was lost in the last hour, as the running proxy knows it.
    pub fn last_hour(&self) -> Option<Chart> {
        let query = Query { minutes: 60, ..Query::default() };
        let path = format!("/history.json{}", query.to_text());
        let answer = proxy::get_within(RETRY_TIMEOUT, self.socket.as_deref()?, &path).ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// Of a proxy that runs and hangs.
    pub fn silence(&self) -> Option<AskError> {
        let answer = proxy::get(self.socket.as_deref()?, "/health");
        answer.err().filter(|error| matches!(error, AskError::Silent { .. }))
    }

    fn read_pins(&self, silence: Option<Silence>) -> anyhow::Result<Reading> {
        match (self.pinned(), silence) {
            (Ok(document), silence) => Ok(Reading { document, silence }),
            (Err(error), None) => Err(error),
            (Err(error), Some(silence)) => Err(error.context(silence)),
        }
    }

    /// From the pinned maps alone.
    pub fn pinned(&self) -> anyhow::Result<Document> {
        let document = match guard::read(&pin(self.config.guard.as_ref()), Detail::Blocks)? {
            Some(stats) => Document::attached(&stats),
            None => {
                let mode = self.config.guard.as_ref().map_or(Mode::Observe, |guard| guard.mode);
                let prefixes = super::config_file::standing(&self.config.prefixes)?.table();
                Document::without_guard(clock::now(), mode, prefixes.iter())
            }
        };
        Ok(Document { kernel: Some(guard::kernel_counters()), ..document })
    }
}

/// By traffic, the rest of the world last; with `live`, what happened since the last time as well.
fn table(document: &Document, all: bool, live: Option<&Live>) -> String {
    let mut text = match (&document.from, &document.to) {
        (Some(from), Some(to)) => format!("{from} to {to}\n\n"),
        _ => format!("{}  {}\n\n", document.taken, document.guard.describe()),
    };
    let mut shown: Vec<_> = document.prefixes.iter().filter(|row| all || row.counts.is_used()).collect();
    shown.sort_by_key(|row| std::cmp::Reverse((row.counts.bytes, row.counts.packets)));
    line(&mut text, &HEAD.map(str::to_owned));
    let counts = rows(document).collect::<std::collections::HashMap<_, _>>();
    for whose in shown.iter().map(|row| Some(row.prefix)).chain([None]) {
        let name = whose.map_or("other".into(), |prefix| prefix.to_string());
        let Some(counts) = counts.get(&whose) else { continue };
        line(&mut text, &cells(name, counts));
        if let Some(by) = counts.failed_by.as_ref().and_then(|by| failed_by(by, counts)) {
            // Writing to a String does not fail.
            let _ = writeln!(text, "  failed: {by}");
        }
        if let Some(live) = live.filter(|live| live.past(whose).len() > 0) {
            let last = live.last(whose);
            let rate = |count| format!("{:.1}/s", last.per_second(count));
            let mut rates = [const { String::new() }; HEAD.len()];
            rates[1] = rate(last.packets);
            rates[2] = format!("{}/s", bytes(last.per_second(last.bytes) as u64));
            rates[3] = rate(last.syns);
            rates[5] = rate(last.handshakes);
            rates[8] = rate(last.requests);
            rates[9] = rate(last.delivered);
            line(&mut text, &rates);
        }
    }
    for seen in document.seen.iter().flatten().filter(|_| all) {
        line(&mut text, &cells(format!("  {}", seen.network), &seen.counts));
    }
    text
}

const HEAD: [&str; 13] = [
    "PREFIX",
    "PACKETS",
    "BYTES",
    "SYNS",
    "RETRANS",
    "SHAKES",
    "FAILED",
    "TLS",
    "REQUESTS",
    "DELIV",
    "REFUSED",
    "DROPPED",
    "LAST SEEN",
];

fn cells(name: String, counts: &Counts) -> [String; HEAD.len()] {
    let told = |count: Option<u64>| count.map_or("-".into(), |count| count.to_string());
    let funnel = counts.funnel;
    [
        name,
        counts.packets.to_string(),
        bytes(counts.bytes),
        counts.syns.to_string(),
        told(counts.syns_retransmitted),
        told(counts.handshakes),
        told(counts.handshakes_failed),
        told(funnel.map(|f| f.tls)),
        told(funnel.map(|f| f.requests)),
        told(funnel.map(|f| f.delivered)),
        told(funnel.map(|f| f.refused + f.failed)),
        told(counts.dropped),
        counts.last_seen.clone().unwrap_or_else(|| "never".into()),
    ]
}

/// `3 unanswered, 1 reset; of them 2 suspect (…)`; `None`: there were none.
fn failed_by(by: &FailedBy, counts: &Counts) -> Option<String> {
    let FailedBy { reset, refused, uncompleted, unheard, silent, unanswered } = *by;
    let mut classes = [
        (reset, "reset"),
        (refused, "refused"),
        (uncompleted, "uncompleted"),
        (unheard, "unheard"),
        (silent, "silent"),
        (unanswered, "unanswered"),
    ];
    classes.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let words = classes.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
    let words = words.collect::<Vec<_>>().join(", ");
    let unproven = counts.unproven.map_or(0, |of| of.silent + of.unanswered);
    let suspect = counts.suspect.map_or(0, |of| of.silent + of.unanswered);
    let doubts = [
        (unproven, "unproven (one SYN, from a network that completed nothing in 48 h)"),
        (suspect, "suspect (one SYN, unlike those of its network's senders: probably forged)"),
    ];
    let doubts = doubts.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}"));
    let doubts = doubts.collect::<Vec<_>>().join(", ");
    match (words.is_empty(), doubts.is_empty()) {
        (true, _) => None,
        (false, true) => Some(words),
        (false, false) => Some(format!("{words}; of them {doubts}")),
    }
}

fn line(text: &mut String, cells: &[String; HEAD.len()]) {
    let [name, rest @ .., last] = cells;
    // Writing to a String does not fail.
    let _ = write!(text, "{name:<22}");
    for cell in rest {
        let _ = write!(text, " {cell:>9}");
    }
    let _ = writeln!(text, "  {last}");
}

/// With a unit, so that it fits.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 10_000 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Suspect;
    use crate::stats::{Guard, Prefix, State};

    fn document() -> Document {
        let counts = |packets| Counts { packets, bytes: packets * 60_000, syns: 1, ..Counts::default() };
        let prefix = |text: &str, packets| Prefix { prefix: text.parse().unwrap(), counts: counts(packets) };
        Document {
            version: 1,
            taken: "2026-11-24T16:00:00Z".into(),
            from: None,
            to: None,
            guard: Guard {
                state: State::Attached,
                mode: Mode::Observe,
                since: Some("2026-11-24T09:00:00Z".into()),
                interfaces: Vec::new(),
                handshakes_uncounted: None,
                failures_unclassified: None,
                kernel_drops_uncounted: None,
                sampled: Vec::new(),
            },
            prefixes: vec![
                prefix("31.13.64.0/18", 2),
                prefix("157.240.0.0/17", 900),
                Prefix { prefix: "2a03:2880::/32".parse().unwrap(), counts: Counts::default() },
            ],
            other: counts(1),
            seen: None,
            hidden_sources: None,
            tls_groups: None,
            kernel: None,
        }
    }

    #[test]
    fn the_table_is_sorted_by_traffic() {
        let names = |all| {
            let table = table(&document(), all, None);
            table.lines().skip(2).map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(false), ["PREFIX", "157.240.0.0/17", "31.13.64.0/18", "other"]);
        assert_eq!(names(true)[3], "2a03:2880::/32");
    }

    #[test]
    fn failed_handshakes_are_told_by_class() {
        let mut document = document();
        let by = FailedBy { reset: 1, unanswered: 3, ..FailedBy::default() };
        document.prefixes[1].counts.failed_by = Some(by);
        document.prefixes[1].counts.suspect = Some(Suspect { silent: 0, unanswered: 2 });
        document.prefixes[0].counts.failed_by = Some(FailedBy::default());
        let table = table(&document, false, None);
        let lines: Vec<&str> = table.lines().skip(3).collect();
        assert!(lines[0].starts_with("157.240.0.0/17"), "{table}");
        let suspect = "of them 2 suspect (one SYN, unlike those of its network's senders: probably forged)";
        assert_eq!(lines[1], format!("  failed: 3 unanswered, 1 reset; {suspect}"));
        assert!(lines[2].starts_with("31.13.64.0/18") && lines[3].starts_with("other"), "{table}");
    }

    #[test]
    fn bytes_have_units() {
        for (count, text) in [
            (0, "0 B"),
            (9_999, "9999 B"),
            (10_000, "9.8 KiB"),
            (54_000_000, "51.5 MiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn columns_keep_apart() {
        let table = table(&document(), true, None);
        let mut lines = table.lines().skip(2);
        let head = lines.next().unwrap();
        for line in lines {
            assert_eq!(line.find("never"), head.find("LAST SEEN"), "{table}");
        }
    }
}
