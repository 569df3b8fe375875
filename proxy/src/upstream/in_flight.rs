use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::net::{SourceCounts, SourcePlace};

/// How many requests are under way to one upstream, in all workers.
#[derive(Debug, Default)]
pub(super) struct Counts {
    total: AtomicUsize,
    /// Those of `total` that are strangers'.
    of_strangers: AtomicUsize,
    /// Those of each stranger.
    pub(super) sources: Arc<SourceCounts>,
}

impl Counts {
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts one more request, which must be given back: whether there is a slot for it among the
    /// `most` that there may be, and the stranger's part of that. `None`: a stranger has no part,
    /// and nothing was counted.
    pub(super) fn take(
        self: &Arc<Self>,
        most: usize,
        stranger: Option<IpAddr>,
        reserved: f64,
    ) -> Option<(bool, Option<StrangerSlot>)> {
        // Before the total: a stranger who is refused must not have had, for a moment, what a
        // request of Meta's needed.
        let stranger = match stranger {
            Some(source) => Some(StrangerSlot::take(self, source, most - reserved_slots(most, reserved))?),
            None => None,
        };
        // Nothing else is ordered by this count, so it needs no ordering itself.
        Some((self.total.fetch_add(1, Ordering::Relaxed) < most, stranger))
    }

    pub(super) fn give_back(&self) {
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The slots that strangers cannot use: a share of `most`, rounded down.
fn reserved_slots(most: usize, share: f64) -> usize {
    // The product of a decimal share may be a hair below the whole number that is meant.
    const ROUNDING: f64 = 1e-9;
    ((most as f64 * share + ROUNDING) as usize).min(most)
}

/// A place among the slots of strangers, and among those of one of them.
#[derive(Debug)]
pub(super) struct StrangerSlot {
    counts: Arc<Counts>,
    _of_source: SourcePlace,
}

impl StrangerSlot {
    /// One source has at most a quarter of the `most` that strangers may use, and at least one.
    fn take(counts: &Arc<Counts>, source: IpAddr, most: usize) -> Option<Self> {
        let of_source = SourcePlace::take(&counts.sources, source, (most / 4).max(1))?;
        let is_free = counts.of_strangers.fetch_add(1, Ordering::Relaxed) < most;
        let slot = Self { counts: Arc::clone(counts), _of_source: of_source };
        is_free.then_some(slot)
    }
}

impl Drop for StrangerSlot {
    fn drop(&mut self) {
        self.counts.of_strangers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down() {
        for (most, share, reserved) in
            [(1, 0.5, 0), (3, 0.5, 1), (100, 0.29, 29), (10, 0.7, 7), (4, 1.0, 4), (4, 0.0, 0)]
        {
            assert_eq!(reserved_slots(most, share), reserved, "{most} {share}");
        }
    }
}
