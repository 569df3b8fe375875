//! What the screen shows, as lines of text: pure, so that every size can be looked at in a test.

use std::cmp::Reverse;

use crate::insight::{Chart, Point};
use crate::stats::{Counts, Document, Interval, Live, Whose, rows};

/// What the keys have chosen.
#[derive(Debug, Default)]
pub struct View {
    pub order: Order,
    /// The row that is marked, counted from the top.
    pub chosen: usize,
    /// Whether the chosen row's way is shown instead of the list.
    pub funnel: bool,
    pub paused: bool,
    /// Where the figures are from, where it is not the usual place.
    pub note: Option<String>,
    /// The last hour, where there are figures of it.
    pub hour: Option<Chart>,
}

/// What stands on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    Syns,
    Bytes,
    Lost,
    Prefix,
}

impl Order {
    pub fn next(self) -> Self {
        match self {
            Self::Syns => Self::Bytes,
            Self::Bytes => Self::Lost,
            Self::Lost => Self::Prefix,
            Self::Prefix => Self::Syns,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Syns => "SYNs",
            Self::Bytes => "bytes",
            Self::Lost => "lost handshakes",
            Self::Prefix => "prefix",
        }
    }
}

/// A line, and whether it is marked.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub text: String,
    pub marked: bool,
}

/// Exactly `height` lines of at most `width` characters.
pub fn draw(live: &Live, view: &View, width: usize, height: usize) -> Vec<Line> {
    let plain = |text: String| Line { text, marked: false };
    let mut lines = Vec::new();
    match live.latest() {
        None => lines.push(plain("waiting for the first figures …".into())),
        Some(document) => {
            lines.extend(head(document, live, view).into_iter().map(plain));
            let room = height.saturating_sub(lines.len() + 1);
            let rows = sorted(document, view.order);
            match rows.get(view.chosen.min(rows.len().saturating_sub(1))) {
                Some((whose, counts)) if view.funnel => {
                    lines.extend(funnel(*whose, counts, live.last(*whose)).into_iter().take(room).map(plain));
                }
                _ => lines.extend(list(&rows, live, view, room)),
            }
        }
    }
    lines.resize_with(height.saturating_sub(1), || plain(String::new()));
    lines.push(plain(keys(view)));
    for line in &mut lines {
        line.text = line.text.chars().take(width).collect();
    }
    lines
}

fn head(document: &Document, live: &Live, view: &View) -> Vec<String> {
    let guard = document.guard.describe();
    let paused = if view.paused { "  PAUSED" } else { "" };
    let (mut syns, mut requests, mut dropped) = (0.0, 0.0, 0);
    for (whose, counts) in rows(document) {
        let last = live.last(whose);
        syns += last.per_second(last.syns);
        requests += last.per_second(last.requests);
        dropped += counts.dropped.unwrap_or(0);
    }
    let mut lines = vec![
        format!("hookgate{paused}  {guard}"),
        format!("{}  SYN/s {syns:.1}  requests/s {requests:.1}  dropped {dropped}", document.taken),
    ];
    lines.extend(view.hour.as_ref().map(hour));
    lines.extend(view.note.clone());
    lines
}

/// What was lost in the last hour, and the share of it in steps.
fn hour(chart: &Chart) -> String {
    let sum = |of: fn(&Point) -> u64| chart.points.iter().map(of).sum::<u64>();
    let lost = chart.points.iter().map(|point| {
        let (lost, of) = (point.attempts_lost + point.posts_lost, point.attempts + point.posts);
        (lost > 0).then(|| lost as f64 / of.max(lost) as f64)
    });
    format!(
        "last hour  lost {} of {} attempts, {} of {} POSTs {}",
        sum(|point| point.attempts_lost),
        sum(|point| point.attempts),
        sum(|point| point.posts_lost),
        sum(|point| point.posts),
        sparkline(lost).trim_start()
    )
}

/// The rows that ever had traffic, in order.
fn sorted(document: &Document, order: Order) -> Vec<(Whose, &Counts)> {
    let mut rows: Vec<_> = rows(document).filter(|(_, counts)| counts.is_used()).collect();
    match order {
        // They come by prefix, and sorting keeps that among equals.
        Order::Prefix => {}
        Order::Syns => rows.sort_by_key(|(_, c)| Reverse(c.syns)),
        Order::Bytes => rows.sort_by_key(|(_, c)| Reverse(c.bytes)),
        Order::Lost => rows.sort_by_key(|(_, c)| Reverse(c.handshakes_failed)),
    }
    rows
}

/// Characters of a sparkline.
const SPARK: usize = 13;

fn list(rows: &[(Whose, &Counts)], live: &Live, view: &View, room: usize) -> Vec<Line> {
    let title = format!(
        "{:<20} {:>7} {:<SPARK$} {:>5} {:<SPARK$} {:>7} {:>7}",
        "PREFIX", "SYN/s", "", "DONE", "", "REQ/s", "DELIV"
    );
    let mut lines = vec![Line { text: title, marked: false }];
    let room = room.saturating_sub(1);
    let chosen = view.chosen.min(rows.len().saturating_sub(1));
    let first = (chosen + 1).saturating_sub(room);
    for (index, (whose, counts)) in rows.iter().enumerate().skip(first).take(room) {
        lines.push(Line { text: row(*whose, counts, live), marked: index == chosen });
    }
    if rows.is_empty() {
        lines.push(Line { text: "no packet to a guarded port yet".into(), marked: false });
    }
    lines
}

fn row(whose: Whose, counts: &Counts, live: &Live) -> String {
    let last = live.last(whose);
    let per_second = |interval: &Interval| interval.per_second(interval.syns);
    let syns: Vec<f64> = live.past(whose).map(per_second).collect();
    let most = syns.iter().copied().fold(0.0, f64::max);
    let syns = syns.iter().map(|rate| (*rate > 0.0).then(|| rate / most));
    let done = live.past(whose).map(Interval::completion);
    format!(
        "{:<20} {:>7.1} {} {:>5} {} {:>7.1} {:>7}",
        name(whose),
        per_second(&last),
        sparkline(syns),
        percent(counts.handshakes, counts.opened()),
        sparkline(done),
        last.per_second(last.requests),
        percent(counts.funnel.map(|f| f.delivered), counts.funnel.map(|f| f.requests)),
    )
}

fn name(whose: Whose) -> String {
    whose.map_or("other".into(), |network| network.to_string())
}

/// The latest shares, from 0 to 1, as characters of growing height; a gap where there is none.
fn sparkline(shares: impl DoubleEndedIterator<Item = Option<f64>> + ExactSizeIterator) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let skipped = shares.len().saturating_sub(SPARK);
    let drawn: String = shares
        .skip(skipped)
        .map(|share| share.map_or(' ', |share| HEIGHTS[((share * 7.0).round() as usize).min(7)]))
        .collect();
    format!("{drawn:>SPARK$}")
}

/// `87%`, or `-` when there is nothing to take a share of.
fn percent(part: Option<u64>, of: Option<u64>) -> String {
    match (part, of) {
        (Some(part), Some(of)) if of > 0 => format!("{:.0}%", part as f64 / of as f64 * 100.0),
        _ => "-".into(),
    }
}

/// The way from a SYN to a delivered message, a step a line.
fn funnel(whose: Whose, counts: &Counts, last: Interval) -> Vec<String> {
    let mut lines = vec![name(whose), String::new()];
    for step in counts.steps() {
        let Some(count) = step.count else { continue };
        let share = percent(Some(count), step.of);
        let bar = step.of.filter(|of| *of > 0).map_or(String::new(), |of| {
            "█".repeat(((count as f64 / of as f64).min(1.0) * 20.0).round() as usize)
        });
        let name = if step.is_loss { format!("  - {}", step.name) } else { step.name.into() };
        lines.push(format!("{name:<28} {count:>12} {share:>6}  {bar}").trim_end().into());
    }
    let rate = |count| last.per_second(count);
    lines.push(String::new());
    lines.push(format!(
        "now: {:.1} packets/s, {:.0} bytes/s, {:.1} SYN/s, {:.1} requests/s, {:.1} delivered/s",
        rate(last.packets),
        rate(last.bytes),
        rate(last.syns),
        rate(last.requests),
        rate(last.delivered)
    ));
    lines.push(format!("last seen {}", counts.last_seen.as_deref().unwrap_or("never")));
    lines
}

fn keys(view: &View) -> String {
    let order = view.order.name();
    let enter = if view.funnel { "list" } else { "funnel" };
    format!("q quit  ↑↓ choose  enter {enter}  s order: {order}  space pause")
}
