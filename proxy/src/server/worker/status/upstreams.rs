use std::cmp::Reverse;
use std::time::Duration;

use jiff::Timestamp;

use crate::admin::status::{LatestFailure, Upstream, Upstreams};
use crate::observe::clock::{self, rfc3339};
use crate::upstream::{self, Directory};

/// Upstreams that are listed.
const MAX_UPSTREAMS: usize = 50;
/// So long a failure puts an upstream before others.
const RECENT_FAILURE: Duration = Duration::from_secs(3600);

/// Of all that were used, the worst. Of those that are not listed no more than a number is made.
pub(super) fn worst_first(directory: &Directory) -> Upstreams {
    let is_used =
        |upstream: &&upstream::Upstream| upstream.in_flight() > 0 || upstream.used_metrics().is_some();
    let now = clock::now();
    let mut used: Vec<_> =
        directory.iter().filter(is_used).map(|upstream| (rank(upstream, now), upstream)).collect();
    used.sort_unstable_by_key(|(rank, upstream)| (Reverse(*rank), &*upstream.name));
    Upstreams {
        used: used.len(),
        unlisted: used.len().saturating_sub(MAX_UPSTREAMS),
        list: used.iter().take(MAX_UPSTREAMS).map(|(_, upstream)| row(upstream)).collect(),
        ..none(directory)
    }
}

/// This one alone.
pub(super) fn only(directory: &Directory, upstream: &upstream::Upstream) -> Upstreams {
    Upstreams { list: vec![row(upstream)], ..worst_first(directory) }
}

fn none(directory: &Directory) -> Upstreams {
    let in_flight = directory.iter().map(upstream::Upstream::in_flight).sum();
    Upstreams { configured: directory.len(), used: 0, in_flight, list: Vec::new(), unlisted: 0 }
}

/// When it failed, if lately; then how much it is used.
fn rank(upstream: &upstream::Upstream, now: Timestamp) -> (Option<Timestamp>, usize, u64) {
    let failed = upstream.metrics().latest_failure().map(|latest| latest.time);
    let lately = failed.filter(|failed| now.duration_since(*failed).unsigned_abs() < RECENT_FAILURE);
    (lately, upstream.in_flight(), upstream.metrics().requests())
}

fn row(upstream: &upstream::Upstream) -> Upstream {
    let totals = upstream.metrics().totals().unwrap_or_default();
    let delivered = totals.codes.iter().find(|(code, _)| *code == Some(200)).map_or(0, |(_, count)| *count);
    let label = |code: Option<u16>| code.map_or_else(|| "other".to_owned(), |code| code.to_string());
    Upstream {
        upstream: upstream.name.to_string(),
        in_flight: upstream.in_flight(),
        most_in_flight: upstream.settings().in_flight,
        requests: totals.requests,
        delivered,
        codes: totals.codes.into_iter().map(|(code, count)| (label(code), count)).collect(),
        errors: totals.errors.into_iter().collect(),
        latest_failure: totals.latest_failure.map(|latest| LatestFailure {
            time: rfc3339(latest.time),
            code: latest.code,
            error: latest.error,
        }),
        p50_seconds: totals.p50,
        p99_seconds: totals.p99,
    }
}
