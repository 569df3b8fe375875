//! From totals to figures of minutes.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::figures::Group;
use super::limit::LimitCode;
use super::minute::MINUTE;
use super::period::Period;
use super::row::Row;
use crate::guard::{self, AttemptClass, KernelCounters};
use crate::observe::grown;
use crate::prefixes::Network;

/// What the kernel had counted at one time, to be compared with a later one. The history holds the
/// last, so that nothing is counted twice or left out when a process follows another.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// When the guard's counting began, in seconds of Unix time; 0: there is none.
    pub since: i64,
    /// In seconds of Unix time; 0: never.
    pub taken: i64,
    #[serde(default)]
    pub kernel: KernelCounters,
    pub other: Group,
    pub prefixes: Vec<(Network, Group)>,
}

/// What the kernel has counted by now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelSample {
    /// Its counts. `taken`: now.
    pub counts: Baseline,
    pub limits: BTreeSet<LimitCode>,
}

impl From<&guard::Stats> for Baseline {
    fn from(stats: &guard::Stats) -> Self {
        let group = |counts: &guard::Counts| Group { row: counts.into(), ..Group::default() };
        let drops = |network| stats.kernel_drops.as_ref().and_then(|drops| drops.get(network));
        let prefixes = stats.prefixes.iter().map(|(network, counts)| {
            let drops = drops(network).into_iter().flatten();
            let drops = drops.map(|(reason, count)| (reason.clone(), *count)).collect();
            (*network, Group { drops, ..group(counts) })
        });
        Self {
            since: stats.since.as_second(),
            taken: stats.taken.as_second(),
            kernel: KernelCounters::default(),
            other: group(&stats.other),
            prefixes: prefixes.filter(|(_, group)| !group.is_empty()).collect(),
        }
    }
}

impl KernelSample {
    /// `None`: without a guard, at that time.
    pub fn new(stats: Option<&guard::Stats>, kernel: KernelCounters, now: i64) -> Self {
        let Some(stats) = stats else {
            let counts = Baseline { taken: now, kernel, ..Baseline::default() };
            return Self { counts, limits: BTreeSet::from([LimitCode::NoGuard]) };
        };
        let limit = if stats.handshakes_uncounted.is_some() {
            Some(LimitCode::NoGuard)
        } else {
            stats.answers_unseen.is_some().then_some(LimitCode::AnswersElsewhere)
        };
        let is_sampled = stats.sampled.iter().any(|sampled| sampled.class == AttemptClass::Meta);
        let limits = limit.into_iter().chain(is_sampled.then_some(LimitCode::Sampled)).collect();
        Self { counts: Baseline { kernel, ..stats.into() }, limits }
    }
}

/// How long after its last SYN an attempt has ended for certain, in seconds: 10, and a sweep,
/// rounded up for whole seconds of both times.
const TIMED_OUT: i64 = 12;
/// A guard that is younger has counted since hookgate started.
const YOUNG: i64 = 120;

/// What has happened between two samples, by the minutes in which it has: attempts that timed out
/// belong to the minute of their last SYN.
pub fn attribute(before: &Baseline, now: &KernelSample) -> [Period; 2] {
    let counts = &now.counts;
    let minute = |time: i64| time.div_euclid(MINUTE) * MINUTE;
    // A sample at the end of a minute is that minute's.
    let mut at_once = Period::starting(minute(counts.taken - 1));
    let mut timed_out = Period::starting(minute(counts.taken - TIMED_OUT));
    at_once.limits.clone_from(&now.limits);
    if before.taken != 0 {
        at_once.kernel = counts.kernel.since(&before.kernel);
    }
    let Some(before) = comparable(before, counts) else { return [at_once, timed_out] };
    let known: HashMap<&Network, &Group> =
        before.prefixes.iter().map(|(network, group)| (network, group)).collect();
    let nothing = Group::default();
    for (network, group) in &counts.prefixes {
        let mut group = since(group, known.get(network).copied().unwrap_or(&nothing));
        let late = Group { row: group.row.split_off_timed_out(), ..Group::default() };
        for (period, group) in [(&mut at_once, group), (&mut timed_out, late)] {
            if !group.is_empty() {
                period.meta.add(&group);
                period.prefixes.insert(*network, group);
            }
        }
    }
    at_once.other = since(&counts.other, &before.other);
    timed_out.other.row = at_once.other.row.split_off_timed_out();
    // A worker that hangs takes no samples. What its full queue refused meanwhile must not be taken
    // for something else because the kernel's counts are another minute's.
    let is_both = before.taken < timed_out.start + MINUTE && timed_out.start != at_once.start;
    if is_both && !timed_out.is_quiet() {
        [timed_out.kernel, at_once.kernel] = at_once.kernel.halves();
    }
    [at_once, timed_out]
}

/// What to compare with; `None`: when what was counted since happened is not known.
fn comparable(before: &Baseline, now: &Baseline) -> Option<Baseline> {
    let is_same = before.since == now.since;
    let has_begun_since = match before.taken {
        0 => now.taken - now.since < YOUNG,
        taken => now.since >= taken - 1,
    };
    match (now.since, is_same) {
        (0, _) => None,
        (_, true) if before.taken != 0 => Some(before.clone()),
        _ => has_begun_since.then(Baseline::default),
    }
}

fn since(now: &Group, before: &Group) -> Group {
    let drops = now.drops.iter().map(|(reason, count)| {
        let known = before.drops.iter().find(|(known, _)| known == reason).map_or(0, |(_, count)| *count);
        (reason.clone(), grown(*count, known))
    });
    let drops = drops.filter(|(_, count)| *count > 0).collect();
    Group { row: Row::since(&now.row, &before.row), drops, ..Group::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::Field;

    fn sample(since: i64, taken: i64, handshakes: u64, silent: u64) -> KernelSample {
        let mut group = Group::default();
        group.row[Field::Handshakes] = handshakes;
        group.row[Field::Silent] = silent;
        let prefixes = vec![("157.240.0.0/17".parse().unwrap(), group)];
        KernelSample {
            counts: Baseline { since, taken, prefixes, ..Baseline::default() },
            limits: BTreeSet::new(),
        }
    }

    #[test]
    fn attempts_that_timed_out_belong_to_the_minute_of_their_last_syn() {
        let before = sample(1000, 6060, 10, 1).counts;
        let [at_once, timed_out] = attribute(&before, &sample(1000, 6071, 12, 4));
        assert_eq!((at_once.start, at_once.meta.row[Field::Handshakes]), (6060, 2));
        assert_eq!(at_once.meta.row[Field::Silent], 0);
        assert_eq!((timed_out.start, timed_out.meta.row[Field::Silent]), (6000, 3));
        let [at_once, timed_out] = attribute(&before, &sample(1000, 6120, 12, 4));
        assert_eq!((at_once.start, timed_out.start), (6060, 6060));
        let [at_once, timed_out] = attribute(&before, &sample(1000, 6125, 12, 4));
        assert_eq!((at_once.start, timed_out.start), (6120, 6060));
    }

    #[test]
    fn a_late_sample_has_the_kernels_counts_in_both_minutes() {
        let with_overflows = |count, sample: KernelSample| {
            let kernel = KernelCounters { listen_overflows: Some(count), ..KernelCounters::default() };
            KernelSample { counts: Baseline { kernel, ..sample.counts }, ..sample }
        };
        for (before, taken, silent, expected) in [
            (6059, 6065, 4, [2, 3]),
            (6000, 6065, 4, [2, 3]),
            (6060, 6071, 4, [5, 0]),
            (6060, 6120, 4, [5, 0]),
            (6059, 6065, 1, [5, 0]),
        ] {
            let before = with_overflows(10, sample(1000, before, 10, 1)).counts;
            let periods = attribute(&before, &with_overflows(15, sample(1000, taken, 12, silent)));
            let overflows = periods.map(|period| period.kernel.listen_overflows.unwrap_or(0));
            assert_eq!(overflows, expected, "{taken}");
        }
    }

    #[test]
    fn what_an_unknown_past_has_counted_belongs_to_no_minute() {
        let handshakes = |before: &Baseline, now: &KernelSample| {
            attribute(before, now).iter().map(|period| period.meta.row[Field::Handshakes]).sum::<u64>()
        };
        let never = Baseline::default();
        assert_eq!(handshakes(&never, &sample(1000, 9000, 12, 0)), 0, "an old guard, a new history");
        assert_eq!(handshakes(&never, &sample(8990, 9000, 12, 0)), 12, "both are new");
        let before = sample(1000, 6060, 10, 1).counts;
        assert_eq!(handshakes(&before, &sample(6070, 6120, 12, 0)), 12, "attached anew since");
        assert_eq!(handshakes(&before, &sample(3000, 6120, 12, 0)), 0, "another guard's");
        assert_eq!(handshakes(&before, &sample(0, 6120, 0, 0)), 0, "no guard");
    }
}
