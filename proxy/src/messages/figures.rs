//! What a process has counted, and what it has counted since it was last asked.

use super::Product;
use super::buckets::Histogram;
use super::{ChainEnd, Kind, Outcome, Unscanned};

/// Of one upstream, since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamFigures {
    /// By kind and outcome.
    pub outcomes: [[u64; Outcome::ALL.len()]; Kind::ALL.len()],
    pub chains: [u64; ChainEnd::ALL.len()],
    pub lag: Histogram,
    pub outstanding: u64,
}

impl UpstreamFigures {
    /// Adds those of another product.
    pub fn add(&mut self, more: &Self) {
        for (sums, more) in self.outcomes.iter_mut().zip(&more.outcomes) {
            add_all(sums, more);
        }
        add_all(&mut self.chains, &more.chains);
        add_all(&mut self.lag.counts, &more.lag.counts);
        self.lag.milliseconds += more.lag.milliseconds;
        self.outstanding += more.outstanding;
    }
}

fn add_all(sums: &mut [u64], more: &[u64]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Of all upstreams, since the process started.
#[derive(Clone, Debug, Default)]
pub struct SharedFigures {
    pub unscanned: [u64; Unscanned::ALL.len()],
    /// From event to send.
    pub queue: [Histogram; Product::ALL.len()],
    /// From send to arrival.
    pub wire: [Histogram; Product::ALL.len()],
    /// Times in the future.
    pub negative: u64,
}

impl SharedFigures {
    /// Whether too many times are in the future for a lag to say anything.
    pub fn doubts_clock(&self, lags: u64) -> bool {
        let wires: u64 = self.wire.iter().map(Histogram::count).sum();
        let all = self.negative + lags + wires;
        self.negative > 0 && self.negative.saturating_mul(100) >= all
    }
}

/// Of one upstream, since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Changes {
    /// Events at their first sight.
    pub seen: u64,
    /// Of them, those whose lag is known, and its sum in milliseconds.
    pub lagged: u64,
    pub lag_milliseconds: u64,
    /// Of them, those above 5 minutes although nothing had failed here since they happened.
    pub late: u64,
    pub outcomes: [u64; Outcome::ALL.len()],
    pub chains: [u64; ChainEnd::ALL.len()],
    pub batches: u64,
    /// Events that are usual and did not come, of numbers that are quiet while others go on.
    pub quiet: f64,
}

impl Changes {
    /// Adds those of another product.
    pub fn add(&mut self, more: &Self) {
        let Self { seen, lagged, lag_milliseconds, late, outcomes, chains, batches, quiet } = more;
        self.seen += seen;
        self.lagged += lagged;
        self.lag_milliseconds += lag_milliseconds;
        self.late += late;
        add_all(&mut self.outcomes, outcomes);
        add_all(&mut self.chains, chains);
        self.batches += batches;
        self.quiet += quiet;
    }
}
