//! Where things are in the file, in words of 64 bits.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

use crate::sys::Shared;

/// "hookgate", little-endian.
const MAGIC: u64 = u64::from_le_bytes(*b"hookgate");
const VERSION: u64 = 1;

/// One page.
const HEAD_WORDS: usize = 512;
const HEAD_MAGIC: usize = 0;
const HEAD_VERSION: usize = 1;
const HEAD_EVENTS: usize = 2;
pub(super) const HEAD_KEY: usize = 4;
pub(super) const KEY_WORDS: usize = 4;
pub(super) const HEAD_OWNER: usize = 16;
pub(super) const HEAD_RELEASED: usize = 17;
/// When the owner was seen last, in seconds since 1970.
pub(super) const HEAD_ALIVE: usize = 18;
/// When hookgate served again after it had not.
pub(super) const HEAD_GAP_END: usize = 19;
pub(super) const HEAD_NEXT_EVENT: usize = 24;
pub(super) const HEAD_NEXT_CHAIN: usize = 25;
/// Written, and read, bytes of the inbox, ever.
pub(super) const HEAD_INBOX_WRITTEN: usize = 32;
pub(super) const HEAD_INBOX_READ: usize = 33;

pub(super) const EVENT_WORDS: usize = 4;
pub(super) const CHAIN_WORDS: usize = 2;
pub(super) const ROW_WORDS: usize = 256;
pub(super) const MAX_ROWS: usize = 4096;
pub(super) const NUMBER_WORDS: usize = 104;
/// Telephone numbers, pages and accounts.
pub(super) const MAX_NUMBERS: usize = 10_000;
/// What a process that drains may have to report at once: 1 MiB.
pub(super) const INBOX_WORDS: usize = 1 << 17;

/// The places of a file with room for a number of events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) events: usize,
    pub(super) chains: usize,
}

impl Layout {
    pub(super) const fn new(events: usize) -> Self {
        Self { events, chains: events / 2 + 1 }
    }

    pub(super) const fn event(self, slot: usize) -> usize {
        HEAD_WORDS + slot * EVENT_WORDS
    }

    pub(super) const fn chain(self, slot: usize) -> usize {
        self.event(self.events) + slot * CHAIN_WORDS
    }

    pub(super) const fn row(self, slot: usize) -> usize {
        self.chain(self.chains) + slot * ROW_WORDS
    }

    pub(super) const fn number(self, slot: usize) -> usize {
        self.row(MAX_ROWS) + slot * NUMBER_WORDS
    }

    pub(super) const fn inbox(self) -> usize {
        self.number(MAX_NUMBERS)
    }

    pub(super) const fn words(self) -> usize {
        self.inbox() + INBOX_WORDS
    }

    pub(super) const fn bytes(self) -> u64 {
        (self.words() * size_of::<u64>()) as u64
    }
}

/// A file's words. What lies outside reads as 0.
#[derive(Debug)]
pub(super) struct Mapped(Shared);

impl Mapped {
    pub(super) fn new(shared: Shared) -> Self {
        Self(shared)
    }

    pub(super) fn get(&self, at: usize) -> u64 {
        self.0.get(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// In the order of the calls, so that a process which is killed leaves nothing half done that
    /// looks whole.
    pub(super) fn set(&self, at: usize, value: u64) {
        if let Some(word) = self.0.get(at) {
            word.store(value, Ordering::Release);
        }
    }

    pub(super) fn add(&self, at: usize, more: u64) {
        self.set(at, self.get(at).saturating_add(more));
    }

    /// Bytes, eight a word, the last one filled up with zeros.
    pub(super) fn set_bytes(&self, at: usize, bytes: &[u8]) {
        bytes.chunks(8).enumerate().for_each(|(number, bytes)| self.set(at + number, word(bytes)));
    }

    pub(super) fn bytes(&self, at: usize, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|number| self.get(at + number).to_le_bytes()).take(count).collect()
    }

    /// The head alone.
    ///
    /// Errors: mmap(2); the file is shorter.
    pub(super) fn head(file: &File) -> io::Result<Self> {
        Shared::of_file(file, HEAD_WORDS).map(Self)
    }

    /// For how many events there is room; `None`: it is a new file.
    pub(super) fn room(&self) -> Result<Option<usize>, &'static str> {
        let [magic, version, events] = [HEAD_MAGIC, HEAD_VERSION, HEAD_EVENTS].map(|at| self.get(at));
        match (magic, version) {
            (0, _) => Ok(None),
            (MAGIC, VERSION) => usize::try_from(events).map(Some).map_err(|_| "its head is damaged"),
            (MAGIC, _) => Err("it is a ledger of another version"),
            _ => Err("it is not a ledger"),
        }
    }

    /// Writes the head of a new file.
    pub(super) fn begin(&self, layout: Layout) {
        self.set(HEAD_EVENTS, layout.events as u64);
        self.set(HEAD_VERSION, VERSION);
        // Last: a head without it is a new file's.
        self.set(HEAD_MAGIC, MAGIC);
    }

    /// From now on what lies around these words is read along with them.
    pub(super) fn read_ahead(&self, words: Range<usize>) {
        self.0.read_ahead(words);
    }

    /// Copies words of another file.
    pub(super) fn copy(&self, to: usize, other: &Self, from: usize, count: usize) {
        (0..count).for_each(|at| self.set(to + at, other.get(from + at)));
    }
}

/// Up to eight bytes.
pub(super) fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// A time or a count.
pub(super) fn signed(word: u64) -> i64 {
    i64::try_from(word).unwrap_or(i64::MAX)
}

/// 16 bits over what does not change of a record: against what a crash leaves half written, not
/// against an attacker.
pub(super) fn check(words: &[u64]) -> u64 {
    let step = |sum: u64, word: &u64| (sum ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    let sum = words.iter().fold(0xcbf2_9ce4_8422_2325, step);
    (sum ^ (sum >> 32) ^ (sum >> 16) ^ (sum >> 48)) & 0xffff
}
