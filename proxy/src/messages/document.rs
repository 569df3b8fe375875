use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::buckets::{BUCKETS, percentile};

/// What `hookgate messages --json` prints, version 1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Document {
    pub version: u32,
    pub taken: Timestamp,
    /// How old the oldest event is that is kept.
    pub horizon_seconds: i64,
    /// By reason, since the process started.
    pub unscanned: BTreeMap<String, u64>,
    pub upstreams: Vec<UpstreamRow>,
    /// The same of all these upstreams together: percentiles can't be added up.
    #[serde(default)]
    pub products: Vec<ProductRow>,
}

/// One upstream and product.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamRow {
    pub upstream: String,
    pub product: String,
    pub outcomes: BTreeMap<String, u64>,
    pub outstanding: u64,
    /// POSTs with more than one event.
    pub batches: u64,
    /// WhatsApp messages that do not say their sender's telephone number.
    pub without_number: u64,
    pub recovered_seconds: Percentiles,
    pub lag_seconds: Percentiles,
    pub chains: BTreeMap<String, u64>,
    pub numbers: Vec<NumberRow>,
}

/// One product, of one upstream or of all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProductRow {
    pub product: String,
    pub outcomes: BTreeMap<String, u64>,
    pub outstanding: u64,
    /// POSTs with errors that name Meta's forward proxy.
    pub fwdproxy: u64,
    pub recovered_seconds: Percentiles,
    pub lag_seconds: Percentiles,
    pub chains: BTreeMap<String, u64>,
}

/// Of the last 24 hours: upper ends of buckets in seconds; `null` where there were none.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: Option<i64>,
    pub p90: Option<i64>,
    pub p99: Option<i64>,
}

impl From<[u64; BUCKETS]> for Percentiles {
    fn from(counts: [u64; BUCKETS]) -> Self {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| percentile(&counts, percent));
        Self { p50, p90, p99 }
    }
}

/// A telephone number's, page's or account's id.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NumberRow {
    pub id: String,
    /// When something of it came last.
    pub last: Option<Timestamp>,
    pub quiet_since: Option<Timestamp>,
}

impl NumberRow {
    /// Times are seconds since 1970.
    pub fn new(id: &str, last: i64, quiet_since: Option<i64>) -> Self {
        let time = |seconds| Timestamp::from_second(seconds).ok();
        Self { id: id.to_owned(), last: time(last), quiet_since: quiet_since.and_then(time) }
    }
}
