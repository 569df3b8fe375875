//! Meta's and the operator's POSTs that are under way, counted in memory that outlives the process:
//! what is left there by a process that was killed is lost.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::prefixes::CounterIndex;
use crate::sys::Shared;

/// The counts of one process, in a slot of its own.
#[derive(Debug)]
pub struct OpenPosts {
    numbers: Shared,
    slot: usize,
}

/// What a process left when it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// When the process was known to run, in seconds of Unix time.
    pub seen: i64,
    /// POSTs of Meta's.
    pub meta: u64,
    /// Of `allow` and loopback.
    pub other: u64,
}

/// Its name in `[insight] state`.
pub const OPEN_POSTS_FILE: &str = "open_posts";
/// A cache line.
const SLOT_NUMBERS: usize = 8;
/// In a slot. 0 for a slot that is free.
const SEEN: usize = 0;
const META: usize = 1;
const OTHER: usize = 2;
/// More connections than a process can have: the file is damaged.
const MAX_POSTS: u64 = 1 << 24;

impl OpenPosts {
    pub const SLOTS: u16 = 64;
    const NUMBERS: usize = Self::SLOTS as usize * SLOT_NUMBERS;
    /// Length of the file.
    pub const BYTES: u64 = (Self::NUMBERS * size_of::<u64>()) as u64;

    /// Counts that end with the process.
    ///
    /// Errors: no memory.
    pub fn private() -> io::Result<Self> {
        Ok(Self { numbers: Shared::private(SLOT_NUMBERS)?, slot: 0 })
    }

    /// Counts in a slot of a file that no other process has; and what was left in those slots whose
    /// processes have ended. That is taken out, so that it is returned once.
    ///
    /// Errors: the file can't be mapped.
    pub fn open(file: &File, slot: u16, ended: &[u16], now: i64) -> io::Result<(Self, Vec<Interrupted>)> {
        let numbers = Shared::map(file.as_fd(), Self::NUMBERS)?;
        let left = ended.iter().filter_map(|slot| {
            let slot = slot_of(&numbers, usize::from(*slot))?;
            let taken =
                [SEEN, META, OTHER].map(|at| slot.get(at).map_or(0, |n| n.swap(0, Ordering::Relaxed)));
            interrupted(taken)
        });
        let left = left.collect();
        let open_posts = Self { numbers, slot: usize::from(slot) };
        open_posts.set_seen(now);
        Ok((open_posts, left))
    }

    /// What is left in a file by processes that have ended, by the numbers of their slots.
    pub fn left(bytes: &[u8], mut has_ended: impl FnMut(u16) -> bool) -> Vec<Interrupted> {
        let numbers: Vec<u64> =
            bytes.as_chunks().0.iter().map(|number| u64::from_ne_bytes(*number)).collect();
        let slots = (0..).zip(numbers.chunks_exact(SLOT_NUMBERS));
        let left = slots
            .filter_map(|(number, slot)| Some((number, interrupted([slot[SEEN], slot[META], slot[OTHER]])?)));
        left.filter(|(number, _)| has_ended(*number)).map(|(_, left)| left).collect()
    }

    /// The process still runs.
    pub fn set_seen(&self, now: i64) {
        if let Some(number) = self.number(SEEN) {
            number.store(now.unsigned_abs(), Ordering::Relaxed);
        }
    }

    pub fn begin(&self, counter: CounterIndex) {
        if let Some(number) = self.number(of(counter)) {
            number.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn end(&self, counter: CounterIndex, count: u64) {
        if let Some(number) = self.number(of(counter)) {
            number.fetch_sub(count, Ordering::Relaxed);
        }
    }

    /// The process is about to end. What is under way even now is lost, and stays to be found.
    pub fn close(&self) {
        let counts = [META, OTHER].map(|at| self.number(at).map_or(0, |n| n.load(Ordering::Relaxed)));
        if counts == [0, 0] {
            self.set_seen(0);
        }
    }

    fn number(&self, at: usize) -> Option<&AtomicU64> {
        slot_of(&self.numbers, self.slot)?.get(at)
    }
}

fn slot_of(numbers: &[AtomicU64], slot: usize) -> Option<&[AtomicU64]> {
    numbers.get(slot * SLOT_NUMBERS..(slot + 1) * SLOT_NUMBERS)
}

fn of(counter: CounterIndex) -> usize {
    if counter.is_meta() { META } else { OTHER }
}

/// Of a slot's numbers; `None`: nothing is left.
fn interrupted([seen, meta, other]: [u64; 3]) -> Option<Interrupted> {
    let seen = i64::try_from(seen).ok().filter(|seen| *seen > 0)?;
    let sum = meta.checked_add(other)?;
    (1..=MAX_POSTS).contains(&sum).then_some(Interrupted { seen, meta, other })
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    const OTHER_COUNTER: CounterIndex = CounterIndex::OTHER;

    fn file(name: &str) -> File {
        let path = std::env::temp_dir().join(format!("hookgate-open-posts-{name}-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(OpenPosts::BYTES).unwrap();
        file
    }

    fn bytes(file: &File) -> Vec<u8> {
        use std::os::unix::fs::FileExt as _;
        let mut bytes = vec![0; OpenPosts::BYTES as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_a_process_leaves_is_found_once() {
        let file = file("once");
        let (first, left) = OpenPosts::open(&file, 3, &[0, 1, 3], 1000).unwrap();
        assert_eq!(left, []);
        (0..7).for_each(|_| first.begin(CounterIndex::numbered(9)));
        (0..2).for_each(|_| first.begin(OTHER_COUNTER));
        first.end(CounterIndex::numbered(9), 1);
        first.set_seen(1060);
        drop(first);
        let expected = [Interrupted { seen: 1060, meta: 6, other: 2 }];
        assert_eq!(OpenPosts::left(&bytes(&file), |slot| slot == 3), expected);
        assert_eq!(OpenPosts::left(&bytes(&file), |_| false), []);
        let (second, left) = OpenPosts::open(&file, 4, &[3, 4], 2000).unwrap();
        assert_eq!(left, expected);
        let (_, left) = OpenPosts::open(&file, 3, &[3], 2000).unwrap();
        assert_eq!(left, []);
        second.begin(OTHER_COUNTER);
        second.close();
        assert_eq!(OpenPosts::left(&bytes(&file), |_| true).len(), 1, "it ends with a request under way");
        second.end(OTHER_COUNTER, 1);
        second.close();
        assert_eq!(OpenPosts::left(&bytes(&file), |_| true), []);
    }

    #[test]
    fn damage_is_no_loss() {
        for numbers in [[0, 5, 5], [u64::MAX, 5, 5], [1, u64::MAX, 0], [1, u64::MAX, 1], [1, MAX_POSTS, 1]] {
            assert_eq!(interrupted(numbers), None, "{numbers:?}");
        }
    }
}
