use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::pipe::Pipes;
use crate::sys::Pages;

/// Bytes that were read and not used up yet: `filled` is `bytes[start..end]`. It has memory only
/// while there are any: most connections wait most of the time, and what few need stays warm in the
/// cache.
///
/// Invariant: `start <= end <= bytes.len()`.
pub struct Buffer {
    bytes: Pages,
    start: usize,
    end: usize,
    /// What it has, or will have when it needs some.
    size: Size,
    wanted: Size,
    buffers: Rc<Buffers>,
}

impl Buffer {
    /// One whose memory comes from `buffers`.
    pub fn new(buffers: &Rc<Buffers>) -> Self {
        let (size, wanted) = Default::default();
        Self { bytes: Pages::default(), start: 0, end: 0, size, wanted, buffers: Rc::clone(buffers) }
    }

    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// How much more fits in the memory that it has, or will have.
    pub fn room(&self) -> usize {
        if self.bytes.is_empty() { self.wanted.bytes() } else { self.bytes.len().saturating_sub(self.len()) }
    }

    /// The memory that it takes when it next needs some.
    pub fn want(&mut self, size: Size) {
        self.wanted = size;
    }

    /// Where it can be spliced through.
    pub fn pipes(&self) -> &Pipes {
        self.buffers.pipes()
    }

    /// The first `length` bytes, which must be there.
    pub fn first(&self, length: usize) -> &[u8] {
        self.filled().get(..length).unwrap_or_default()
    }

    /// Drops `count` bytes from the front, which must be there.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "more consumed than filled");
        self.start = self.start.saturating_add(count);
        self.release_if_empty();
    }

    /// Gives the memory back when it is empty.
    pub fn release_if_empty(&mut self) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            self.buffers.give(std::mem::take(&mut self.bytes), self.size);
        }
    }

    /// Moves what is in large memory to smaller, where it fits: a connection that waits needs no
    /// room.
    pub fn shrink(&mut self) {
        if self.size == Size::Large && !self.is_empty() && self.len() <= Size::Record.bytes() {
            self.move_to(Size::Record);
        }
    }

    fn move_to(&mut self, size: Size) {
        let (mut bytes, size) = self.buffers.take(size);
        bytes.split_at_mut(self.len()).0.copy_from_slice(self.filled());
        self.buffers.give(std::mem::replace(&mut self.bytes, bytes), self.size);
        (self.start, self.end, self.size) = (0, self.len(), size);
    }

    /// Room for more bytes behind the filled ones; what was filled moves to the front to make it.
    pub fn space(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            (self.bytes, self.size) = self.buffers.take(self.wanted);
        } else if self.wanted == Size::Large
            && self.bytes.len() <= Size::Record.bytes()
            && self.buffers.has_large()
        {
            self.move_to(Size::Large);
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Room for at least `count` bytes behind the filled ones.
    pub fn space_for(&mut self, count: usize) -> &mut [u8] {
        if self.space().len() < count {
            self.bytes.grow(self.end.saturating_add(count));
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Copies `bytes` behind the filled ones.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.space_for(bytes.len()).split_at_mut(bytes.len()).0.copy_from_slice(bytes);
        self.filled_more(bytes.len());
    }

    /// `count` bytes of the space were written.
    pub fn filled_more(&mut self, count: usize) {
        assert!(count <= self.bytes.len().saturating_sub(self.end), "more filled than there is space");
        self.end = self.end.saturating_add(count);
    }

    /// Doubles the capacity when it is full, but not beyond `most`.
    pub fn grow_if_full(&mut self, most: usize) {
        let filled = self.len();
        if filled > 0 && filled == self.bytes.len() && filled < most {
            self.bytes.grow(filled.saturating_mul(2).min(most));
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.bytes), self.size);
    }
}

/// How much memory a buffer has while it has any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// For most: a whole TLS record (RFC 8446 §5.2, RFC 5246 §6.2.3), and enough for most heads.
    #[default]
    Record,
    /// For long bodies, while there are not too many at once: four records as rustls makes them.
    /// Fewer and larger reads and writes cost less.
    Large,
}

impl Size {
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Record => 20 * 1024,
            Self::Large => 68 * 1024,
        }
    }
}

/// What content needs on its way, for one worker: the memory of buffers that need none at the
/// moment, and pipes.
pub struct Buffers {
    records: RefCell<Vec<Pages>>,
    large: RefCell<Vec<Pages>>,
    large_lent: Cell<usize>,
    limits: Limits,
    pipes: Pipes,
}

/// How much a worker's buffers may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Free buffers that are kept, of either size.
    pub free: usize,
    /// Large ones, lent or free.
    pub large: usize,
    pub pipes: usize,
}

impl Buffers {
    pub fn new(limits: Limits) -> Rc<Self> {
        let pipes = Pipes::new(limits.pipes);
        let (records, large, large_lent) = Default::default();
        Self { records, large, large_lent, limits, pipes }.into()
    }

    pub fn pipes(&self) -> &Pipes {
        &self.pipes
    }

    fn has_large(&self) -> bool {
        self.large_lent.get() < self.limits.large
    }

    /// Memory of that size, or of a record's when enough large ones are lent.
    fn take(&self, wanted: Size) -> (Pages, Size) {
        let size = if self.has_large() { wanted } else { Size::Record };
        let free = match size {
            Size::Record => self.records.borrow_mut().pop(),
            Size::Large => self.large.borrow_mut().pop(),
        };
        let bytes = free.unwrap_or_else(|| Pages::new(size.bytes()));
        if let Size::Large = size {
            self.large_lent.set(self.large_lent.get().saturating_add(1));
        }
        (bytes, size)
    }

    /// Takes memory back that was lent as `size`; what has grown is let go.
    fn give(&self, bytes: Pages, size: Size) {
        if bytes.is_empty() {
            return;
        }
        let mut free = match size {
            Size::Record => self.records.borrow_mut(),
            Size::Large => {
                self.large_lent.set(self.large_lent.get().saturating_sub(1));
                self.large.borrow_mut()
            }
        };
        if bytes.len() == size.bytes() && free.len() < self.limits.free {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: usize = Size::Record.bytes();

    fn buffers() -> Rc<Buffers> {
        Buffers::new(Limits { free: 1, large: 2, pipes: 0 })
    }

    #[test]
    fn keeps_what_was_not_consumed() {
        let mut buffer = Buffer::new(&buffers());
        buffer.space()[..4].copy_from_slice(b"abcd");
        buffer.filled_more(4);
        buffer.consume(1);
        buffer.extend(b"e");
        assert_eq!(buffer.filled(), b"bcde");
        assert_eq!((buffer.space().len(), buffer.room()), (RECORD - 4, RECORD - 4));
        buffer.grow_if_full(2 * RECORD);
        assert_eq!(buffer.space().len(), RECORD - 4, "it was not full");
        assert_eq!(buffer.space_for(RECORD).len(), RECORD);
        assert_eq!(buffer.filled(), b"bcde");
        buffer.consume(4);
        assert!(buffer.is_empty());
    }

    #[test]
    fn has_memory_only_while_something_lies_in_it() {
        let buffers = buffers();
        let free = || buffers.records.borrow().len();
        let mut first = Buffer::new(&buffers);
        first.extend(b"a");
        assert_eq!(free(), 0);
        first.consume(1);
        assert_eq!(free(), 1);
        assert_eq!(Buffer::new(&buffers).space().len(), RECORD);
        assert_eq!(free(), 1, "and a dropped one leaves nothing behind");
    }

    #[test]
    fn large_memory_is_lent_to_few() {
        let buffers = buffers();
        let large = || {
            let mut buffer = Buffer::new(&buffers);
            buffer.want(Size::Large);
            buffer.extend(b"a");
            buffer
        };
        let [first, second, third] = std::array::from_fn(|_| large());
        assert_eq!([&first, &second, &third].map(|one| one.bytes.len() > RECORD), [true, true, false]);
        drop(first);
        let mut first = large();
        assert!(first.bytes.len() > RECORD);
        first.shrink();
        assert_eq!((first.bytes.len(), first.filled()), (RECORD, &b"a"[..]));
        assert!(large().bytes.len() > RECORD, "it has left its own to another");
        assert!(first.space().len() > RECORD, "and gets it back when that one is done");
        assert_eq!(first.filled(), b"a");
    }
}
