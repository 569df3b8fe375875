//! Where messages are being lost, from what was counted.

use super::Finding;
use crate::config::{Config, Guard};
use crate::insight::{Report, Unit};
use crate::observe::MANY_HIDDEN;
use crate::stats::{self, Document, HiddenSources, State};

const SUBJECT: &str = "traffic";

/// The verdict on the last hour, and what keeps it from being complete.
pub fn findings(config: &Config, document: &Document, lost: Option<&Report>) -> Vec<Finding> {
    let is_attached = document.guard.state == State::Attached;
    let wants_guard = config.guard.as_ref().is_some_and(Guard::is_attached);
    let unattached = (wants_guard && !is_attached).then(unattached);
    let uncounted = document.guard.handshakes_uncounted.as_deref().map(uncounted);
    let unclassified = document.guard.failures_unclassified.as_deref().map(unclassified);
    let hidden = document.hidden_sources.as_ref().and_then(|hidden| hidden_sources(hidden, document));
    let silent = is_attached && !document.prefixes.iter().any(|row| row.counts.is_used());
    unattached
        .into_iter()
        .chain(uncounted)
        .chain(unclassified)
        .chain(hidden)
        .chain(silent.then(silence))
        .chain(lost.map(verdict))
        .collect()
}

fn verdict(lost: &Report) -> Finding {
    match &lost.verdict {
        Some(verdict) if verdict.lost > 0 => Finding::fail(SUBJECT, &verdict.text, &verdict.next),
        // Late, and made good.
        Some(verdict) => Finding::warn(SUBJECT, &verdict.text, &verdict.next),
        None => {
            let of = |unit| lost.stages.iter().find(|stage| stage.unit == unit).map_or(0, |stage| stage.of);
            let (attempts, posts) = (of(Unit::Attempts), of(Unit::Posts));
            let text = format!(
                "of {attempts} attempts to connect and {posts} POSTs in the last hour, nothing notable was lost"
            );
            Finding::ok(SUBJECT, text)
        }
    }
}

/// Where most of what looks like Meta's comes from an address that Meta can't have.
fn hidden_sources(
    HiddenSources { requests, source }: &HiddenSources,
    document: &Document,
) -> Option<Finding> {
    let requests_of = |row: &stats::Prefix| row.counts.funnel.map_or(0, |funnel| funnel.requests);
    let from_meta: u64 = document.prefixes.iter().map(requests_of).sum();
    (*requests >= MANY_HIDDEN && *requests > from_meta).then(|| {
        let text = format!(
            "{requests} requests that look like Meta's came from private addresses, the first from {source}: a NAT before \
             hookgate hides their source"
        );
        let next = format!(
            "keep the source (Docker: network_mode \"host\"), have what lies before hookgate send PROXY headers ([listen] \
             proxy_protocol_from), or put {source} into [guard] allow; until then they have a stranger's limits"
        );
        Finding::warn(SUBJECT, text, next)
    })
}

fn unattached() -> Finding {
    let next = "start hookgate, or run `hookgate guard attach`: it says what is missing";
    Finding::warn(SUBJECT, "the guard is not attached: packets are not counted", next)
}

fn uncounted(why: &str) -> Finding {
    Finding::warn(SUBJECT, format!("handshakes are not counted: {why}"), "see above for what is missing")
}

fn unclassified(why: &str) -> Finding {
    let text = format!("failed handshakes are not classified: {why}");
    Finding::warn(SUBJECT, text, "until then it is not told where they fail")
}

fn silence() -> Finding {
    Finding::warn(
        SUBJECT,
        "nothing from Meta since the guard was attached",
        "is the callback URL this machine's? otherwise Meta has not tried, or its packets are lost on the way",
    )
}
