//! How late something was, in buckets.

/// Upper bounds in seconds, up to a week.
pub const BOUNDS: [i64; 12] = [1, 2, 5, 10, 30, 60, 300, 1800, 7200, 43200, 172_800, 604_800];
/// The last one is for all above.
pub const BUCKETS: usize = BOUNDS.len() + 1;

/// The bucket of a number of milliseconds.
pub fn bucket(milliseconds: i64) -> usize {
    BOUNDS.iter().position(|bound| milliseconds <= bound * 1000).unwrap_or(BOUNDS.len())
}

/// Numbers of events by how late they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    pub counts: [u64; BUCKETS],
    pub milliseconds: u64,
}

impl Histogram {
    pub fn add(&mut self, milliseconds: i64) {
        let milliseconds = milliseconds.max(0);
        self.counts[bucket(milliseconds)] += 1;
        self.milliseconds = self.milliseconds.saturating_add(milliseconds.unsigned_abs());
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The upper end, in seconds, of the bucket that so much of all is in or below; of the last bucket,
/// the greatest bound. `None`: there are none.
pub fn percentile(counts: &[u64; BUCKETS], percent: u64) -> Option<i64> {
    let all: u64 = counts.iter().sum();
    let rank = (all * percent).div_ceil(100).max(1);
    let mut so_far = 0;
    let bucket = counts.iter().position(|count| {
        so_far += count;
        so_far >= rank
    })?;
    BOUNDS.get(bucket).or(BOUNDS.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_upper_ends_of_buckets() {
        let mut histogram = Histogram::default();
        assert_eq!(percentile(&histogram.counts, 50), None);
        for milliseconds in [-5, 0, 1000, 1001, 700_000_000] {
            histogram.add(milliseconds);
        }
        assert_eq!(
            [50, 80, 99].map(|percent| percentile(&histogram.counts, percent)),
            [Some(1), Some(2), Some(604_800)]
        );
        assert_eq!((histogram.count(), histogram.milliseconds), (5, 700_002_001));
    }
}
