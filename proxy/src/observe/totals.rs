use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::counter::{Counter, used};
use super::upstream::{BOUNDS, Counts, LatestFailure, UpstreamMetrics};
use crate::http::answer::ErrorType;

/// What has become of one upstream's requests since the process started.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub requests: u64,
    /// By what the client was answered; `None`: not in full, or with one status too many.
    pub codes: Vec<(Option<u16>, u64)>,
    /// Requests for which the upstream was asked in vain, by the type of the error.
    pub errors: Vec<(&'static str, u64)>,
    pub latest_failure: Option<LatestFailure>,
    /// Seconds within which half of the requests, and 99 of 100, ended; `None`: there were none.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

impl UpstreamMetrics {
    /// Requests that have ended.
    pub fn requests(&self) -> u64 {
        self.counts.get().map_or(0, |counts| counts.requests.value())
    }

    pub fn latest_failure(&self) -> Option<LatestFailure> {
        self.counts.get().and_then(|counts| counts.latest_failure())
    }

    /// `None`: no request has ended yet.
    pub fn totals(&self) -> Option<Totals> {
        self.counts.get().map(|counts| counts.totals())
    }
}

impl Counts {
    fn latest_failure(&self) -> Option<LatestFailure> {
        *self.latest_failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn totals(&self) -> Totals {
        let statuses = self.statuses.iter().map(|(status, count)| (status.load(Ordering::Relaxed), count));
        let codes = statuses.map(|(status, count)| ((status != 0).then_some(status), count));
        let buckets = self.buckets.each_ref().map(Counter::value);
        let requests = self.requests.value().max(buckets.iter().sum());
        Totals {
            requests,
            codes: used(codes.chain([(None, &self.other)])).collect(),
            errors: used(ErrorType::NAMES.iter().copied().zip(&self.errors)).collect(),
            latest_failure: self.latest_failure(),
            p50: quantile(&buckets, requests, 0.5),
            p99: quantile(&buckets, requests, 0.99),
        }
    }
}

/// Seconds, as if those within a bucket were spread evenly over it; the last bound where it lies
/// beyond that.
fn quantile(buckets: &[u64; BOUNDS.len()], all: u64, share: f64) -> Option<f64> {
    let wanted = share * all as f64;
    let (mut below, mut from) = (0, 0.0);
    for (count, to) in buckets.iter().zip(BOUNDS) {
        if *count > 0 && (below + count) as f64 >= wanted {
            return Some(from + (to - from) * (wanted - below as f64) / *count as f64);
        }
        (below, from) = (below + count, to);
    }
    (all > 0).then_some(from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::answer::Failure;

    #[test]
    fn totals_are_what_was_counted() {
        let metrics = UpstreamMetrics::new("a.example");
        assert_eq!(metrics.totals(), None);
        for _ in 0..97 {
            metrics.request(Some(200), Duration::from_millis(7));
        }
        metrics.request(Some(502), Duration::from_millis(700));
        metrics.request(Some(502), Duration::from_millis(800));
        metrics.request(None, Duration::from_secs(100));
        metrics.error(Failure::DnsError);
        metrics.failed(Some(502), Some("dns_error"));
        let totals = metrics.totals().unwrap();
        assert_eq!(totals.requests, 100);
        assert_eq!(totals.codes, [(Some(200), 97), (Some(502), 2), (None, 1)]);
        assert_eq!(totals.errors, [("dns_error", 1)]);
        let latest = totals.latest_failure.unwrap();
        assert_eq!((latest.code, latest.error), (Some(502), Some("dns_error")));
        assert!(totals.p50.is_some_and(|p50| (0.005..0.01).contains(&p50)), "{totals:?}");
        assert_eq!(totals.p99, Some(1.0), "the second of the two that took up to a second");
    }

    #[test]
    fn what_lies_beyond_the_last_bound_is_the_last_bound() {
        let mut buckets = [0; BOUNDS.len()];
        assert_eq!(quantile(&buckets, 0, 0.5), None);
        assert_eq!(quantile(&buckets, 3, 0.5), Some(60.0));
        buckets[0] = 1;
        assert_eq!(quantile(&buckets, 1, 0.5), Some(0.0025));
        assert_eq!(quantile(&buckets, 3, 0.99), Some(60.0));
    }
}
