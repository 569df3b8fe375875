//! A ring of records, of which the oldest one that may go gives way to the next.

use super::layout::{HEAD_NEXT_CHAIN, HEAD_NEXT_EVENT, Layout, Mapped};

#[derive(Clone, Copy)]
pub(super) struct Ring {
    /// The word that says how many were ever appended, those skipped included.
    next: usize,
    slots: usize,
}

/// Where the next record goes.
pub(super) struct Place<R> {
    pub(super) slot: usize,
    /// What was there.
    pub(super) gone: Option<R>,
    /// How many were appended then, those skipped included.
    pub(super) next: u64,
}

impl Ring {
    pub(super) const fn of_events(layout: Layout) -> Self {
        Self { next: HEAD_NEXT_EVENT, slots: layout.events }
    }

    pub(super) const fn of_chains(layout: Layout) -> Self {
        Self { next: HEAD_NEXT_CHAIN, slots: layout.chains }
    }

    /// How many slots may hold something.
    pub(super) fn used(self, words: &Mapped) -> usize {
        usize::try_from(words.get(self.next)).map_or(self.slots, |next| next.min(self.slots))
    }

    /// Those slots, the oldest first.
    pub(super) fn oldest_first(self, words: &Mapped) -> impl Iterator<Item = usize> {
        let next = words.get(self.next);
        (next.saturating_sub(self.slots as u64)..next).map(move |position| self.slot(position))
    }

    /// The first slot from the oldest on whose record does not stay. Where `staying` records leave
    /// less than a part of the ring, which would have to be turned over for each new one, none
    /// stays.
    pub(super) fn place<R>(
        self,
        words: &Mapped,
        staying: usize,
        at: impl Fn(usize) -> Option<R>,
        stays: impl Fn(&R) -> bool,
    ) -> Place<R> {
        let may_stay = staying < self.slots - self.slots / 64 - 1;
        let mut position = words.get(self.next);
        loop {
            let slot = self.slot(position);
            position += 1;
            match at(slot) {
                Some(record) if may_stay && stays(&record) => {}
                gone => return Place { slot, gone, next: position },
            }
        }
    }

    pub(super) fn set_next(self, words: &Mapped, next: u64) {
        words.set(self.next, next);
    }

    fn slot(self, position: u64) -> usize {
        (position % self.slots as u64) as usize
    }
}
