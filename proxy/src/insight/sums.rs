use std::collections::{BTreeMap, BTreeSet};

use super::figures::{Group, Loss};
use super::limit::LimitCode;
use super::period::Period;
use super::query::Query;
use super::row::{Field, Row};
use super::stage::{Stage, Unit};

/// How many were lost, or only late, by stage and cause; and of how many.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    pub of: BTreeMap<Unit, u64>,
    pub causes: BTreeMap<(Stage, Unit), BTreeMap<String, Fate>>,
    pub reset: u64,
    pub unproven: u64,
    pub suspect: u64,
    /// What messages tell.
    pub messages: Row,
    /// Of what was lost, what has been made good since.
    made_good: BTreeMap<(Stage, Unit, String), u64>,
    /// Of events, by stage.
    events: BTreeMap<Stage, u64>,
    /// Hints, which are not counted as lost.
    hints: BTreeMap<String, u64>,
    /// Whether the kernel told at any time where attempts failed.
    pub sees_attempts: bool,
    /// Whether messages were looked into at any time.
    pub sees_messages: bool,
    pub limits: BTreeSet<LimitCode>,
    /// The kernel's tables of connections had no room.
    pub conntrack_drops: u64,
    /// Packets that the kernel dropped, by its reasons.
    drops: BTreeMap<String, u64>,
}

/// The outcome of those that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Not made good so far.
    pub lost: u64,
    /// Made good.
    pub late: u64,
}

impl Fate {
    pub fn sum(self) -> u64 {
        self.lost + self.late
    }
}

/// The cause of what a listener does not take while its queue is full.
const QUEUE_FULL: &str = "accept_queue";
const UNANSWERED: &str = "unanswered";

impl Sums {
    pub fn add(&mut self, period: &Period, query: &Query) {
        self.limits.extend(&period.limits);
        self.conntrack_drops += period.kernel.conntrack_drops.unwrap_or(0);
        self.sees_messages |= query.prefix.is_none() && !period.limits.contains(&LimitCode::NoMessages);
        if let Some(upstream) = &query.upstream {
            if let Some(group) = period.upstreams.get(upstream) {
                self.add_proxy(group);
            }
            return;
        }
        match query.prefix {
            Some(prefix) => {
                let within = period.prefixes.iter().filter(|(network, _)| prefix.covers(network));
                within.for_each(|(_, group)| self.add_group(group, period));
            }
            None => {
                self.add_group(&period.meta, period);
                self.add_proxy(&period.other);
                *self.of.entry(Unit::Attempts).or_default() += period.other.row[Field::Connections];
            }
        }
    }

    /// Of Meta's.
    fn add_group(&mut self, group: &Group, period: &Period) {
        self.add_proxy(group);
        let row = &group.row;
        let attempts = self.of.entry(Unit::Attempts).or_default();
        if period.limits.contains(&LimitCode::NoGuard) {
            *attempts += row[Field::Connections];
            return;
        }
        let unproven = row[Field::UnprovenSilent] + row[Field::UnprovenUnanswered];
        let suspect = row[Field::SuspectSilent] + row[Field::SuspectUnanswered];
        let not_counted = row[Field::Reset] + unproven + suspect;
        *attempts += (row[Field::Handshakes] + row.failed_attempts()).saturating_sub(not_counted);
        if period.limits.contains(&LimitCode::AnswersElsewhere) {
            return;
        }
        self.sees_attempts = true;
        for (reason, count) in &group.drops {
            *self.drops.entry(reason.clone()).or_default() += count;
        }
        self.reset += row[Field::Reset];
        self.unproven += unproven;
        self.suspect += suspect;
        let unanswered = row[Field::NoSynAck]
            .saturating_sub(row[Field::UnprovenUnanswered] + row[Field::SuspectUnanswered]);
        let silent =
            row[Field::Silent].saturating_sub(row[Field::UnprovenSilent] + row[Field::SuspectSilent]);
        let (no_answer, not_completed, refused) = match period.kernel.listen_overflows.unwrap_or(0) {
            0 => (UNANSWERED, "uncompleted", "refused"),
            _ => (QUEUE_FULL, QUEUE_FULL, QUEUE_FULL),
        };
        for (stage, cause, lost, late) in [
            (Stage::Machine, refused, row[Field::RefusedByMachine], 0),
            (Stage::Machine, not_completed, row[Field::Uncompleted], 0),
            (Stage::Machine, no_answer, unanswered, row[Field::LateUnanswered]),
            (Stage::Outbound, "unheard", row[Field::Unheard], row[Field::LateUnheard]),
            (Stage::Inbound, "silent", silent, 0),
        ] {
            self.lose(stage, Unit::Attempts, cause, Fate { lost, late });
        }
    }

    /// What can be said only over all periods.
    pub fn finish(&mut self) {
        for ((stage, unit, cause), count) in std::mem::take(&mut self.made_good) {
            // What failed before the window is not counted.
            let fate = self.causes.get_mut(&(stage, unit)).and_then(|causes| causes.get_mut(&cause));
            if let Some(fate) = fate {
                let late = fate.lost.min(count);
                fate.lost -= late;
                fate.late += late;
            }
        }
        self.explain();
    }

    /// Names the kernel's reason for what was not answered, where it dropped as many packets for
    /// one reason. Over all periods: a SYN may be dropped in one, and completed in the next.
    fn explain(&mut self) {
        let Some(causes) = self.causes.get_mut(&(Stage::Machine, Unit::Attempts)) else { return };
        let Some(unanswered) = causes.get(UNANSWERED).copied() else { return };
        let most = self.drops.iter().max_by_key(|(_, count)| **count);
        if let Some((reason, _)) = most.filter(|(_, count)| **count >= unanswered.sum()) {
            causes.remove(UNANSWERED);
            causes.insert(reason.clone(), unanswered);
        }
    }

    /// What the proxy knows of a group.
    fn add_proxy(&mut self, group: &Group) {
        self.add_messages(&group.row);
        *self.of.entry(Unit::Posts).or_default() += group.row[Field::Posts];
        for Loss(unit, stage, cause, count) in &group.lost {
            self.lose(*stage, *unit, cause, Fate { lost: *count, late: 0 });
        }
        for Loss(unit, stage, cause, count) in &group.made_good {
            *self.made_good.entry((*stage, *unit, cause.clone())).or_default() += count;
        }
    }

    fn add_messages(&mut self, row: &Row) {
        self.messages += row;
        let (late, quiet, missing) =
            (row[Field::EventsLate], row[Field::EventsQuiet], row[Field::ChainsSentMissing]);
        for (stage, of) in [
            (Stage::Meta, row[Field::Events] + quiet),
            (Stage::Inbound, row[Field::ChainsComplete] + missing),
            (Stage::After, row[Field::EventsDelivered] + row[Field::EventsRecovered]),
        ] {
            *self.events.entry(stage).or_default() += of;
        }
        for (stage, cause, lost, late) in [
            (Stage::Meta, "lag", 0, late),
            (Stage::Meta, "quiet", quiet, 0),
            (Stage::Inbound, "sent_missing", missing, 0),
        ] {
            self.lose(stage, Unit::Events, cause, Fate { lost, late });
        }
        for (hint, count) in
            [("batches", row[Field::EventBatches]), ("duplicate", row[Field::EventsDuplicate])]
        {
            if count > 0 {
                *self.hints.entry(hint.to_owned()).or_default() += count;
            }
        }
    }

    /// By cause, lost and late together; of the stage behind a 200, what may have been.
    pub fn counts(&self, stage: Stage, unit: Unit) -> BTreeMap<String, u64> {
        if stage == Stage::After {
            return self.hints.clone();
        }
        let causes = self.causes.get(&(stage, unit)).into_iter().flatten();
        causes.map(|(cause, fate)| (cause.clone(), fate.sum())).collect()
    }

    fn lose(&mut self, stage: Stage, unit: Unit, cause: &str, more: Fate) {
        if more.sum() > 0 {
            let causes = self.causes.entry((stage, unit)).or_default();
            let fate = causes.entry(cause.to_owned()).or_default();
            fate.lost += more.lost;
            fate.late += more.late;
        }
    }

    /// All causes of a stage together.
    pub fn fate(&self, stage: Stage, unit: Unit) -> Fate {
        let causes = self.causes.get(&(stage, unit)).into_iter().flat_map(BTreeMap::values);
        causes.fold(Fate::default(), |sum, fate| Fate {
            lost: sum.lost + fate.lost,
            late: sum.late + fate.late,
        })
    }

    pub fn of(&self, unit: Unit) -> u64 {
        self.of.get(&unit).copied().unwrap_or(0)
    }

    /// How many there were that could end at a stage.
    pub fn of_stage(&self, stage: Stage, unit: Unit) -> u64 {
        match unit {
            Unit::Events => self.events.get(&stage).copied().unwrap_or(0),
            Unit::Attempts | Unit::Posts => self.of(unit),
        }
    }
}
