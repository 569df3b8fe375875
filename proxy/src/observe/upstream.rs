use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::clock;
use super::counter::Counter;
use super::exposition::Exposition;
use crate::http::answer::{ErrorType, Failure};

/// Upper bounds of the histogram's buckets, in seconds; Meta expects an answer in 250 ms, and in 1
/// s at the most.
pub(super) const BOUNDS: [f64; 13] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// How many different statuses are told apart; what comes later is `other`.
const STATUSES: usize = 32;

/// The counts of one upstream; memory is taken at first use, so that many unused upstreams cost
/// little.
#[derive(Debug, Default)]
pub struct UpstreamMetrics {
    name: Arc<str>,
    pub(super) counts: OnceLock<Box<Counts>>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Statuses in the order of their first use, 0 where none has come yet.
    pub(super) statuses: [(AtomicU16, Counter); STATUSES],
    pub(super) other: Counter,
    pub(super) errors: [Counter; ErrorType::NAMES.len()],
    pub(super) buckets: [Counter; BOUNDS.len()],
    pub(super) requests: Counter,
    /// Of them, POSTs from Meta, `allow` and loopback.
    posts: Counter,
    microseconds: Counter,
    pub(super) latest_failure: Mutex<Option<LatestFailure>>,
}

/// A request that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LatestFailure {
    pub time: Timestamp,
    pub code: Option<u16>,
    /// The type of the error; `None`: what the upstream answered was not 200.
    pub error: Option<&'static str>,
}

impl UpstreamMetrics {
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), counts: OnceLock::new() }
    }

    /// The upstream's configured name; empty for requests that name none.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// One request that has ended. `code`: what the client was answered, if all of it was.
    pub fn request(&self, code: Option<u16>, duration: Duration) {
        let counts = self.counts();
        counts.status(code).add(1);
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            counts.buckets[bucket].add(1);
        }
        counts.requests.add(1);
        counts.microseconds.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// One of [`UpstreamMetrics::request`]'s may have carried messages of Meta's.
    pub fn count_post(&self) {
        self.counts().posts.add(1);
    }

    /// POSTs from Meta, `allow` and loopback that have ended.
    pub fn posts(&self) -> u64 {
        self.counts.get().map_or(0, |counts| counts.posts.value())
    }

    /// One request for which the upstream was asked in vain.
    pub fn error(&self, failure: Failure) {
        self.counts().errors[failure.error_type() as usize].add(1);
    }

    /// One of [`UpstreamMetrics::request`]'s was not delivered. `error`: the type, where it was not
    /// the upstream's answer.
    pub fn failed(&self, code: Option<u16>, error: Option<&'static str>) {
        let latest = LatestFailure { time: clock::now(), code, error };
        *self.counts().latest_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(latest);
    }

    pub fn is_used(&self) -> bool {
        self.counts.get().is_some()
    }

    fn counts(&self) -> &Counts {
        self.counts.get_or_init(Box::default)
    }

    /// Appends samples of `hookgate_requests_total`.
    pub fn expose_requests(&self, to: &mut Exposition) {
        let Some(counts) = self.counts.get() else { return };
        for (status, count) in &counts.statuses {
            let status = status.load(Ordering::Relaxed);
            if status != 0 {
                to.used_sample(&[("upstream", &self.name), ("code", &status.to_string())], count);
            }
        }
        to.used_sample(&[("upstream", &self.name), ("code", "other")], &counts.other);
    }

    /// Appends samples of `hookgate_upstream_errors_total`.
    pub fn expose_errors(&self, to: &mut Exposition) {
        let Some(counts) = self.counts.get() else { return };
        for (reason, count) in ErrorType::NAMES.iter().zip(&counts.errors) {
            to.used_sample(&[("upstream", &self.name), ("reason", reason)], count);
        }
    }

    /// Appends samples of `hookgate_request_duration_seconds`.
    pub fn expose_durations(&self, to: &mut Exposition) {
        let Some(counts) = self.counts.get() else { return };
        // Read first: a request that is counted meanwhile must not make a bucket larger than the
        // whole.
        let buckets: Vec<u64> = counts.buckets.iter().map(Counter::value).collect();
        let mut so_far = 0;
        for (bound, count) in BOUNDS.iter().zip(buckets) {
            so_far += count;
            to.suffixed_sample("_bucket", &[("upstream", &self.name), ("le", &bound.to_string())], so_far);
        }
        let all = counts.requests.value().max(so_far);
        to.suffixed_sample("_bucket", &[("upstream", &self.name), ("le", "+Inf")], all);
        let seconds = counts.microseconds.value() as f64 / 1e6;
        to.suffixed_sample("_sum", &[("upstream", &self.name)], seconds);
        to.suffixed_sample("_count", &[("upstream", &self.name)], all);
    }
}

impl Counts {
    fn status(&self, code: Option<u16>) -> &Counter {
        let Some(code) = code else { return &self.other };
        for (status, count) in &self.statuses {
            let claimed = status.compare_exchange(0, code, Ordering::Relaxed, Ordering::Relaxed);
            if claimed.is_ok() || claimed == Err(code) {
                return count;
            }
        }
        &self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_status_and_duration() {
        let metrics = UpstreamMetrics::new("a.example");
        assert!(!metrics.is_used());
        metrics.request(Some(200), Duration::from_millis(20));
        metrics.request(Some(200), Duration::from_secs(100));
        metrics.request(Some(502), Duration::from_millis(5));
        metrics.request(None, Duration::from_millis(1));
        metrics.error(Failure::DnsError);
        let mut to = Exposition::default();
        to.family("r", "counter", "");
        metrics.expose_requests(&mut to);
        to.family("e", "counter", "");
        metrics.expose_errors(&mut to);
        to.family("d", "histogram", "");
        metrics.expose_durations(&mut to);
        let text = to.into_text();
        for line in [
            "r{upstream=\"a.example\",code=\"200\"} 2\n",
            "r{upstream=\"a.example\",code=\"502\"} 1\n",
            "r{upstream=\"a.example\",code=\"other\"} 1\n",
            "e{upstream=\"a.example\",reason=\"dns_error\"} 1\n",
            "d_bucket{upstream=\"a.example\",le=\"0.005\"} 2\n",
            "d_bucket{upstream=\"a.example\",le=\"0.025\"} 3\n",
            "d_bucket{upstream=\"a.example\",le=\"60\"} 3\n",
            "d_bucket{upstream=\"a.example\",le=\"+Inf\"} 4\n",
            "d_sum{upstream=\"a.example\"} 100.026\n",
            "d_count{upstream=\"a.example\"} 4\n",
        ] {
            assert!(text.contains(line), "{line}in\n{text}");
        }
    }

    #[test]
    fn more_statuses_than_there_is_room_for_are_other() {
        let metrics = UpstreamMetrics::default();
        for code in 200..300 {
            metrics.request(Some(code), Duration::ZERO);
        }
        assert_eq!(metrics.counts().other.value(), 100 - STATUSES as u64);
    }
}
