use std::ops::{AddAssign, Index, IndexMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::guard;
use crate::messages::Changes;
use crate::observe::{FunnelCounts, grown};

/// What is counted of a prefix. The order is that of the history's file: new ones go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Field {
    Packets,
    Bytes,
    Syns,
    SynsRetransmitted,
    Handshakes,
    Reset,
    RefusedByMachine,
    Uncompleted,
    Unheard,
    Silent,
    NoSynAck,
    /// Failed, and not classified.
    Unclassified,
    UnprovenSilent,
    UnprovenUnanswered,
    LateUnanswered,
    LateUnheard,
    Untracked,
    Fins,
    Rsts,
    Dropped,
    Accepted,
    Tls,
    TlsFailed,
    Requests,
    Delivered,
    Refused,
    Failed,
    /// POSTs from Meta, `allow` and loopback.
    Posts,
    /// Connections that the proxy accepted from them.
    Connections,
    /// Events at their first sight.
    Events,
    /// Of them, those whose lag is known, and its sum in milliseconds.
    EventsLagged,
    EventsLagMilliseconds,
    /// Of them, those that Meta or the way from it has delayed.
    EventsLate,
    EventsDelivered,
    EventsRecovered,
    EventsLost,
    EventsUnknown,
    EventsDuplicate,
    /// POSTs with more than one.
    EventBatches,
    /// Those that are usual and did not come from numbers that are quiet.
    EventsQuiet,
    ChainsComplete,
    ChainsSentMissing,
    ChainsUnknown,
    /// How often the two that follow were looked at, and what they were in sum.
    EventSamples,
    EventsOutstanding,
    NumbersQuiet,
    SuspectSilent,
    SuspectUnanswered,
}

const FIELDS: usize = Field::SuspectUnanswered as usize + 1;

/// Counts, or how they have grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row([u64; FIELDS]);

impl Default for Row {
    fn default() -> Self {
        Self([0; FIELDS])
    }
}

impl Index<Field> for Row {
    type Output = u64;

    fn index(&self, field: Field) -> &u64 {
        &self.0[field as usize]
    }
}

impl IndexMut<Field> for Row {
    fn index_mut(&mut self, field: Field) -> &mut u64 {
        &mut self.0[field as usize]
    }
}

impl AddAssign<&Row> for Row {
    fn add_assign(&mut self, more: &Row) {
        for (sum, more) in self.0.iter_mut().zip(more.0) {
            *sum = sum.saturating_add(more);
        }
    }
}

impl Row {
    /// Those that are known only when an attempt has timed out.
    const AFTER_TIMEOUT: [Field; 11] = [
        Field::RefusedByMachine,
        Field::Uncompleted,
        Field::Unheard,
        Field::Silent,
        Field::NoSynAck,
        Field::Unclassified,
        Field::UnprovenSilent,
        Field::UnprovenUnanswered,
        Field::SuspectSilent,
        Field::SuspectUnanswered,
        Field::Untracked,
    ];

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How it has grown since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let mut row = *self;
        for (now, before) in row.0.iter_mut().zip(before.0) {
            *now = grown(*now, before);
        }
        row
    }

    /// Takes out what is known only after a time-out.
    pub fn split_off_timed_out(&mut self) -> Self {
        let mut timed_out = Self::default();
        for field in Self::AFTER_TIMEOUT {
            timed_out[field] = std::mem::take(&mut self[field]);
        }
        timed_out
    }

    pub fn failed_attempts(&self) -> u64 {
        let fields = [
            Field::Reset,
            Field::RefusedByMachine,
            Field::Uncompleted,
            Field::Unheard,
            Field::Silent,
            Field::NoSynAck,
            Field::Unclassified,
        ];
        fields.into_iter().map(|field| self[field]).sum()
    }

    /// What came late, or did not come to this machine.
    pub fn missed_events(&self) -> u64 {
        self[Field::EventsLate] + self[Field::EventsQuiet] + self[Field::ChainsSentMissing]
    }

    /// Of one upstream's messages.
    pub fn set_messages(&mut self, changes: &Changes) {
        let [delivered, recovered, lost, unknown, duplicate] = changes.outcomes;
        let [complete, sent_missing, unknown_chains] = changes.chains;
        for (field, count) in [
            (Field::Events, changes.seen),
            (Field::EventsLagged, changes.lagged),
            (Field::EventsLagMilliseconds, changes.lag_milliseconds),
            (Field::EventsLate, changes.late),
            (Field::EventsDelivered, delivered),
            (Field::EventsRecovered, recovered),
            (Field::EventsLost, lost),
            (Field::EventsUnknown, unknown),
            (Field::EventsDuplicate, duplicate),
            (Field::EventBatches, changes.batches),
            (Field::EventsQuiet, changes.quiet.round() as u64),
            (Field::ChainsComplete, complete),
            (Field::ChainsSentMissing, sent_missing),
            (Field::ChainsUnknown, unknown_chains),
        ] {
            self[field] = count;
        }
    }

    pub fn set_funnel(&mut self, counts: FunnelCounts) {
        let [accepted, tls, tls_failed, requests, delivered, refused, failed] = counts;
        self[Field::Accepted] = accepted;
        self[Field::Tls] = tls;
        self[Field::TlsFailed] = tls_failed;
        self[Field::Requests] = requests;
        self[Field::Delivered] = delivered;
        self[Field::Refused] = refused;
        self[Field::Failed] = failed;
    }

    pub fn funnel(&self) -> FunnelCounts {
        [
            self[Field::Accepted],
            self[Field::Tls],
            self[Field::TlsFailed],
            self[Field::Requests],
            self[Field::Delivered],
            self[Field::Refused],
            self[Field::Failed],
        ]
    }
}

impl From<&guard::Counts> for Row {
    fn from(counts: &guard::Counts) -> Self {
        let mut row = Self::default();
        row[Field::Packets] = counts.packets;
        row[Field::Bytes] = counts.bytes;
        row[Field::Syns] = counts.syns;
        row[Field::SynsRetransmitted] = counts.syns_retransmitted.unwrap_or(0);
        row[Field::Handshakes] = counts.handshakes.unwrap_or(0);
        match counts.failed_by {
            None => row[Field::Unclassified] = counts.handshakes_failed.unwrap_or(0),
            Some(by) => {
                row[Field::Reset] = by.reset;
                row[Field::RefusedByMachine] = by.refused;
                row[Field::Uncompleted] = by.uncompleted;
                row[Field::Unheard] = by.unheard;
                row[Field::Silent] = by.silent;
                row[Field::NoSynAck] = by.unanswered;
            }
        }
        if let Some(unproven) = counts.unproven {
            row[Field::UnprovenSilent] = unproven.silent;
            row[Field::UnprovenUnanswered] = unproven.unanswered;
        }
        if let Some(suspect) = counts.suspect {
            row[Field::SuspectSilent] = suspect.silent;
            row[Field::SuspectUnanswered] = suspect.unanswered;
        }
        if let Some(late) = counts.late_by {
            row[Field::LateUnanswered] = late.unanswered;
            row[Field::LateUnheard] = late.unheard;
        }
        row[Field::Untracked] = counts.untracked;
        row[Field::Fins] = counts.fins;
        row[Field::Rsts] = counts.rsts;
        row[Field::Dropped] = counts.dropped;
        row.set_funnel(counts.funnel);
        row
    }
}

/// As a list without the zeros at its end.
impl Serialize for Row {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let used = self.0.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.0[..used].serialize(to)
    }
}

/// Those that this version does not know are left out.
impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut row = Self::default();
        let counts = Vec::<u64>::deserialize(from)?;
        row.0.iter_mut().zip(counts).for_each(|(field, count)| *field = count);
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_written() {
        let mut row = Row::default();
        assert_eq!(serde_json::to_string(&row).unwrap(), "[]");
        row[Field::Syns] = 7;
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(text, "[0,0,7]");
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
        let longer = format!("[0,0,7{}]", ",9".repeat(100));
        assert_eq!(serde_json::from_str::<Row>(&longer).unwrap()[Field::Syns], 7);
    }

    #[test]
    fn counts_that_went_down_have_begun_anew() {
        let (mut before, mut now) = (Row::default(), Row::default());
        (before[Field::Syns], now[Field::Syns]) = (10, 12);
        (before[Field::Packets], now[Field::Packets]) = (10, 3);
        let grown = now.since(&before);
        assert_eq!((grown[Field::Syns], grown[Field::Packets]), (2, 3));
    }

    #[test]
    fn what_times_out_is_taken_apart() {
        let mut row = Row::default();
        (row[Field::Handshakes], row[Field::Silent]) = (5, 2);
        let timed_out = row.split_off_timed_out();
        assert_eq!((row[Field::Handshakes], row[Field::Silent]), (5, 0));
        assert_eq!((timed_out[Field::Handshakes], timed_out[Field::Silent]), (0, 2));
    }
}
