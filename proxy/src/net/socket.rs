use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::{Buffer, Buffers, Size, Stream};

/// A connection and what was read from it and not used up yet.
pub struct Socket {
    pub stream: Stream,
    pub buffer: Buffer,
}

impl Socket {
    /// One from which nothing was read yet.
    pub fn new(stream: Stream, buffers: &Rc<Buffers>) -> Self {
        Self { stream, buffer: Buffer::new(buffers) }
    }

    /// How much is read at a time from now on, if there is so much.
    pub fn want(&mut self, size: Size) {
        self.buffer.want(size);
        if let Stream::Tls(session) = &mut self.stream {
            session.want(size);
        }
    }

    /// Reads once into the buffer's space, of which there must be some. Ready with 0 at the end of
    /// the input.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.stream.poll_fill(cx, &mut self.buffer)
    }
}
