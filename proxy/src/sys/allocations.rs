use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, which counts what the workers take.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TAKEN: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread's allocations count.
pub fn count_on_this_thread() {
    COUNTS.set(true);
}

/// How often memory was taken from the heap so far, or moved to a larger place.
pub fn allocations() -> u64 {
    TAKEN.load(Ordering::Relaxed)
}

impl Counting {
    fn count(&self) {
        // A thread that ends may free and allocate after its cells are gone; it counts no more.
        if COUNTS.try_with(Cell::get).unwrap_or(false) {
            TAKEN.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: everything is the system allocator's; counting neither allocates (the cell is made at
// compile time) nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}
