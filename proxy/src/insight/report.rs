//! `hookgate lost`: the stage at which most was lost, and all others.

use jiff::Timestamp;

use super::document::{Limit, NotCounted, Report, StageReport};
use super::limit::LimitCode;
use super::minute::MINUTE;
use super::period::Period;
use super::query::Query;
use super::sentences;
use super::stage::{Stage, Unit};
use super::sums::{Fate, Sums};
use crate::observe::clock;

/// Fewer than these prove nothing.
const ENOUGH: u64 = 5;
/// Attempts of which fewer are lost are no cause for concern.
const LEAST_SHARE_OF_ATTEMPTS: f64 = 0.01;
/// Losses after this many minutes without any are another incident.
const QUIET_MINUTES: i64 = 10;
/// A history this long may have lost what came before.
const FULL_MINUTES: i64 = 48 * 60 - QUIET_MINUTES;

const STAGES: [(Stage, Unit); 14] = [
    (Stage::Meta, Unit::Events),
    (Stage::Inbound, Unit::Events),
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
    (Stage::After, Unit::Events),
];

impl Report {
    pub const VERSION: u32 = 1;

    /// `periods`: all that there are up to now, oldest first; those before the window tell since
    /// when. `None`: there are no figures of the window.
    pub fn new(periods: &[Period], query: &Query, now: Timestamp) -> Option<Self> {
        let from = query.from(now.as_second());
        let mut sums = Sums::default();
        let window = periods.iter().filter(|period| period.start >= from);
        let first = window.clone().next()?.start;
        window.for_each(|period| sums.add(period, query));
        sums.finish();
        if first >= from + MINUTE {
            sums.limits.insert(LimitCode::NoHistory);
        }
        let stages: Vec<_> = STAGES.iter().filter_map(|of| stage(&sums, query, *of)).collect();
        let verdict = worst(&stages).map(|worst| {
            let since = since(periods, query, worst);
            sentences::verdict(worst, since, &sums)
        });
        let begun = clock::date(first.max(from));
        let limits = sums.limits.iter();
        let limits = limits.map(|code| Limit { code: *code, text: sentences::limit(*code, &begun) });
        Some(Self {
            version: Self::VERSION,
            taken: clock::rfc3339(now),
            from: clock::date(from),
            to: clock::date(Query::to(now.as_second())),
            verdict,
            stages,
            not_counted: NotCounted { reset: sums.reset, unproven: sums.unproven, suspect: sums.suspect },
            limits: limits.collect(),
        })
    }
}

fn stage(sums: &Sums, query: &Query, (stage, unit): (Stage, Unit)) -> Option<StageReport> {
    let is_kernels = unit == Unit::Attempts && stage != Stage::Tls;
    if is_kernels && !sums.sees_attempts || unit == Unit::Attempts && query.upstream.is_some() {
        return None;
    }
    if unit == Unit::Events && !sums.sees_messages {
        return None;
    }
    let Fate { lost, late } = sums.fate(stage, unit);
    let causes = sums.counts(stage, unit);
    // What was under way when the window began may be lost in it.
    Some(StageReport { stage, unit, lost, late, of: sums.of_stage(stage, unit).max(lost + late), causes })
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
        let mut sums = Sums::default();
        sums.add(period, query);
        sums.fate(worst.stage, worst.unit).sum() > 0
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

    /// A minute that began `ago` minutes before.
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
            (&[(Handshakes, 90), (NoSynAck, 10)][..], 0, Some((Stage::Machine, 10, 0, 100, "unanswered"))),
            (&[(Handshakes, 90), (RefusedByMachine, 10)], 0, Some((Stage::Machine, 10, 0, 100, "refused"))),
            (&[(Handshakes, 90), (NoSynAck, 10)], 3, Some((Stage::Machine, 10, 0, 100, "accept_queue"))),
            (&[(Handshakes, 90), (Unheard, 10)], 0, Some((Stage::Outbound, 10, 0, 100, "unheard"))),
            (&[(Handshakes, 90), (Silent, 10)], 0, Some((Stage::Inbound, 10, 0, 100, "silent"))),
            (&[(Handshakes, 100), (LateUnheard, 10)], 0, Some((Stage::Outbound, 0, 10, 100, "unheard"))),
            // Not counted, on both sides of the fraction.
            (&[(Handshakes, 90), (Reset, 50)], 0, None),
            (&[(Handshakes, 90), (Silent, 50), (UnprovenSilent, 50)], 0, None),
            (&[(Handshakes, 90), (NoSynAck, 50), (SuspectUnanswered, 50)], 0, None),
            (
                &[(Handshakes, 90), (Silent, 70), (UnprovenSilent, 20), (SuspectSilent, 40)],
                0,
                Some((Stage::Inbound, 10, 0, 100, "silent")),
            ),
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
    fn the_kernels_reason_is_named_across_minutes() {
        let dropped =
            |ago, count| minute(ago, |period| period.meta.drops.push(("netfilter_drop".into(), count)));
        let late =
            || minute(1, |period| attempts(period, &[(Field::Handshakes, 20), (Field::LateUnanswered, 5)]));
        let cause = |periods: &[Period]| verdict(periods).map(|(.., cause)| cause);
        assert_eq!(cause(&[dropped(2, 5), late()]).as_deref(), Some("netfilter_drop"));
        assert_eq!(cause(&[dropped(2, 4), late()]).as_deref(), Some("unanswered"), "it explains too few");
    }

    #[test]
    fn posts_that_were_made_good_are_late() {
        let failed = |ago, count| {
            minute(ago, |period| {
                period.meta.row[Field::Posts] = 50;
                period.meta.lose(Unit::Posts, Stage::Upstream, "503", count);
            })
        };
        let mut periods = [failed(3, 10), failed(1, 2)];
        periods[0].meta.make_good(Unit::Posts, Stage::Upstream, "503", 7);
        let expected = (Stage::Upstream, 5, 7, 100, "503".to_owned());
        assert_eq!(verdict(&periods), Some(expected));
        // More than the window has lost.
        periods[0].meta.make_good(Unit::Posts, Stage::Upstream, "503", 70);
        assert_eq!(verdict(&periods).map(|(_, lost, late, ..)| (lost, late)), Some((0, 12)));
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
            period.limits.insert(LimitCode::NoMessages);
            attempts(period, &[(Field::Connections, 30), (Field::Posts, 30)]);
            period.meta.lose(Unit::Attempts, Stage::Tls, "unknown_ca", 6);
        });
        let report = report(&[period]);
        let is_seen = |s: &StageReport| s.unit == Unit::Posts || s.stage == Stage::Tls;
        assert!(report.stages.iter().all(is_seen), "{report:?}");
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
        assert!(upstream.stages.iter().all(|stage| stage.unit != Unit::Attempts));
        let prefix = of(Query { prefix: Some("157.240.0.0/16".parse().unwrap()), ..Query::default() });
        assert_eq!(prefix.verdict.map(|verdict| (verdict.stage, verdict.of)), Some((Stage::Outbound, 10)));
        let prefix = of(Query { prefix: Some("31.13.64.0/18".parse().unwrap()), ..Query::default() });
        assert_eq!(prefix.verdict, None);
    }
}
