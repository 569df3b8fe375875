use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Bytes in memory of their own pages, zero at first. The machine gives pages when they are first written, and has them
/// back when this is dropped, while freed memory of this size tends to stay in the heap, between what is in use. No core file
/// holds them.
#[derive(Debug)]
pub struct Pages {
    /// Dangling without bytes.
    start: NonNull<u8>,
    length: usize,
}

impl Pages {
    /// `length` bytes. Without memory for them the process ends, as with any allocation.
    pub fn new(length: usize) -> Self {
        if length == 0 {
            return Self { start: NonNull::dangling(), length };
        }
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let Some(start) = start.ok().and_then(|start| NonNull::new(start.cast::<u8>())) else {
            handle_alloc_error(Layout::array::<u8>(length).unwrap_or(Layout::new::<u8>()))
        };
        // SAFETY: the mapping is this one, and the advice changes nothing in it.
        let kept_out = unsafe { madvise(start.as_ptr().cast(), length, Advice::LinuxDontDump) };
        debug_assert!(kept_out.is_ok(), "a mapping of this process can be advised");
        Self { start, length }
    }

    /// More of them, behind what is there.
    pub fn grow(&mut self, length: usize) {
        let mut more = Self::new(length.max(self.length));
        more[..self.length].copy_from_slice(self);
        *self = more;
    }
}

impl Default for Pages {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is readable for `length` bytes until `self` is dropped, or there are none; the kernel has zeroed
        // them, and only `deref_mut` lets anybody write.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the mapping is writable, and `self`'s alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if self.length > 0 {
            // SAFETY: the mapping is `self`'s alone, and nothing borrows from it any more.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
            debug_assert!(unmapped.is_ok(), "a mapping of this process can be unmapped");
        }
    }
}

// SAFETY: the memory belongs to no thread.
unsafe impl Send for Pages {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zero_at_first_and_keep_what_is_written_when_they_grow() {
        assert!(Pages::default().is_empty());
        let mut pages = Pages::new(5000);
        assert!(pages.len() == 5000 && pages.iter().all(|byte| *byte == 0));
        pages[4999] = 7;
        pages.grow(20_000);
        assert_eq!((pages.len(), pages[4999], pages[19_999]), (20_000, 7, 0));
        pages.grow(1);
        assert_eq!(pages.len(), 20_000);
    }
}
