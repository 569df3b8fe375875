use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        // Counts order nothing else.
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How much a count has grown since `before`. One that went down has begun anew.
pub fn grown(now: u64, before: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

/// Those of which there was one at least.
pub fn used<'c, L>(counts: impl Iterator<Item = (L, &'c Counter)>) -> impl Iterator<Item = (L, u64)> {
    counts.map(|(label, count)| (label, count.value())).filter(|(_, count)| *count > 0)
}
