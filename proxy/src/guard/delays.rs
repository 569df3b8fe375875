//! How long handshakes took, as counts in buckets.

use std::iter::Sum;

use hookgate_ebpf::transport::{self, BUCKETS};
use serde::{Deserialize, Serialize};

/// How many took how long: the buckets of [`transport::Delays`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delays([u64; BUCKETS]);

/// Upper ends of buckets, in seconds; `None`: nothing was measured yet. As in `hookgate stats
/// --json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
}

impl Delays {
    pub fn percentiles(&self) -> Percentiles {
        Percentiles { p50: self.percentile(50), p90: self.percentile(90), p99: self.percentile(99) }
    }

    /// What was measured since `earlier`. A count that went down has begun anew: all of it is new.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = *self;
        for (count, earlier) in since.0.iter_mut().zip(earlier.0) {
            *count = count.checked_sub(earlier).unwrap_or(*count);
        }
        since
    }

    /// By nearest rank.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let measured: u64 = self.0.iter().sum();
        let rank = (measured.checked_mul(percent)?).div_ceil(100);
        let mut so_far = 0;
        let bucket = self.0.iter().position(|count| {
            so_far += count;
            *count > 0 && so_far >= rank
        })?;
        Some(transport::end_microseconds(bucket) as f64 / 1e6)
    }
}

impl From<transport::Delays> for Delays {
    fn from(delays: transport::Delays) -> Self {
        Self(delays)
    }
}

impl Sum for Delays {
    fn sum<I: Iterator<Item = Self>>(delays: I) -> Self {
        delays.fold(Self::default(), |mut sum, more| {
            sum.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum += more);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(counts: &[(usize, u64)]) -> Delays {
        let mut delays = [0; BUCKETS];
        counts.iter().for_each(|(bucket, count)| delays[*bucket] = *count);
        Delays(delays)
    }

    #[test]
    fn percentiles_are_upper_ends_of_buckets() {
        let found = |delays: Delays| {
            let Percentiles { p50, p90, p99 } = delays.percentiles();
            Some([p50?, p90?, p99?])
        };
        assert_eq!(Delays::default().percentiles(), Percentiles::default());
        assert_eq!(found(delays(&[(0, 1)])), Some([0.000_064; 3]));
        assert_eq!(found(delays(&[(11, 90), (12, 9), (14, 1)])), Some([0.131_072, 0.131_072, 0.262_144]));
        assert_eq!(found(delays(&[(11, 49), (20, 51)])), Some([67.108_864; 3]));
        assert_eq!(found(delays(&[(3, 50), (4, 50)])), Some([0.000_512, 0.001_024, 0.001_024]));
    }

    #[test]
    fn differences_and_sums_are_bucket_by_bucket() {
        let (earlier, now) = (delays(&[(1, 2), (5, 7)]), delays(&[(1, 5), (5, 3), (6, 1)]));
        assert_eq!(now.since(&earlier), delays(&[(1, 3), (5, 3), (6, 1)]));
        assert_eq!([earlier, now].into_iter().sum::<Delays>(), delays(&[(1, 7), (5, 10), (6, 1)]));
    }
}
