use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Buffer, Buffers, Stream};

/// A connection and what was read from it and not used up yet.
#[derive(Debug)]
pub struct Socket {
    pub stream: Stream,
    pub buffer: Buffer,
}

impl Socket {
    /// One from which nothing was read yet.
    pub fn new(stream: Stream, buffers: &Rc<Buffers>) -> Self {
        Self { stream, buffer: Buffer::new(buffers) }
    }

    /// Reads once into the buffer's space, of which there must be some. Ready with 0 at the end of the input.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            // Whoever waits holds no memory.
            ready!(self.stream.poll_readable(cx))?;
        }
        let space = self.buffer.space();
        debug_assert!(!space.is_empty());
        let mut to = ReadBuf::new(space);
        let outcome = Pin::new(&mut self.stream).poll_read(cx, &mut to);
        let count = to.filled().len();
        self.buffer.filled_more(count);
        self.buffer.release_if_empty();
        outcome.map_ok(|()| count)
    }
}
