//! The text: tables for people who have never heard of hookgate.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::addresses::is_global;
use super::document::{Answers, Counted, Document, Messages, Reader, Source, Upstream};
use super::summary::{percent, posts, summary};
use crate::guard::{self, FailedBy};
use crate::insight::{Report, Unit};
use crate::messages;
use crate::stats::{Counts, Seen, State};

/// More /24s and /48s are in the JSON alone.
const MAX_NETWORKS: usize = 50;

pub(super) fn text(document: &Document) -> String {
    let mut text = String::new();
    let title = match document.reader {
        Reader::Provider => "Connections from Meta (AS32934), measured at the receiving machine",
        Reader::Meta => "Webhooks of Meta (AS32934), measured at the receiving machine",
    };
    line(&mut text, &format!("# {title}\n\n{}\n", summary(document)));
    origin(&mut text, document);
    addresses(&mut text, document);
    prefixes(&mut text, document);
    lost(&mut text, document);
    if let Some(upstream) = &document.upstream {
        of_upstream(&mut text, upstream);
    }
    if let Some(messages) = &document.messages {
        told_by_messages(&mut text, messages);
    }
    if document.reader == Reader::Meta {
        answers(&mut text, document);
    }
    limits(&mut text, document);
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Ends with an empty line; nothing where there is no row.
fn table<const N: usize>(text: &mut String, head: [&str; N], rows: &[[String; N]]) {
    if rows.is_empty() {
        return;
    }
    let row = |text: &mut String, cells: &[String; N]| {
        let cells = cells.each_ref().map(|cell| cell.replace('\n', " ").replace('|', "\\|"));
        line(text, &format!("| {} |", cells.join(" | ")));
    };
    row(text, &head.map(str::to_owned));
    row(text, &head.map(|_| "---".to_owned()));
    rows.iter().for_each(|cells| row(text, cells));
    text.push('\n');
}

fn origin(text: &mut String, document: &Document) {
    let clock = match document.clock_synchronised {
        Some(true) => "synchronised",
        Some(false) => "not synchronised: times may be off",
        None => "the kernel does not say whether it is synchronised",
    };
    let source = match document.source {
        Source::Proxy => "the running relay",
        Source::Files => {
            "what the relay has left on disk, and the guard's counters; the relay itself did not answer"
        }
    };
    let guard = document.guard.as_ref().map_or_else(|| "not known".into(), crate::stats::Guard::describe);
    let rows = [
        ["Written by".to_owned(), format!("hookgate {}, {} (UTC)", document.hookgate, document.taken)],
        ["Window".to_owned(), format!("{} to {} (UTC)", document.from, document.to)],
        ["Clock of this machine".to_owned(), clock.to_owned()],
        ["Figures from".to_owned(), source.to_owned()],
        ["Guard (counts packets)".to_owned(), guard],
        [
            "Upstream".to_owned(),
            document.upstream.as_ref().map_or_else(|| "all together".into(), |it| format!("`{}`", it.host)),
        ],
    ];
    table(text, ["", ""], &rows);
}

fn addresses(text: &mut String, document: &Document) {
    line(text, "## Addresses of this machine\n");
    let mut rows: Vec<[String; 2]> = Vec::new();
    for listener in &document.listeners {
        rows.push([format!("listener ({})", listener.protocol), format!("`{}`", listener.address)]);
    }
    for interface in &document.interfaces {
        let addresses = interface.addresses.join("`, `");
        rows.push([format!("interface {}", interface.name), format!("`{addresses}`")]);
    }
    for name in &document.names {
        let found = match &name.error {
            None => format!("`{}` (DNS, now)", name.addresses.join("`, `")),
            Some(error) => format!("no address from the DNS: {error}"),
        };
        rows.push([format!("name in the certificate: `{}`", name.name), found]);
    }
    table(text, ["", "address"], &rows);
    let all = || document.interfaces.iter().flat_map(|interface| &interface.addresses);
    let is_public = |address: &String| address.parse().is_ok_and(is_global);
    if all().next().is_some() && !all().any(is_public) {
        line(
            text,
            "None of the interfaces' addresses is global unicast: a NAT or a tunnel leads to this machine.\n",
        );
    }
}

fn prefixes(text: &mut String, document: &Document) {
    line(text, "## Meta's prefixes\n");
    match &document.window {
        Some(window) if !window.prefixes.is_empty() => in_window(text, document, window),
        Some(_) => line(text, "Nothing came from Meta's prefixes in the window.\n"),
        None => line(text, "Nothing is known by prefix of the window.\n"),
    }
    if let Some(since_attach) = &document.since_attach {
        since(text, since_attach);
    }
}

fn in_window(text: &mut String, document: &Document, window: &Counted) {
    line(text, &format!("In the window, from {}:\n", window.from.as_ref().unwrap_or(&document.from)));
    let is_counted = document.guard.as_ref().is_some_and(|guard| guard.state == State::Attached);
    let rows = window.prefixes.iter().map(|row| {
        let [syns, repeated, handshakes, failed, by, drops] = attempts(&row.counts, is_counted);
        let funnel = row.counts.funnel.unwrap_or_default();
        let [requests, delivered] = [funnel.requests, funnel.delivered].map(|count| count.to_string());
        [row.prefix.to_string(), syns, repeated, handshakes, failed, by, drops, requests, delivered]
    });
    let head = [
        "prefix",
        "SYNs",
        "repeated",
        "established",
        "failed",
        "failed by kind",
        "kernel drops",
        "requests",
        "answered 200",
    ];
    table(text, head, &rows.collect::<Vec<_>>());
    if let Some(kernel) = window.kernel.as_ref() {
        kernel_counters(text, kernel);
    }
}

fn since(text: &mut String, counted: &Counted) {
    let from = counted.from.as_deref().unwrap_or("the attach");
    let rows = counted.prefixes.iter().map(|row| {
        let counts = &row.counts;
        [
            row.prefix.to_string(),
            delays(counts.rtt_seconds),
            delays(counts.established_seconds),
            told(counts.segments_retransmitted),
            told(counts.rtos),
            drops(counts),
        ]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        line(
            text,
            &format!(
                "Delays and repetitions since the guard was attached ({from}), not only in the window, as upper ends of buckets:\n"
            ),
        );
        let head = [
            "prefix",
            "SYN-ACK to ACK p50 / p90 / p99",
            "first SYN to established p50 / p90 / p99",
            "segments sent again",
            "timeouts",
            "kernel drops",
        ];
        table(text, head, &rows);
    }
    let mut networks: Vec<&Seen> = counted.networks.iter().collect();
    let size = |seen: &&Seen| std::cmp::Reverse((seen.counts.handshakes_failed, seen.counts.syns));
    networks.sort_by_key(size);
    let rows = networks.iter().take(MAX_NETWORKS).map(|seen| {
        let [syns, repeated, handshakes, failed, by, _] = attempts(&seen.counts, true);
        let last = seen.counts.last_seen.clone().unwrap_or_else(|| "-".into());
        [seen.network.to_string(), syns, repeated, handshakes, failed, by, last]
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        return;
    }
    line(
        text,
        &format!(
            "/24s and /48s since the guard was attached ({from}), those with the most failures first:\n"
        ),
    );
    let head = ["network", "SYNs", "repeated", "established", "failed", "failed by kind", "last packet"];
    table(text, head, &rows);
    if networks.len() > MAX_NETWORKS {
        line(text, &format!("{} more are in the JSON file.\n", networks.len() - MAX_NETWORKS));
    }
    line(
        text,
        "Failed by kind: `reset` by the other end; `refused`: this machine answered with a RST; `uncompleted`: the final \
         ACK came and this machine did not complete the handshake; `unheard`: our SYN-ACK left and the SYN came again; \
         `silent`: our SYN-ACK left and nothing came; `unanswered`: no SYN-ACK left.\n",
    );
}

/// SYNs, repeated ones, completed and failed handshakes, kinds of failures, and drops.
fn attempts(counts: &Counts, is_counted: bool) -> [String; 6] {
    [
        told(is_counted.then_some(counts.syns)),
        told(counts.syns_retransmitted),
        told(counts.handshakes),
        told(counts.handshakes_failed),
        counts.failed_by.as_ref().map_or_else(|| "-".into(), kinds),
        drops(counts),
    ]
}

fn kinds(by: &FailedBy) -> String {
    let FailedBy { reset, refused, uncompleted, unheard, silent, unanswered } = *by;
    let kinds = [
        ("reset", reset),
        ("refused", refused),
        ("uncompleted", uncompleted),
        ("unheard", unheard),
        ("silent", silent),
        ("unanswered", unanswered),
    ];
    listed(kinds)
}

fn drops(counts: &Counts) -> String {
    let drops = counts.kernel_drops.as_ref();
    drops.map_or_else(|| "-".into(), |drops| listed(drops.iter().map(|(name, count)| (&**name, *count))))
}

fn told(count: Option<u64>) -> String {
    count.map_or_else(|| "-".into(), |count| count.to_string())
}

/// `unheard: 5, reset: 1`, those that are not 0.
fn listed<'n>(counts: impl IntoIterator<Item = (&'n str, u64)>) -> String {
    let mut counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    match counts.is_empty() {
        true => "none".into(),
        false => counts.iter().map(|(name, count)| format!("{name}: {count}")).collect::<Vec<_>>().join(", "),
    }
}

fn listed_map(counts: &BTreeMap<String, u64>) -> String {
    listed(counts.iter().map(|(name, count)| (&**name, *count)))
}

fn delays(delays: Option<guard::Percentiles>) -> String {
    let Some(guard::Percentiles { p50, p90, p99 }) = delays else { return "-".into() };
    percentiles([p50, p90, p99].map(|value| value.map(|value| format!("{:.1}", value * 1000.0))), "ms")
}

/// Of values in that unit; `-`: there are none.
fn percentiles(values: [Option<String>; 3], unit: &str) -> String {
    if values.iter().all(Option::is_none) {
        return "-".into();
    }
    let values = values.map(|value| value.unwrap_or_else(|| "-".into()));
    format!("{} {unit}", values.join(" / "))
}

fn kernel_counters(text: &mut String, kernel: &guard::KernelCounters) {
    let counters = [
        ("listen queue overflows", kernel.listen_overflows),
        ("drops at listeners", kernel.listen_drops),
        ("drops of connection tracking", kernel.conntrack_drops),
    ];
    let counters = counters.into_iter().filter_map(|(name, count)| Some(format!("{name} {}", count?)));
    let counters = counters.collect::<Vec<_>>().join(", ");
    if !counters.is_empty() {
        line(text, &format!("Of all connections of this machine, in the same time: {counters}.\n"));
    }
}

fn lost(text: &mut String, document: &Document) {
    line(text, "## Where messages were lost, all upstreams together\n");
    report(text, &document.lost);
    line(
        text,
        "`attempts` are attempts of Meta to connect, `posts` requests that may carry messages, `events` what these \
         carry. `lost` failed and was not made good so far, `late` was made good. Stages in the order of a message's \
         way: `meta` (not sent, or late), `inbound` (before this machine), `machine` (this machine), `outbound` (our \
         answers on their way), `tls`, `request` (refused by the relay), `dns`, `connect`, `upstream_tls`, `upstream` \
         (the receiver behind the relay), `client` (Meta hung up), `after` (a hint: answered 200).\n",
    );
}

fn report(text: &mut String, report: &Report) {
    match &report.verdict {
        Some(verdict) => line(text, &format!("{}.\n", verdict.text)),
        None => line(text, &format!("Nothing notable was lost between {} and {}.\n", report.from, report.to)),
    }
    let rows = report.stages.iter().map(|stage| {
        [
            stage.stage.name().to_owned(),
            stage.unit.name().to_owned(),
            stage.lost.to_string(),
            stage.late.to_string(),
            stage.of.to_string(),
            percent(stage.share()),
            if stage.causes.is_empty() { String::new() } else { listed_map(&stage.causes) },
        ]
    });
    table(text, ["stage", "unit", "lost", "late", "of", "share", "causes"], &rows.collect::<Vec<_>>());
    let not_counted = report.not_counted;
    if report.stages.iter().any(|stage| stage.unit == Unit::Attempts) {
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "Not counted: {} attempts that the other end reset, {} of one SYN each from networks that completed \
             nothing in 48 h (forged, or all that follows is lost), and {} of one SYN each that look unlike their \
             network's senders (probably forged).\n",
            not_counted.reset, not_counted.unproven, not_counted.suspect
        );
    }
}

fn of_upstream(text: &mut String, upstream: &Upstream) {
    line(text, &format!("## Requests to `{}`\n", upstream.host));
    match &upstream.lost {
        Some(lost) => report(text, lost),
        None => line(text, "There are no figures of it.\n"),
    }
    let rows = upstream.numbers.iter().map(|number| {
        let time =
            |time: Option<jiff::Timestamp>| time.map_or_else(|| "-".into(), crate::observe::clock::rfc3339);
        [number.id.clone(), time(number.last), time(number.quiet_since)]
    });
    table(text, ["id of number, page or account", "last event", "quiet since"], &rows.collect::<Vec<_>>());
}

fn told_by_messages(text: &mut String, messages: &Messages) {
    let window = &messages.window;
    let lag = window.lag_seconds.map_or_else(
        || "not known".into(),
        |mean| format!("{mean:.1} s in the mean of {} events", window.lagged),
    );
    line(text, "## Events in the messages\n");
    let outcomes = [
        ("delivered", window.delivered),
        ("recovered", window.recovered),
        ("lost", window.lost),
        ("unknown", window.unknown),
        ("duplicate", window.duplicate),
    ];
    let rows = [
        ["events, at their first sight".to_owned(), window.events.to_string()],
        ["lag (arrival - time of the event)".to_owned(), lag],
        ["outcomes".to_owned(), listed(outcomes)],
        [
            "status chains".to_owned(),
            format!("complete {}, `sent` missing {}", window.chains_complete, window.chains_sent_missing),
        ],
    ];
    line(text, "In the window:\n");
    table(text, ["", ""], &rows);
    let Some(products) = &messages.products else { return };
    let rows = products.iter().map(|row| {
        [
            row.product.clone(),
            listed_map(&row.outcomes),
            row.outstanding.to_string(),
            seconds(row.lag_seconds),
            seconds(row.recovered_seconds),
            listed_map(&row.chains),
            row.fwdproxy.to_string(),
        ]
    });
    let head = [
        "product",
        "outcomes",
        "outstanding",
        "lag p50 / p90 / p99",
        "recovered after p50 / p90 / p99",
        "status chains",
        "POSTs whose errors name fwdproxy",
    ];
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        line(
            text,
            "Since the ledger of events began; delays of the last 24 hours, as upper ends of buckets:\n",
        );
    }
    table(text, head, &rows);
}

fn seconds(messages::Percentiles { p50, p90, p99 }: messages::Percentiles) -> String {
    percentiles([p50, p90, p99].map(|value| value.map(|value| value.to_string())), "s")
}

fn answers(text: &mut String, document: &Document) {
    line(text, "## Our answers\n");
    let of = document.upstream.as_ref().and_then(|upstream| upstream.lost.as_ref()).unwrap_or(&document.lost);
    let (all, lost) = posts(of);
    let mut causes: BTreeMap<String, u64> = BTreeMap::new();
    for stage in of.stages.iter().filter(|stage| stage.unit == Unit::Posts) {
        for (cause, count) in &stage.causes {
            *causes.entry(cause.clone()).or_default() += count;
        }
    }
    line(
        text,
        &format!(
            "In the window, {} of {all} POSTs were answered with 200 in full. The others, by status or cause: {}.\n",
            all.saturating_sub(lost),
            listed_map(&causes)
        ),
    );
    if let Some(Answers { since, codes, upstreams_left_out }) = &document.answers {
        let rest = match upstreams_left_out {
            0 => String::new(),
            count => format!(" {count} upstreams with few requests are left out."),
        };
        let codes = listed_map(codes);
        line(
            text,
            &format!(
                "Since the relay was started ({since}), all clients' requests by status: {codes}.{rest}\n"
            ),
        );
    }
}

fn limits(text: &mut String, document: &Document) {
    let of_reports = document.lost.limits.iter().map(|limit| &limit.text);
    let all: Vec<_> = of_reports.chain(&document.unavailable).collect();
    if all.is_empty() {
        return;
    }
    line(text, "## What these figures can't tell\n");
    all.iter().for_each(|limit| line(text, &format!("- {}", limit.replace('\n', " "))));
}
