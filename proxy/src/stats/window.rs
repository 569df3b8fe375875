use super::{Counts, Document, Funnel};
use crate::guard::{FailedBy, Suspect, Unproven};
use crate::insight::{Field, Group, LimitCode, Period, Window};

impl Document {
    /// What was counted in a window, instead of since the attach. What is not kept is absent.
    pub fn within(mut self, window: &Window) -> Self {
        let period = &window.sum;
        let nothing = Group::default();
        for row in &mut self.prefixes {
            let group = period.prefixes.get(&row.prefix).unwrap_or(&nothing);
            let kernel_drops =
                row.counts.kernel_drops.is_some().then(|| group.drops.iter().cloned().collect());
            let last_seen = row.counts.last_seen.take();
            row.counts = Counts { kernel_drops, last_seen, ..counts(group, period) };
        }
        self.other = Counts {
            last_seen: self.other.last_seen.take(),
            ..counts(&period.other, period).without_doubts()
        };
        (self.from, self.to) = (Some(window.from.clone()), Some(window.to.clone()));
        self.kernel = Some(period.kernel);
        (self.seen, self.hidden_sources, self.tls_groups) = (None, None, None);
        self
    }
}

fn counts(group: &Group, period: &Period) -> Counts {
    let row = &group.row;
    let is_counted = !period.limits.contains(&LimitCode::NoGuard);
    let is_classified = is_counted && !period.limits.contains(&LimitCode::AnswersElsewhere);
    let counted = |count| is_counted.then_some(count);
    Counts {
        packets: row[Field::Packets],
        bytes: row[Field::Bytes],
        syns: row[Field::Syns],
        syns_retransmitted: counted(row[Field::SynsRetransmitted]),
        handshakes: counted(row[Field::Handshakes]),
        handshakes_failed: counted(row.failed_attempts()),
        failed_by: is_classified.then(|| FailedBy {
            reset: row[Field::Reset],
            refused: row[Field::RefusedByMachine],
            uncompleted: row[Field::Uncompleted],
            unheard: row[Field::Unheard],
            silent: row[Field::Silent],
            unanswered: row[Field::NoSynAck],
        }),
        unproven: is_classified.then(|| Unproven {
            silent: row[Field::UnprovenSilent],
            unanswered: row[Field::UnprovenUnanswered],
        }),
        suspect: is_classified.then(|| Suspect {
            silent: row[Field::SuspectSilent],
            unanswered: row[Field::SuspectUnanswered],
        }),
        untracked: Some(row[Field::Untracked]),
        fins: Some(row[Field::Fins]),
        rsts: Some(row[Field::Rsts]),
        dropped: Some(row[Field::Dropped]),
        funnel: Some(Funnel::from(row.funnel())),
        ..Counts::default()
    }
}
