//! How content leaves its source: through a pipe, right into the other session, or through the source's buffer.

use std::io;
use std::task::{Context, Poll, ready};

use super::{GATHER_BYTES, Pump, PumpError};
use crate::http::chunked::open_chunk;
use crate::net::{Pipe, Size, Socket, Stream};

/// Bodies of which so much is still to come are spliced, or read into large buffers. Measured (docs/performance.md): with
/// 24 KiB a pipe costs what copying does, with 32 KiB 0.9, with 64 KiB 0.8, with more half.
const LONG_BYTES: u64 = 32 * 1024;

impl Pump {
    /// Reads once: what is sure to be content, if there is enough to make it worth while, into a pipe where neither side's
    /// bytes need looking at, or from one TLS session right into the other; else into the source's buffer. Ready with 0 at
    /// the end of the input.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Stream,
    ) -> Poll<Result<usize, PumpError>> {
        let left = self.decoder.content_left();
        let is_long = left >= LONG_BYTES;
        if is_long && source.buffer.is_empty() && source.stream.may_be_spliced() && sink.may_be_spliced() {
            source.stream.hand_over().map_err(PumpError::Read)?;
            if source.stream.source().is_some() {
                sink.hand_over().map_err(PumpError::Write)?;
            }
        }
        if is_long
            && source.buffer.is_empty()
            && let Some(from) = source.stream.source()
            && sink.takes_pipes()
        {
            // Whoever waits holds no pipe.
            ready!(from.poll_read_ready(cx)).map_err(PumpError::Read)?;
            if let Some(mut pipe) = source.buffer.pipes().take() {
                let filled = pipe.poll_fill(cx, from, left);
                if let Poll::Ready(Ok(1..)) = filled {
                    source.stream.passed_content();
                    self.take_spliced(pipe)?;
                } else {
                    source.buffer.pipes().give(pipe);
                }
                match filled {
                    // What this means, a read tells.
                    Poll::Ready(Ok(0)) => {}
                    Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {}
                    filled => return filled.map_err(PumpError::Read),
                }
            }
        }
        source.want(if is_long { Size::Large } else { Size::Record });
        if is_long
            && !self.chunked
            && !self.has_something_to_write()
            && source.buffer.is_empty()
            && let (Stream::Tls(from), Stream::Tls(to)) = (&mut source.stream, &mut *sink)
            && from.has_nothing_ahead()
        {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let passed = ready!(from.poll_pass(cx, to, most, &mut source.buffer))?;
            self.take_passed(passed)?;
            return Poll::Ready(Ok(passed));
        }
        source.poll_fill(cx).map_err(PumpError::Read)
    }

    /// `length` bytes of content lie in the sink's session.
    fn take_passed(&mut self, length: usize) -> Result<(), PumpError> {
        self.decoder.take(length as u64)?;
        self.moved.copied += length as u64;
        self.has_consumed |= length > 0;
        self.unflushed |= length > 0;
        self.ended = self.decoder.is_at_end();
        Ok(())
    }

    /// Content lies in `pipe`.
    fn take_spliced(&mut self, pipe: Pipe) -> Result<(), PumpError> {
        let length = pipe.filled();
        self.decoder.take(length as u64)?;
        self.moved.spliced += length as u64;
        self.has_consumed = true;
        if self.chunked {
            open_chunk(length, &mut self.frame);
            self.tail = b"\r\n";
        } else {
            self.ended = self.decoder.is_at_end();
        }
        self.pipe = Some(pipe);
        Ok(())
    }

    /// `length` bytes of content lie at the front of the source's buffer.
    pub(super) fn take_content(&mut self, length: usize, source: &mut Socket) {
        self.moved.copied += length as u64;
        if !self.chunked {
            self.content = length;
            self.ended = self.decoder.is_at_end();
        } else if length <= GATHER_BYTES {
            open_chunk(length, &mut self.frame);
            self.frame.extend_from_slice(&source.buffer.filled()[..length]);
            self.frame.extend_from_slice(b"\r\n");
            self.consume(length, source);
        } else {
            open_chunk(length, &mut self.frame);
            self.content = length;
            self.tail = b"\r\n";
        }
    }

    pub(super) fn end_of_input(&mut self) -> Result<(), PumpError> {
        self.decoder.end_of_input()?;
        if self.chunked {
            self.frame.extend_from_slice(b"0\r\n\r\n");
        }
        self.ended = true;
        Ok(())
    }
}
