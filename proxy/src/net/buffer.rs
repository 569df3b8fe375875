use std::cell::RefCell;

/// Bytes that were read and not used up yet: `filled` lies in `bytes[start..end]`.
///
/// Invariant: `start <= end <= bytes.len()`.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: vec![0; capacity], start: 0, end: 0 }
    }

    /// One without room, where one must be that is not used.
    pub const fn none() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0 }
    }

    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops `count` bytes from the front; there must be so many.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.end - self.start, "more consumed than filled");
        self.start += count;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room for more bytes behind the filled ones; what was filled moves to the front to make it.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes of the space were written.
    pub fn filled_more(&mut self, count: usize) {
        assert!(count <= self.bytes.len() - self.end, "more filled than there is space");
        self.end += count;
    }

    /// Doubles the capacity when it is full, but not beyond `most`; says whether there is space.
    pub fn grow_if_full(&mut self, most: usize) -> bool {
        let filled = self.end - self.start;
        if filled == self.bytes.len() && filled < most {
            self.bytes.resize((2 * filled).clamp(1024, most.max(1024)), 0);
        }
        filled < self.bytes.len()
    }
}

/// Buffers that are not in use, for one worker; all of one capacity.
#[derive(Debug)]
pub struct Buffers {
    free: RefCell<Vec<Buffer>>,
    capacity: usize,
    most: usize,
}

impl Buffers {
    /// Buffers of `capacity` bytes each, of which up to `most` are kept while nobody uses them.
    pub fn new(capacity: usize, most: usize) -> Self {
        Self { free: RefCell::default(), capacity, most }
    }

    pub fn take(&self) -> Buffer {
        self.free.borrow_mut().pop().unwrap_or_else(|| Buffer::with_capacity(self.capacity))
    }

    /// Takes a buffer back; one that has grown is let go.
    pub fn give(&self, mut buffer: Buffer) {
        buffer.consume(buffer.filled().len());
        let mut free = self.free.borrow_mut();
        if buffer.bytes.len() == self.capacity && free.len() < self.most {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_not_consumed() {
        let mut buffer = Buffer::with_capacity(4);
        buffer.space().copy_from_slice(b"abcd");
        buffer.filled_more(4);
        buffer.consume(1);
        buffer.space()[0] = b'e';
        buffer.filled_more(1);
        assert_eq!(buffer.filled(), b"bcde");
        assert!(buffer.grow_if_full(8));
        assert_eq!(buffer.filled(), b"bcde");
        buffer.consume(4);
        assert!(buffer.is_empty());
    }
}
