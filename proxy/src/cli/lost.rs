//! `hookgate lost`: at which stage messages were lost, and since when.

use std::fmt::Write as _;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::config_file::{ConfigFile, pin};
use super::output::{json, print, print_error};
use super::proxy::{self, AskError};
use super::window::minutes;
use crate::config::Config;
use crate::guard::{self, Detail};
use crate::insight::{Damage, FILE, History, KernelSample, Period, Query, Report, StageReport, attribute};
use crate::observe::{Interrupted, OPEN_POSTS_FILE, OpenPosts, clock};
use crate::prefixes::Network;
use crate::sys::is_byte_locked;

#[derive(Debug, Args)]
pub struct Options {
    /// How far back, in whole minutes: 90s, 30m, 1h, 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = minutes)]
    since: i64,
    /// Only requests to this upstream
    #[arg(long, value_name = "HOST")]
    upstream: Option<String>,
    /// Only what came from this prefix of Meta's, and those in it
    #[arg(long, value_name = "CIDR", conflicts_with = "upstream")]
    prefix: Option<Network>,
    /// Print JSON, version 1
    #[arg(long)]
    json: bool,
}

/// There is no verdict for want of figures.
const NO_FIGURES: u8 = 3;

pub(super) fn run(options: &Options, file: &ConfigFile) -> anyhow::Result<ExitCode> {
    let config = file.load_or_defaults()?;
    let upstream = options.upstream.as_ref().map(|upstream| upstream.to_ascii_lowercase());
    let query = Query { minutes: options.since, upstream, prefix: options.prefix };
    let Some(report) = report(&config, &query)? else {
        print_error(
            "hookgate: there are no figures of that time: does hookgate run, and may you ask it? try as root\n",
        );
        return Ok(ExitCode::from(NO_FIGURES));
    };
    print(&if options.json { json(&report)? } else { text(&report) })?;
    Ok(if report.verdict.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Of the running proxy, else of what is on disk and pinned.
pub(super) fn report(config: &Config, query: &Query) -> anyhow::Result<Option<Report>> {
    let socket = config.admin_socket();
    match socket.map(|socket| proxy::get(socket, &format!("/lost.json{}", query.to_text()))) {
        Some(Ok(text)) => Ok(serde_json::from_str(&text)?),
        None | Some(Err(AskError::Unreachable { .. })) => from_files(config, query),
        Some(Err(error)) => {
            print_error(&format!("hookgate: {error}; the figures are from files and pins\n"));
            from_files(config, query)
        }
    }
}

pub(super) fn from_files(config: &Config, query: &Query) -> anyhow::Result<Option<Report>> {
    let now = clock::now();
    Ok(Report::new(&periods(config, query)?, query, now))
}

/// What there is on disk, with what the guard has counted since the last sample, in its last
/// minute. None where there is no history that can be read.
pub(super) fn periods(config: &Config, query: &Query) -> anyhow::Result<Vec<Period>> {
    let file = crate::access::open(&config.insight.state.join(FILE));
    let history = file.map_err(Damage::from).and_then(History::open_to_read);
    // Why it can't be read makes no difference: there are no figures.
    let Ok(history) = history else { return Ok(Vec::new()) };
    let now = clock::now().as_second();
    let mut periods = history.before(query, now)?;
    let left = interrupted(&config.insight.state.join(OPEN_POSTS_FILE)).unwrap_or_default();
    left.iter().for_each(|left| add(&mut periods, Period::of_interrupted(left, now)));
    if let Ok(Some(stats)) = guard::read(&pin(config.guard.as_ref()), Detail::Prefixes) {
        for more in
            attribute(&history.baseline()?, &KernelSample::new(Some(&stats), guard::kernel_counters(), now))
        {
            add(&mut periods, more);
        }
    }
    periods.sort_by_key(|period| period.start);
    Ok(periods)
}

fn add(periods: &mut Vec<Period>, more: Period) {
    match periods.iter_mut().find(|period| period.start == more.start) {
        Some(period) => period.add(&more),
        None => periods.push(more),
    }
}

/// What processes left that were killed, and none has found since.
fn interrupted(file: &Path) -> io::Result<Vec<Interrupted>> {
    let file = crate::access::open(file)?;
    let mut bytes = vec![0; usize::try_from(OpenPosts::BYTES).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    let has_ended = |slot| is_byte_locked(file.as_fd(), slot).is_ok_and(|is_locked| !is_locked);
    Ok(OpenPosts::left(&bytes, has_ended))
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = match &report.verdict {
        Some(verdict) => writeln!(text, "{}\n  -> {}\n", verdict.text, verdict.next),
        None => writeln!(text, "nothing notable was lost between {} and {}\n", report.from, report.to),
    };
    let _ = writeln!(
        text,
        "{:<14}{:<10}{:>8}{:>8}{:>10}{:>9}  CAUSES",
        "STAGE", "UNIT", "LOST", "LATE", "OF", "SHARE"
    );
    for stage in &report.stages {
        let StageReport { stage: name, unit, lost, late, of, causes } = stage;
        let mut causes: Vec<_> = causes.iter().collect();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let causes =
            causes.iter().map(|(cause, count)| format!("{cause} {count}")).collect::<Vec<_>>().join(", ");
        let share = format!("{:.1} %", stage.share() * 100.0);
        let line =
            format!("{:<14}{:<10}{lost:>8}{late:>8}{of:>10}{share:>9}  {causes}", name.name(), unit.name());
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let not_counted = report.not_counted;
    if not_counted.reset + not_counted.unproven + not_counted.suspect > 0 {
        let _ = writeln!(
            text,
            "\nnot counted: {} attempts that the other end reset (of two it tries at once, it drops one), {} of one SYN \
             each from networks that completed nothing in 48 h (forged, or all that follows is lost), {} of one SYN \
             each that look unlike their network's senders (probably forged)",
            not_counted.reset, not_counted.unproven, not_counted.suspect
        );
    }
    for limit in &report.limits {
        let _ = writeln!(text, "limit: {}", limit.text);
    }
    text
}
