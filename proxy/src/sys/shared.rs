use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// Numbers in memory of their own pages, zero at first; with [`Shared::map`] the kernel and other
/// processes see them too.
#[derive(Debug)]
pub struct Shared {
    start: NonNull<AtomicU64>,
    count: usize,
}

impl Shared {
    /// `count` numbers of this process alone. Pages are taken from the machine when they are first
    /// written.
    ///
    /// Errors: mmap(2).
    pub fn private(count: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                bytes(count),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        Self::at(start.cast(), count)
    }

    /// The first `count` numbers of a BPF array that was made with BPF_F_MMAPABLE, or of a file
    /// that is at least that long and is never shortened.
    ///
    /// Errors: mmap(2): the array is smaller, or not meant to be mapped.
    pub fn map(array: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        // SAFETY: a new mapping, at an address that the kernel chooses. A BPF array never shrinks,
        // nor does such a file, so that its pages stay; other writers use single stores of whole
        // numbers.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                bytes(count),
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                array,
                0,
            )
        }?;
        Self::at(start.cast(), count)
    }

    /// The first `count` numbers of a file of this process's user. What is written stays in the
    /// file when the process is killed. A page is read when it is first used, and alone.
    ///
    /// Errors: mmap(2); the file is shorter.
    pub fn of_file(file: &File, count: usize) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if usize::try_from(length).is_ok_and(|length| length < bytes(count)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: a new mapping, at an address that the kernel chooses, of pages that the file has.
        // Other processes write single whole numbers there. Who cuts the file short ends this
        // process with SIGBUS, and reads nothing else by it.
        let start = unsafe {
            mmap(ptr::null_mut(), bytes(count), ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)
        }?;
        let shared = Self::at(start.cast(), count)?;
        // Else a page of a new file brings as many zeros along as are read ahead of the disk:
        // megabytes on some machines.
        shared.advise(0..count, Advice::Random);
        Ok(shared)
    }

    /// From now on what lies around these numbers of a file is read along with them.
    pub fn read_ahead(&self, numbers: Range<usize>) {
        self.advise(numbers, Advice::Normal);
    }

    /// Says how the pages of these numbers will be used.
    fn advise(&self, numbers: Range<usize>, advice: Advice) {
        if numbers.is_empty() || numbers.end > self.count {
            return;
        }
        let first = numbers.start - numbers.start % LARGEST_PAGE;
        let start = self.start.as_ptr().wrapping_add(first).cast();
        // Without the advice the pages are read all the same.
        // SAFETY: the pages are this mapping's; these kinds of advice change nothing of them.
        let _unadvised = unsafe { madvise(start, bytes(numbers.end - first), advice) };
    }

    fn at(start: *mut AtomicU64, count: usize) -> io::Result<Self> {
        let start = NonNull::new(start).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, count })
    }
}

/// In numbers: 64 KiB, as some kernels for arm64 have.
const LARGEST_PAGE: usize = (64 << 10) / size_of::<AtomicU64>();

/// mmap(2) rounds up to whole pages itself, and refuses nothing at all.
fn bytes(count: usize) -> usize {
    count.max(1) * size_of::<AtomicU64>()
}

impl Deref for Shared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `start` is page-aligned and readable for `count` numbers until `self` is dropped;
        // every bit pattern is a number, and atomics may change under a shared reference.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is `self`'s alone, and nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), bytes(self.count)) };
        debug_assert!(unmapped.is_ok(), "a mapping of this process can be unmapped");
    }
}

// SAFETY: the memory belongs to no thread, and is only reached through atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn private_numbers_start_at_zero_and_keep_what_they_are_told() {
        let numbers = Shared::private(10_000).unwrap();
        assert_eq!(numbers.len(), 10_000);
        assert!(numbers.iter().all(|number| number.load(Ordering::Relaxed) == 0));
        numbers[9_999].fetch_add(7, Ordering::Relaxed);
        assert_eq!(numbers[9_999].load(Ordering::Relaxed), 7);
        assert!(Shared::private(0).unwrap().is_empty());
    }
}
