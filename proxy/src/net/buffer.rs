use std::cell::RefCell;
use std::rc::Rc;

/// Bytes that were read and not used up yet: `filled` lies in `bytes[start..end]`. It has memory only while
/// there are any: most connections wait most of the time, and what few need lies warm in the cache.
///
/// Invariant: `start <= end <= bytes.len()`.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    buffers: Rc<Buffers>,
}

impl Buffer {
    /// One whose memory comes from `buffers`.
    pub fn new(buffers: &Rc<Buffers>) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, buffers: Rc::clone(buffers) }
    }

    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// How much more fits in the memory that it has, or would have.
    pub fn room(&self) -> usize {
        if self.bytes.is_empty() { self.buffers.capacity } else { self.bytes.len() - self.len() }
    }

    /// Drops `count` bytes from the front; there must be so many.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "more consumed than filled");
        self.start += count;
        self.release_if_empty();
    }

    /// Gives the memory back when nothing lies in it.
    pub fn release_if_empty(&mut self) {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            self.buffers.give(std::mem::take(&mut self.bytes));
        }
    }

    /// Room for more bytes behind the filled ones; what was filled moves to the front to make it.
    pub fn space(&mut self) -> &mut [u8] {
        if self.bytes.is_empty() {
            self.bytes = self.buffers.take();
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// Room for at least `count` bytes behind the filled ones.
    pub fn space_for(&mut self, count: usize) -> &mut [u8] {
        if self.space().len() < count {
            self.bytes.resize(self.end + count, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Copies `bytes` behind the filled ones.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.space_for(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.filled_more(bytes.len());
    }

    /// `count` bytes of the space were written.
    pub fn filled_more(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.end, "more filled than there is space");
        self.end += count;
    }

    /// Doubles the capacity when it is full, but not beyond `most`.
    pub fn grow_if_full(&mut self, most: usize) {
        let filled = self.len();
        if filled > 0 && filled == self.bytes.len() && filled < most {
            self.bytes.resize((2 * filled).min(most), 0);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.buffers.give(std::mem::take(&mut self.bytes));
    }
}

/// The memory of buffers that need none at the moment, for one worker; all of one capacity.
#[derive(Debug)]
pub struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
    capacity: usize,
    most: usize,
}

/// A whole TLS record (RFC 8446 §5.2, RFC 5246 §6.2.3), and enough for most heads.
const RECORD_BYTES: usize = 5 + (1 << 14) + 2048;

impl Buffers {
    /// Buffers of a TLS record each, of which up to `most` are kept while nobody uses them.
    pub fn of_records(most: usize) -> Rc<Self> {
        Self::new(RECORD_BYTES, most).into()
    }

    /// Buffers of `capacity` bytes each, of which up to `most` are kept while nobody uses them.
    fn new(capacity: usize, most: usize) -> Self {
        Self { free: RefCell::default(), capacity, most }
    }

    fn take(&self) -> Vec<u8> {
        self.free.borrow_mut().pop().unwrap_or_else(|| vec![0; self.capacity])
    }

    /// Takes memory back; what has grown is let go.
    fn give(&self, bytes: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if bytes.len() == self.capacity && free.len() < self.most {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_not_consumed() {
        let buffers = Rc::new(Buffers::new(4, 1));
        let mut buffer = Buffer::new(&buffers);
        buffer.space().copy_from_slice(b"abcd");
        buffer.filled_more(4);
        buffer.consume(1);
        buffer.space()[0] = b'e';
        buffer.filled_more(1);
        assert_eq!(buffer.filled(), b"bcde");
        buffer.grow_if_full(8);
        assert_eq!(buffer.filled(), b"bcde");
        assert_eq!(buffer.space().len(), 4);
        buffer.consume(4);
        assert!(buffer.is_empty());
    }

    #[test]
    fn has_memory_only_while_something_lies_in_it() {
        let buffers = Rc::new(Buffers::new(4, 1));
        let mut first = Buffer::new(&buffers);
        first.space()[0] = b'a';
        first.filled_more(1);
        assert_eq!(buffers.free.borrow().len(), 0);
        first.consume(1);
        assert_eq!(buffers.free.borrow().len(), 1);
        assert_eq!(Buffer::new(&buffers).space().len(), 4);
        assert_eq!(buffers.free.borrow().len(), 1, "and a dropped one leaves nothing behind");
    }
}
