//! `hookgate lost`: the stage at which most was lost, and all others.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::period::{LimitCode, MINUTE, Period};
use super::sentences;
use super::stage::{Stage, Unit};
use super::tally::{Fate, Tally};
use crate::observe::clock;
use crate::prefixes::Network;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// How far back, in whole minutes.
    pub minutes: i64,
    pub upstream: Option<String>,
    /// It, and what lies in it.
    pub prefix: Option<Network>,
}

/// `hookgate lost --json`, version 1: fields are added, never renamed or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub version: u32,
    /// RFC 3339 in UTC, as all times.
    pub taken: String,
    /// The window: whole minutes, of which the last may not be over.
    pub from: String,
    pub to: String,
    pub verdict: Option<Verdict>,
    /// One a stage and unit. Those that can't be seen are absent.
    pub stages: Vec<StageReport>,
    pub not_counted: NotCounted,
    pub limits: Vec<Limit>,
}

/// Where most was lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub stage: Stage,
    pub unit: Unit,
    /// (lost + late) / of.
    pub share: f64,
    pub lost: u64,
    pub late: u64,
    pub of: u64,
    /// The most frequent one.
    pub cause: String,
    /// The first minute with losses after ten without; `None`: older than the figures.
    pub since: Option<String>,
    pub text: String,
    /// What to do, and what to type.
    pub next: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    pub stage: Stage,
    pub unit: Unit,
    /// Failed, and not made good so far.
    pub lost: u64,
    /// Failed, and made good.
    pub late: u64,
    pub of: u64,
    /// Lost and late together.
    pub causes: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotCounted {
    pub reset: u64,
    pub unproven: u64,
}

/// What the figures can't tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub code: LimitCode,
    pub text: String,
}

/// Fewer than these prove nothing.
const ENOUGH: u64 = 5;
/// Attempts of which fewer are lost are no cause for concern.
const LEAST_SHARE_OF_ATTEMPTS: f64 = 0.01;
/// After so many minutes without losses, the next ones are another incident.
const QUIET_MINUTES: i64 = 10;
/// A history this long may have lost what came before.
const FULL_MINUTES: i64 = 48 * 60 - QUIET_MINUTES;

/// 60 days.
const MOST_MINUTES: i64 = 60 * 24 * 60;

const STAGES: [(Stage, Unit); 11] = [
    (Stage::Inbound, Unit::Attempts),
    (Stage::Machine, Unit::Attempts),
    (Stage::Outbound, Unit::Attempts),
    (Stage::Tls, Unit::Attempts),
    (Stage::Request, Unit::Posts),
    (Stage::Dns, Unit::Posts),
    (Stage::Connect, Unit::Posts),
    (Stage::UpstreamTls, Unit::Posts),
    (Stage::Upstream, Unit::Posts),
    (Stage::Client, Unit::Posts),
    (Stage::Machine, Unit::Posts),
];

impl Query {
    /// Of `?minutes=60&upstream=HOST&prefix=CIDR`; the last two may be missing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut query = Self::default();
        for part in text.strip_prefix('?')?.split('&') {
            match part.split_once('=')? {
                ("minutes", minutes) => query.minutes = minutes.parse().ok()?,
                ("upstream", upstream) => query.upstream = Some(upstream.to_ascii_lowercase()),
                ("prefix", prefix) => query.prefix = Some(prefix.parse().ok()?),
                _ => return None,
            }
        }
        (1..=MOST_MINUTES).contains(&query.minutes).then_some(query)
    }

    /// As [`Query::parse`] reads it.
    pub fn to_text(&self) -> String {
        let mut text = format!("?minutes={}", self.minutes);
        for (key, value) in
            [("upstream", self.upstream.clone()), ("prefix", self.prefix.map(|prefix| prefix.to_string()))]
        {
            if let Some(value) = value {
                text = format!("{text}&{key}={value}");
            }
        }
        text
    }

    /// The first minute of the window that ends now.
    pub fn from(&self, now: i64) -> i64 {
        (now - self.minutes * MINUTE).div_euclid(MINUTE) * MINUTE
    }
}

impl Report {
    pub const VERSION: u32 = 1;

    /// `periods`: all that there are up to now, oldest first; those before the window tell since
    /// when. `None`: there are no figures of the window.
    pub fn new(periods: &[Period], query: &Query, now: Timestamp) -> Option<Self> {
        let from = query.from(now.as_second());
        let mut tally = Tally::default();
        let window = periods.iter().filter(|period| period.start >= from);
        let first = window.clone().next()?.start;
        window.for_each(|period| tally.add(period, query));
        if first >= from + MINUTE {
            tally.limits.insert(LimitCode::NoHistory);
        }
        tally.limits.insert(LimitCode::NoMessages);
        let stages: Vec<_> = STAGES.iter().filter_map(|of| stage(&tally, query, *of)).collect();
        let verdict = worst(&stages).map(|worst| {
            let since = since(periods, query, worst);
            sentences::verdict(worst, since, &tally)
        });
        let begun = clock::date(first.max(from));
        let limits = tally.limits.iter();
        let limits = limits.map(|code| Limit { code: *code, text: sentences::limit(*code, &begun) });
        Some(Self {
            version: Self::VERSION,
            taken: clock::rfc3339(now),
            from: clock::date(from),
            to: clock::rfc3339(now),
            verdict,
            stages,
            not_counted: NotCounted { reset: tally.reset, unproven: tally.unproven },
            limits: limits.collect(),
        })
    }
}

impl Report {
    /// Says also that something else can't be told.
    pub fn add_limit(&mut self, code: LimitCode, text: String) {
        self.limits.push(Limit { code, text });
    }
}

impl StageReport {
    fn sum(&self) -> u64 {
        self.lost + self.late
    }

    pub fn share(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.sum() as f64 / self.of as f64 }
    }
}

fn stage(tally: &Tally, query: &Query, (stage, unit): (Stage, Unit)) -> Option<StageReport> {
    let is_kernels = unit == Unit::Attempts && stage != Stage::Tls;
    if is_kernels && !tally.sees_attempts || unit == Unit::Attempts && query.upstream.is_some() {
        return None;
    }
    let Fate { lost, late } = tally.fate(stage, unit);
    let causes = tally.causes.get(&(stage, unit)).cloned().unwrap_or_default();
    let causes = causes.into_iter().map(|(cause, fate)| (cause, fate.sum())).collect();
    // What was under way when the window began may be lost in it.
    Some(StageReport { stage, unit, lost, late, of: tally.of(unit).max(lost + late), causes })
}

fn worst(stages: &[StageReport]) -> Option<&StageReport> {
    let is_bad = |stage: &&StageReport| {
        stage.sum() >= ENOUGH && (stage.unit != Unit::Attempts || stage.share() >= LEAST_SHARE_OF_ATTEMPTS)
    };
    stages.iter().filter(is_bad).max_by(|one, other| one.share().total_cmp(&other.share()))
}

/// When the losses of a stage began.
fn since(periods: &[Period], query: &Query, worst: &StageReport) -> Option<i64> {
    let oldest = periods.first()?.start;
    let loses = |period: &&Period| {
        let mut tally = Tally::default();
        tally.add(period, query);
        tally.fate(worst.stage, worst.unit).sum() > 0
    };
    let mut begun: Option<i64> = None;
    for period in periods.iter().rev().filter(loses) {
        match begun {
            Some(later) if later - period.start > (QUIET_MINUTES + 1) * MINUTE - 1 => break,
            _ => begun = Some(period.start),
        }
    }
    let begun = begun?;
    let newest = periods.last()?.start;
    match begun - oldest >= QUIET_MINUTES * MINUTE {
        true => Some(begun),
        false if newest - oldest >= FULL_MINUTES * MINUTE => None,
        false => Some(oldest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::{Field, Group};

    const NOW: i64 = 1_800_000_000 / MINUTE * MINUTE;

    /// A minute, so many minutes ago.
    fn minute(ago: i64, change: impl FnOnce(&mut Period)) -> Period {
        let mut period = Period::starting(NOW - ago * MINUTE);
        change(&mut period);
        period
    }

    fn attempts(period: &mut Period, counts: &[(Field, u64)]) {
        counts.iter().for_each(|(field, count)| period.meta.row[*field] += count);
    }

    fn report(periods: &[Period]) -> Report {
        let query = Query { minutes: 60, ..Query::default() };
        Report::new(periods, &query, Timestamp::from_second(NOW + 30).unwrap()).unwrap()
    }

    fn verdict(periods: &[Period]) -> Option<(Stage, u64, u64, u64, String)> {
        let verdict = report(periods).verdict?;
        Some((verdict.stage, verdict.lost, verdict.late, verdict.of, verdict.cause))
    }

    #[test]
    fn classes_of_failures_have_their_stages() {
        use Field::*;
        for (counts, overflows, expected) in [
            (&[(Handshakes, 90), (Unanswered, 10)][..], 0, Some((Stage::Machine, 10, 0, 100, "unanswered"))),
            (&[(Handshakes, 90), (RefusedByMachine, 10)], 0, Some((Stage::Machine, 10, 0, 100, "refused"))),
            (&[(Handshakes, 90), (Unanswered, 10)], 3, Some((Stage::Machine, 10, 0, 100, "accept_queue"))),
            (&[(Handshakes, 90), (Unheard, 10)], 0, Some((Stage::Outbound, 10, 0, 100, "unheard"))),
            (&[(Handshakes, 90), (Silent, 10)], 0, Some((Stage::Inbound, 10, 0, 100, "silent"))),
            (&[(Handshakes, 100), (LateUnheard, 10)], 0, Some((Stage::Outbound, 0, 10, 100, "unheard"))),
            // Not counted, on both sides of the fraction.
            (&[(Handshakes, 90), (Reset, 50)], 0, None),
            (&[(Handshakes, 90), (Silent, 50), (UnprovenSilent, 50)], 0, None),
            // Too few.
            (&[(Handshakes, 10), (Silent, 4)], 0, None),
            (&[(Handshakes, 996), (Silent, 9)], 0, None),
        ] {
            let period = minute(1, |period| {
                period.kernel.listen_overflows = Some(overflows);
                attempts(period, counts);
            });
            let expected =
                expected.map(|(stage, lost, late, of, cause)| (stage, lost, late, of, cause.to_owned()));
            assert_eq!(verdict(&[period]), expected, "{counts:?}");
        }
    }

    #[test]
    fn the_greatest_share_is_the_verdict() {
        let period = minute(1, |period| {
            attempts(period, &[(Field::Handshakes, 90), (Field::Unheard, 10), (Field::Posts, 40)]);
            period.meta.lose(Unit::Posts, Stage::Dns, "dns_error", 8);
            period.meta.lose(Unit::Posts, Stage::Dns, "dns_timeout", 1);
        });
        let report = report(&[period]);
        let verdict = report.verdict.unwrap();
        assert_eq!(
            (verdict.stage, &*verdict.cause, verdict.lost, verdict.of),
            (Stage::Dns, "dns_error", 9, 40)
        );
        assert_eq!(report.stages.len(), STAGES.len());
    }

    #[test]
    fn losses_are_dated_from_the_end_of_the_quiet() {
        let quiet = |ago| minute(ago, |_| ());
        let bad = |ago| minute(ago, |period| attempts(period, &[(Field::Unheard, 10)]));
        let since = |periods: &[Period]| report(periods).verdict.unwrap().since;
        let at = |ago: i64| Some(clock::date(NOW - ago * MINUTE));
        assert_eq!(since(&[quiet(40), bad(30), bad(12), bad(2), bad(1)]), at(12));
        assert_eq!(since(&[quiet(40), bad(30), bad(11), bad(1)]), at(11), "ten minutes without");
        assert_eq!(since(&[quiet(40), bad(30), bad(20), bad(10), bad(1)]), at(30));
        assert_eq!(since(&[quiet(5), bad(1)]), at(5), "the first minute of the figures");
        assert_eq!(since(&[bad(48 * 60 - 1), bad(48 * 60 - 8), bad(1)]), at(1));
        let always: Vec<_> = (0..48 * 60).rev().step_by(8).map(bad).collect();
        assert_eq!(since(&always), None, "older than the figures");
    }

    #[test]
    fn without_figures_of_the_window_there_is_no_report() {
        let query = Query { minutes: 60, ..Query::default() };
        let now = Timestamp::from_second(NOW).unwrap();
        assert!(Report::new(&[minute(70, |_| ())], &query, now).is_none());
        assert!(Report::new(&[], &query, now).is_none());
    }

    #[test]
    fn stages_that_cannot_be_seen_are_absent() {
        let period = minute(1, |period| {
            period.limits.insert(LimitCode::NoGuard);
            attempts(period, &[(Field::Connections, 30), (Field::Posts, 30)]);
            period.meta.lose(Unit::Attempts, Stage::Tls, "unknown_ca", 6);
        });
        let report = report(&[period]);
        assert!(report.stages.iter().all(|s| s.unit == Unit::Posts || s.stage == Stage::Tls), "{report:?}");
        assert!(report.limits.iter().any(|limit| limit.code == LimitCode::NoGuard));
        assert_eq!(report.verdict.map(|verdict| (verdict.stage, verdict.of)), Some((Stage::Tls, 30)));
    }

    #[test]
    fn one_upstream_or_prefix_can_be_looked_at() {
        let period = minute(1, |period| {
            attempts(period, &[(Field::Handshakes, 50), (Field::Posts, 50)]);
            let mut group = Group::default();
            group.row[Field::Posts] = 10;
            group.lose(Unit::Posts, Stage::Upstream, "500", 5);
            period.meta.add(&Group { row: crate::insight::Row::default(), ..group.clone() });
            period.upstreams.insert("a.example".into(), group);
            let mut group = Group::default();
            group.row[Field::Handshakes] = 5;
            group.row[Field::Unheard] = 5;
            period.prefixes.insert("157.240.0.0/17".parse().unwrap(), group);
        });
        let of = |query: Query| {
            let query = Query { minutes: 60, ..query };
            let now = Timestamp::from_second(NOW + 30).unwrap();
            Report::new(std::slice::from_ref(&period), &query, now).unwrap()
        };
        let upstream = of(Query { upstream: Some("a.example".into()), ..Query::default() });
        assert_eq!(upstream.verdict.map(|verdict| verdict.share), Some(0.5));
        assert!(upstream.stages.iter().all(|stage| stage.unit == Unit::Posts));
        let prefix = of(Query { prefix: Some("157.240.0.0/16".parse().unwrap()), ..Query::default() });
        assert_eq!(prefix.verdict.map(|verdict| (verdict.stage, verdict.of)), Some((Stage::Outbound, 10)));
        let prefix = of(Query { prefix: Some("31.13.64.0/18".parse().unwrap()), ..Query::default() });
        assert_eq!(prefix.verdict, None);
    }
}
