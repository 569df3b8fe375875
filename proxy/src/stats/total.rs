use std::iter::Sum;

use super::{Counts, Funnel};
use crate::guard::{FailedBy, Suspect, Unproven};

/// Of several rows. What one of them counts is counted; `dropped_by` is of one row alone.
impl<'c> Sum<&'c Counts> for Counts {
    fn sum<I: Iterator<Item = &'c Counts>>(rows: I) -> Self {
        let nothing = Self {
            failed_by: Some(FailedBy::default()),
            unproven: Some(Unproven::default()),
            suspect: Some(Suspect::default()),
            ..Self::default()
        };
        rows.fold(nothing, |sum, row| Self {
            packets: sum.packets + row.packets,
            bytes: sum.bytes + row.bytes,
            syns: sum.syns + row.syns,
            syns_retransmitted: counted(sum.syns_retransmitted, row.syns_retransmitted),
            handshakes: counted(sum.handshakes, row.handshakes),
            handshakes_failed: counted(sum.handshakes_failed, row.handshakes_failed),
            // Absent where one of them is: it would not be the sum's parts.
            failed_by: sum.failed_by.zip(row.failed_by).map(|(sum, row)| sum.plus(row)),
            unproven: sum.unproven.zip(row.unproven).map(|(sum, row)| Unproven {
                silent: sum.silent + row.silent,
                unanswered: sum.unanswered + row.unanswered,
            }),
            suspect: sum.suspect.zip(row.suspect).map(|(sum, row)| Suspect {
                silent: sum.silent + row.silent,
                unanswered: sum.unanswered + row.unanswered,
            }),
            // Percentiles can't be added up.
            rtt_seconds: None,
            established_seconds: None,
            segments_retransmitted: counted(sum.segments_retransmitted, row.segments_retransmitted),
            rtos: counted(sum.rtos, row.rtos),
            kernel_drops: None,
            untracked: counted(sum.untracked, row.untracked),
            fins: counted(sum.fins, row.fins),
            rsts: counted(sum.rsts, row.rsts),
            dropped: counted(sum.dropped, row.dropped),
            dropped_by: None,
            // RFC 3339 in UTC, of one length: the later one is the greater one.
            last_seen: sum.last_seen.max(row.last_seen.clone()),
            funnel: match (sum.funnel, row.funnel) {
                (Some(sum), Some(row)) => Some(sum.plus(row)),
                (one, other) => one.or(other),
            },
        })
    }
}

fn counted(sum: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (sum, more) {
        (None, None) => None,
        (sum, more) => Some(sum.unwrap_or(0) + more.unwrap_or(0)),
    }
}

impl Funnel {
    fn plus(self, more: Self) -> Self {
        Self {
            accepted: self.accepted + more.accepted,
            tls: self.tls + more.tls,
            tls_failed: self.tls_failed + more.tls_failed,
            requests: self.requests + more.requests,
            delivered: self.delivered + more.delivered,
            refused: self.refused + more.refused,
            failed: self.failed + more.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_added_up_and_uncounted_fields_stay_absent() {
        let row = |syns, handshakes, last_seen: &str, requests| Counts {
            syns,
            handshakes,
            last_seen: Some(last_seen.into()),
            funnel: Some(Funnel { requests, ..Funnel::default() }),
            ..Counts::default()
        };
        let rows = [row(3, Some(2), "2026-11-24T16:00:00Z", 5), row(4, None, "2026-11-24T09:00:00Z", 6)];
        let sum: Counts = rows.iter().sum();
        assert_eq!((sum.syns, sum.handshakes, sum.handshakes_failed), (7, Some(2), None));
        assert_eq!(sum.last_seen.as_deref(), Some("2026-11-24T16:00:00Z"));
        assert_eq!(sum.funnel.map(|funnel| funnel.requests), Some(11));
    }
}
