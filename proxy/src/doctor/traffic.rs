//! Where connections are being lost, from what was counted.

use super::Finding;
use super::verdict::{Counts, verdict};
use crate::config::{Config, Guard};
use crate::stats::{self, Document, State};

const SUBJECT: &str = "traffic";

/// A verdict on every prefix that something came from.
pub fn findings(config: &Config, document: &Document) -> Vec<Finding> {
    let is_attached = document.guard.state == State::Attached;
    let rows = document.prefixes.iter();
    let verdicts: Vec<Finding> =
        rows.filter_map(|row| verdict(&row.prefix.to_string(), &Counts::from(&row.counts))).collect();
    let wants_guard = config.guard.as_ref().is_some_and(Guard::is_attached);
    let unattached = (wants_guard && !is_attached).then(unattached);
    let uncounted = document.guard.handshakes_uncounted.as_deref().map(uncounted);
    let silent = (is_attached && verdicts.is_empty()).then(silence);
    unattached.into_iter().chain(uncounted).chain(silent).chain(verdicts).collect()
}

fn unattached() -> Finding {
    let next = "start hookgate, or run `hookgate guard attach`: it says what is missing";
    Finding::warn(SUBJECT, "the guard is not attached: packets are not counted", next)
}

fn uncounted(why: &str) -> Finding {
    Finding::warn(SUBJECT, format!("handshakes are not counted: {why}"), "see above for what is missing")
}

fn silence() -> Finding {
    Finding::warn(
        SUBJECT,
        "nothing from Meta since the guard was attached",
        "is the callback URL this machine's? otherwise Meta has not tried, or its packets are lost on the way",
    )
}

impl From<&stats::Counts> for Counts {
    fn from(counts: &stats::Counts) -> Self {
        let proxy = counts.funnel;
        Self {
            syns: Some(counts.syns),
            syns_retransmitted: counts.syns_retransmitted,
            handshakes: counts.handshakes,
            handshakes_failed: counts.handshakes_failed,
            accepted: proxy.map(|proxy| proxy.accepted),
            tls_failed: proxy.map(|proxy| proxy.tls_failed),
            requests: proxy.map(|proxy| proxy.requests),
            delivered: proxy.map(|proxy| proxy.delivered),
            refused: proxy.map(|proxy| proxy.refused),
            failed: proxy.map(|proxy| proxy.failed),
        }
    }
}
