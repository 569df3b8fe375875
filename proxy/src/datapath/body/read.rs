//! How content leaves its source: through a pipe, right into the other session, or through the
//! source's buffer.

use std::io;
use std::task::{Context, Poll, ready};

use super::{Content, GATHER_BYTES, Pump, PumpError};
use crate::http::chunked::open_chunk;
use crate::net::{Pipe, Size, Socket, Stream};

/// Bodies of which so much is still to come are spliced, or read into large buffers. Measured
/// (docs/performance.md): with 24 KiB a pipe costs what copying does, with 32 KiB 0.9, with 64 KiB
/// 0.8, with more half.
const LONG_BYTES: u64 = 32 * 1024;

/// What a read has brought.
pub(super) enum Read {
    /// The end of the input.
    End,
    /// Bytes in the source's buffer.
    Buffered,
    /// Content in a pipe.
    Spliced,
    /// Content in the sink's session.
    Passed,
}

impl Read {
    fn buffered(count: usize) -> Self {
        if count == 0 { Self::End } else { Self::Buffered }
    }
}

impl Pump {
    /// Reads once: what is sure to be content, if there is enough to make it worth while, into a
    /// pipe where neither side's bytes need looking at, or from one TLS session right into the
    /// other; else into the source's buffer.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Stream,
    ) -> Poll<Result<Read, PumpError>> {
        let left = self.decoder.content_left();
        let is_long = left >= LONG_BYTES;
        // Content that is looked at comes through the source's buffer.
        let may_pass_by = is_long && !self.is_observing();
        if may_pass_by && source.buffer.is_empty() && source.stream.may_be_spliced() && sink.may_be_spliced()
        {
            source.stream.hand_over().map_err(PumpError::Read)?;
            if source.stream.source().is_some() {
                sink.hand_over().map_err(PumpError::Write)?;
            }
        }
        if may_pass_by
            && source.buffer.is_empty()
            && let Some(from) = source.stream.source()
            && sink.takes_pipes()
        {
            // A pump that waits holds no pipe.
            ready!(from.poll_read_ready(cx)).map_err(PumpError::Read)?;
            if let Some(mut pipe) = source.buffer.pipes().take() {
                match pipe.poll_fill(cx, from, left) {
                    Poll::Ready(Ok(1..)) => {
                        source.stream.passed_content();
                        self.take_spliced(pipe)?;
                        return Poll::Ready(Ok(Read::Spliced));
                    }
                    filled => {
                        source.buffer.pipes().give(pipe);
                        match filled {
                            // A read tells what this means.
                            Poll::Ready(Ok(_)) => {}
                            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidInput => {}
                            Poll::Ready(Err(error)) => return Poll::Ready(Err(PumpError::Read(error))),
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                }
            }
        }
        source.want(if is_long { Size::Large } else { Size::Record });
        if may_pass_by
            && !self.chunked
            && self.outgoing.is_empty()
            && source.buffer.is_empty()
            && let (Stream::Tls(from), Stream::Tls(to)) = (&mut source.stream, &mut *sink)
            && from.has_nothing_ahead()
        {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            return match ready!(from.poll_pass(cx, to, most, &mut source.buffer)) {
                Ok(0) => Poll::Ready(Ok(Read::End)),
                Ok(passed) => {
                    self.take_passed(passed)?;
                    Poll::Ready(Ok(Read::Passed))
                }
                Err(error) => Poll::Ready(Err(error.into())),
            };
        }
        source.poll_fill(cx).map_ok(Read::buffered).map_err(PumpError::Read)
    }

    /// The sink's session has taken `length` bytes of content.
    fn take_passed(&mut self, length: usize) -> Result<(), PumpError> {
        self.decoder.take(length as u64)?;
        self.moved.copied = self.moved.copied.saturating_add(length as u64);
        self.has_consumed = true;
        Ok(())
    }

    /// `pipe` holds content.
    fn take_spliced(&mut self, pipe: Pipe) -> Result<(), PumpError> {
        let length = pipe.filled();
        self.decoder.take(length as u64)?;
        self.moved.spliced = self.moved.spliced.saturating_add(length as u64);
        self.has_consumed = true;
        if self.chunked {
            open_chunk(length, &mut self.outgoing.frame);
            self.outgoing.tail = b"\r\n";
        }
        self.outgoing.content = Content::Piped(pipe);
        Ok(())
    }

    /// `length` bytes of content lie at the front of the source's buffer.
    pub(super) fn take_content(&mut self, length: usize, source: &mut Socket) {
        self.moved.copied = self.moved.copied.saturating_add(length as u64);
        let outgoing = &mut self.outgoing;
        if !self.chunked {
            outgoing.content = Content::buffered(length);
        } else if length <= GATHER_BYTES {
            open_chunk(length, &mut outgoing.frame);
            let content = source.buffer.first(length);
            outgoing.frame.extend_from_slice(content);
            if let Some(observed) = &mut self.observed {
                observed.look_at(content);
            }
            outgoing.frame.extend_from_slice(b"\r\n");
            self.consume(length, source);
        } else {
            open_chunk(length, &mut outgoing.frame);
            outgoing.content = Content::buffered(length);
            outgoing.tail = b"\r\n";
        }
    }

    pub(super) fn end_of_input(&mut self) -> Result<(), PumpError> {
        self.decoder.end_of_input()?;
        if self.chunked {
            self.outgoing.frame.extend_from_slice(b"0\r\n\r\n");
        }
        Ok(())
    }
}
