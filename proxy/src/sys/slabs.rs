//! Mappings that hold many pieces of memory: with one mapping a piece, fragmentation runs into
//! vm.max_map_count.

use std::collections::{BTreeMap, BTreeSet};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, PoisonError};

use rustix::io::{self, Errno};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// The pieces of a slab: a bit of its mask for each.
const PIECES: usize = u64::BITS as usize;

/// The largest page that a kernel for this architecture may have: pieces share none.
const MAX_PAGE_BYTES: usize = if cfg!(target_arch = "x86_64") { 4 * 1024 } else { 64 * 1024 };

/// All slabs, by the length of their pieces in bytes.
static SLABS: Mutex<BTreeMap<usize, Slabs>> = Mutex::new(BTreeMap::new());

/// Slabs with pieces of one length.
#[derive(Default)]
struct Slabs {
    /// Which pieces are lent, by the slab's address. A slab without any has gone.
    lent: BTreeMap<usize, u64>,
    /// Slabs with a free piece. The lowest is used first, so that others become empty.
    open: BTreeSet<usize>,
}

/// Memory of that length, zeroed, that nothing else has until [`give_back`]. The machine gives
/// pages when they are first written.
///
/// Errors: mmap(2).
pub(super) fn take(length: usize) -> io::Result<NonNull<u8>> {
    let length = length.next_multiple_of(MAX_PAGE_BYTES);
    let mut all = SLABS.lock().unwrap_or_else(PoisonError::into_inner);
    let slabs = all.entry(length).or_default();
    let slab = match slabs.open.first() {
        Some(slab) => *slab,
        None => map(length.checked_mul(PIECES).ok_or(Errno::NOMEM)?)?,
    };
    let lent = slabs.lent.entry(slab).or_default();
    let piece = lent.trailing_ones() as usize;
    *lent |= 1 << piece;
    match *lent {
        u64::MAX => slabs.open.remove(&slab),
        _ => slabs.open.insert(slab),
    };
    NonNull::new(ptr::with_exposed_provenance_mut(slab + piece * length)).ok_or(Errno::FAULT)
}

/// Gives back what [`take`] gave for that length. The machine has its pages back at once.
///
/// # Safety
/// It came from [`take`] with this length, was not given back before, and nothing borrows from it.
pub(super) unsafe fn give_back(start: NonNull<u8>, length: usize) {
    let length = length.next_multiple_of(MAX_PAGE_BYTES);
    // SAFETY: these pages are the caller's alone, and it has no more use for what they hold.
    let emptied = unsafe { madvise(start.as_ptr().cast(), length, Advice::LinuxDontNeed) };
    if emptied.is_err() {
        // SAFETY: as above. The next one must find zeroes.
        unsafe { start.write_bytes(0, length) };
    }
    let address = start.as_ptr().expose_provenance();
    let mut all = SLABS.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(slabs) = all.get_mut(&length) else { return };
    let Some((&slab, lent)) = slabs.lent.range_mut(..=address).next_back() else { return };
    *lent &= !(1 << ((address - slab) / length));
    if *lent != 0 {
        slabs.open.insert(slab);
        return;
    }
    // SAFETY: the mapping is a slab's, of which no piece is lent.
    let unmapped = unsafe { munmap(ptr::with_exposed_provenance_mut(slab), length * PIECES) };
    if unmapped.is_ok() {
        slabs.lent.remove(&slab);
        slabs.open.remove(&slab);
    } else {
        // Cutting it out of its neighbours would take one mapping too many. It is empty, and is
        // used again.
        slabs.open.insert(slab);
    }
}

fn map(bytes: usize) -> io::Result<usize> {
    // SAFETY: a new mapping, at an address that the kernel chooses.
    let start = unsafe {
        mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }?;
    // SAFETY: the mapping is new, and what it holds does not change.
    let kept_out = unsafe { madvise(start, bytes, Advice::LinuxDontDump) };
    debug_assert!(kept_out.is_ok(), "a mapping of this process can be advised");
    // A buffer with a few bytes in it must not take 2 MiB. A kernel without huge pages does not
    // know the word. SAFETY: as above.
    let _unknown = unsafe { madvise(start, bytes, Advice::LinuxNoHugepage) };
    Ok(start.expose_provenance())
}
