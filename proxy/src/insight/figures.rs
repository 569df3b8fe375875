use serde::{Deserialize, Serialize};

use super::row::Row;
use super::stage::{Stage, Unit};

/// What is known of a prefix, an upstream, or all together, in a period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    #[serde(default, skip_serializing_if = "Row::is_empty")]
    pub row: Row,
    /// What the proxy lost, each stage and cause once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Loss>,
    /// Of them, what has been made good since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made_good: Vec<Loss>,
    /// What the kernel dropped, by its own reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drops: Vec<(String, u64)>,
}

/// `[unit, stage, cause, count]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss(pub Unit, pub Stage, pub String, pub u64);

impl Group {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn add(&mut self, more: &Self) {
        self.row += &more.row;
        for Loss(unit, stage, cause, count) in &more.lost {
            self.lose(*unit, *stage, cause, *count);
        }
        for loss in &more.made_good {
            add(&mut self.made_good, loss.clone());
        }
        for (reason, count) in &more.drops {
            match self.drops.iter_mut().find(|(known, _)| known == reason) {
                Some((_, sum)) => *sum = sum.saturating_add(*count),
                None => self.drops.push((reason.clone(), *count)),
            }
        }
    }

    pub fn lose(&mut self, unit: Unit, stage: Stage, cause: &str, count: u64) {
        add(&mut self.lost, Loss(unit, stage, cause.to_owned(), count));
    }

    pub fn make_good(&mut self, unit: Unit, stage: Stage, cause: &str, count: u64) {
        add(&mut self.made_good, Loss(unit, stage, cause.to_owned(), count));
    }

    /// What was lost, for sorting.
    pub fn losses(&self) -> u64 {
        self.lost.iter().map(|Loss(.., count)| count).sum::<u64>()
            + self.row.failed_attempts()
            + self.row.missed_events()
    }
}

fn add(all: &mut Vec<Loss>, more: Loss) {
    let Loss(unit, stage, cause, count) = &more;
    match all.iter_mut().find(|Loss(u, s, c, _)| u == unit && s == stage && c == cause) {
        Some(Loss(.., sum)) => *sum = sum.saturating_add(*count),
        None => all.push(more),
    }
}
