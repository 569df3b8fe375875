use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Upstream;

/// How many requests are under way to one upstream, in all workers, and how many may be.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Shared with the upstream of that name in other configurations: what is under way there counts here.
    count: Arc<AtomicUsize>,
    most: usize,
}

impl InFlight {
    pub(super) fn new(count: Arc<AtomicUsize>, most: usize) -> Self {
        Self { count, most }
    }

    pub(super) fn shared(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// A request's place among those under way to its upstream; given back when dropped.
pub struct InFlightSlot(Arc<Upstream>);

impl InFlightSlot {
    /// `None` when as many are under way as may be.
    pub fn take(upstream: &Arc<Upstream>) -> Option<Self> {
        let InFlight { count, most } = &upstream.in_flight;
        // Nothing else is ordered by this count, so it needs no ordering itself.
        let slot = Self(Arc::clone(upstream));
        (count.fetch_add(1, Ordering::Relaxed) < *most).then_some(slot)
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.0
    }
}

impl Drop for InFlightSlot {
    fn drop(&mut self) {
        self.0.in_flight.count.fetch_sub(1, Ordering::Relaxed);
    }
}
