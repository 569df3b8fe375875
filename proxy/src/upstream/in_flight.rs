use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Upstream;
use crate::net::{SourceCounts, SourcePlace};

/// How many requests are under way to one upstream, in all workers, and how many may be.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Shared with the upstream of that name in other configurations: what is under way there
    /// counts here.
    counts: Arc<Counts>,
    most: usize,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    total: AtomicUsize,
    /// Those of `total` that are strangers'.
    of_strangers: AtomicUsize,
    /// Those of each stranger.
    sources: Arc<SourceCounts>,
}

impl InFlight {
    pub(super) fn new(counts: Arc<Counts>, most: usize) -> Self {
        Self { counts, most }
    }

    pub(super) fn shared(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn count(&self) -> usize {
        self.counts.total.load(Ordering::Relaxed)
    }
}

/// A request's place among those under way to its upstream; given back when dropped.
pub struct InFlightSlot {
    upstream: Arc<Upstream>,
    _stranger: Option<StrangerSlot>,
}

impl InFlightSlot {
    /// `stranger`: the source address of a request that may not use what is reserved. `reserved`:
    /// that share of all slots, from 0 to 1.
    ///
    /// `None` when as many are under way as may be.
    pub fn take(upstream: &Arc<Upstream>, stranger: Option<IpAddr>, reserved: f64) -> Option<Self> {
        let InFlight { counts, most } = &upstream.in_flight;
        // Before the total: a stranger who is refused must not have had, for a moment, what a
        // request of Meta's needed.
        let stranger = match stranger {
            Some(source) => Some(StrangerSlot::take(counts, source, most - reserved_slots(*most, reserved))?),
            None => None,
        };
        // Nothing else is ordered by this count, so it needs no ordering itself.
        let is_free = counts.total.fetch_add(1, Ordering::Relaxed) < *most;
        let slot = Self { upstream: Arc::clone(upstream), _stranger: stranger };
        is_free.then_some(slot)
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for InFlightSlot {
    fn drop(&mut self) {
        self.upstream.in_flight.counts.total.fetch_sub(1, Ordering::Relaxed);
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
struct StrangerSlot {
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
    use crate::access::Disk;
    use crate::config::Config;
    use crate::upstream::Directory;

    fn upstream(in_flight: usize) -> Arc<Upstream> {
        let text = format!(
            "[listen]\nplain = [\"127.0.0.1:1\"]\n[upstreams]\n\"a.example\" = {{ tls = false, in_flight = {in_flight} }}\n"
        );
        let config = Config::parse("hookgate.toml".as_ref(), &text).unwrap();
        let directory = Directory::new(&config.upstreams, &Disk).unwrap();
        Arc::clone(directory.find(b"a.example").unwrap())
    }

    /// As many slots as that source gets.
    fn all(upstream: &Arc<Upstream>, stranger: Option<&str>, reserved: f64) -> Vec<InFlightSlot> {
        let source = stranger.map(|source| source.parse().unwrap());
        std::iter::from_fn(|| InFlightSlot::take(upstream, source, reserved)).collect()
    }

    #[test]
    fn strangers_leave_the_reserved_share() {
        let upstream = upstream(17);
        let strangers = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"];
        let held: Vec<_> = strangers.iter().map(|source| all(&upstream, Some(source), 0.5)).collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [2, 2, 2, 2, 1, 0], "9 are not reserved, and a quarter of them is for one source");
        let others = all(&upstream, None, 0.5);
        assert_eq!((others.len(), upstream.in_flight()), (8, 17));
        drop(held);
        assert_eq!(all(&upstream, None, 0.5).len(), 9, "what strangers leave is for all");
        drop(others);
        assert_eq!(upstream.in_flight(), 0);
        assert!(upstream.in_flight.counts.sources.is_empty());
        assert_eq!(all(&upstream, Some(strangers[0]), 0.5).len(), 2);
    }

    #[test]
    fn one_slot_is_for_anybody_unless_all_is_reserved() {
        assert_eq!(all(&upstream(1), Some("192.0.2.1"), 0.5).len(), 1);
        assert_eq!(all(&upstream(1), Some("192.0.2.1"), 1.0).len(), 0);
        assert_eq!(all(&upstream(3), Some("192.0.2.1"), 0.0).len(), 1);
        assert_eq!(all(&upstream(1), None, 1.0).len(), 1);
    }

    #[test]
    fn a_share_is_rounded_down() {
        for (most, share, reserved) in
            [(1, 0.5, 0), (3, 0.5, 1), (100, 0.29, 29), (10, 0.7, 7), (4, 1.0, 4), (4, 0.0, 0)]
        {
            assert_eq!(reserved_slots(most, share), reserved, "{most} {share}");
        }
    }
}
