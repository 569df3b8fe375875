//! Memory that requests need only while they are under way.

use std::cell::RefCell;

use super::observed::Observed;

/// The most memory of one request that is lent to another, and of how many a worker keeps it: 2 MiB
/// at most, and as much for bodies.
const MAX_SCRATCH_BYTES: usize = 8 * 1024;
const MAX_FREE_SCRATCHES: usize = 256;

/// Memory that a request needs, lent from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// The request's head and the response's, as they are sent on.
    pub(super) heads: [Vec<u8>; 2],
    /// What the log says of it.
    pub(super) words: String,
    /// Where its body is looked at.
    pub(super) observed: Option<Box<Observed>>,
}

/// The scratch memory of one worker's connections that have no request under way.
#[derive(Default)]
pub(super) struct ScratchPool(RefCell<Vec<Scratch>>);

impl ScratchPool {
    pub(super) fn take(&self) -> Scratch {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes memory back; what has grown much is freed.
    pub(super) fn give(&self, mut scratch: Scratch) {
        scratch.observed.take_if(|observed| observed.is_large(MAX_SCRATCH_BYTES));
        let mut free = self.0.borrow_mut();
        let bytes =
            scratch.heads.iter().map(Vec::capacity).fold(scratch.words.capacity(), usize::saturating_add);
        if bytes <= MAX_SCRATCH_BYTES && free.len() < MAX_FREE_SCRATCHES {
            free.push(scratch);
        }
    }
}
