use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::{Buffer, Stream};

/// A connection and what was read from it and not used up yet.
#[derive(Debug)]
pub struct Socket {
    pub stream: Stream,
    pub buffer: Buffer,
}

impl Socket {
    /// Reads once into the buffer's space, of which there must be some. Ready with 0 at the end of the input.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let space = self.buffer.space();
        debug_assert!(!space.is_empty());
        let mut to = ReadBuf::new(space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut to))?;
        let count = to.filled().len();
        self.buffer.filled_more(count);
        Poll::Ready(Ok(count))
    }
}
