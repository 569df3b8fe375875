use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::slabs;

/// Bytes in memory of their own pages, zero at first. The machine gives pages when they are first
/// written, and has them back when this is dropped, while freed memory of this size tends to stay
/// in the heap, between what is in use. No core file holds them.
#[derive(Debug)]
pub struct Pages {
    /// Dangling without bytes.
    start: NonNull<u8>,
    length: usize,
}

impl Pages {
    /// `length` bytes.
    ///
    /// # Panics
    /// The machine has no memory for them. That ends the task of one connection; an abort would end
    /// all.
    pub fn new(length: usize) -> Self {
        if length == 0 {
            return Self { start: NonNull::dangling(), length };
        }
        match slabs::take(length) {
            Ok(start) => Self { start, length },
            Err(error) => panic!("no memory for a buffer of {length} bytes: {error}"),
        }
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
        // SAFETY: `start` is readable for `length` bytes until `self` is dropped, or there are
        // none; the kernel has zeroed them, and only `deref_mut` lets anybody write.
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
            // SAFETY: it was taken with this length in `new`, is `self`'s alone, and nothing
            // borrows from it any more.
            unsafe { slabs::give_back(self.start, self.length) };
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

    fn mappings() -> usize {
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
    }

    #[test]
    fn fragmented_buffers_take_few_mappings() {
        const COUNT: usize = 4096;
        let before = mappings();
        let all: Vec<Pages> = (0..COUNT).map(|_| Pages::new(20 * 1024)).collect();
        let kept: Vec<Pages> = all.into_iter().step_by(2).collect();
        let more = mappings().saturating_sub(before);
        assert!(more < COUNT / 16, "{more} mappings for {} buffers", kept.len());
    }

    #[test]
    fn what_is_given_back_is_zero_for_the_next_and_takes_no_memory() {
        const LENGTH: usize = 36 * 1024;
        let resident = || {
            let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
            let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
        };
        let mut all: Vec<Pages> = (0..512).map(|_| Pages::new(LENGTH)).collect();
        all.iter_mut().for_each(|pages| pages.fill(1));
        let full = resident();
        let kept: Vec<Pages> = all.into_iter().step_by(2).collect();
        let half = resident();
        // Half of 18 MiB; other tests of this process may take some of it in the meantime.
        assert!(full.saturating_sub(half) > 6 * 1024, "{full} KiB, then {half} KiB");
        let again: Vec<Pages> = (0..256).map(|_| Pages::new(LENGTH)).collect();
        assert!(again.iter().all(|pages| pages.iter().all(|byte| *byte == 0)));
        assert!(kept.iter().all(|pages| pages.iter().all(|byte| *byte == 1)), "and the others keep theirs");
    }
}
