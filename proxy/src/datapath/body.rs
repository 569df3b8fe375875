//! One body's way, from one socket to the other, behind the head that goes before it: through the source's buffer, or
//! through a pipe where neither socket's bytes need looking at.

mod moved;
mod read;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http::chunked::{Step, relay_trailers};
use crate::http::decoder::{BodyError, Decoder};
use crate::http::framing::Framing;
use crate::net::{PassError, Pipe, Socket, Stream};
pub use moved::Moved;

/// Up to so many bytes of chunks are copied together, so that a small body leaves in one write with its head.
const GATHER_BYTES: usize = 4096;
/// After so much, others get their turn.
const TURN_BYTES: u64 = 1 << 20;
/// What a chunk costs beside its content, as bytes of content.
const CHUNK_BYTES: u64 = 256;

/// Moves a head and its body. Nothing is read while something waits to be written, so one read buffer bounds
/// what lies here, and back-pressure goes through.
#[derive(Debug)]
pub struct Pump {
    decoder: Decoder,
    chunked: bool,
    /// Goes out first. Kept to the end: it may have to go out once more, on another connection.
    head: Vec<u8>,
    head_written: usize,
    /// Framing, and small chunks whole: goes out after the head.
    frame: Vec<u8>,
    frame_written: usize,
    /// How many bytes of content, at the front of the source's buffer, follow the frame.
    content: usize,
    /// Has content that follows the frame, instead of the buffer.
    pipe: Option<Pipe>,
    /// Goes out after the content.
    tail: &'static [u8],
    /// Everything is decoded.
    ended: bool,
    /// Something is written that may lie in the TLS session still.
    unflushed: bool,
    /// Something of the body was taken out of the source's buffer.
    has_consumed: bool,
    waits_for: Side,
    progress: Instant,
    moved: Moved,
    /// Chunks, or parts of them, that were looked at one by one.
    chunks: u64,
}

/// Whom a pump is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Sink,
}

/// Why a body did not get through.
#[derive(Debug)]
pub enum PumpError {
    Read(io::Error),
    Body(BodyError),
    Write(io::Error),
}

impl From<BodyError> for PumpError {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<PassError> for PumpError {
    fn from(error: PassError) -> Self {
        match error {
            PassError::Read(error) => Self::Read(error),
            PassError::Write(error) => Self::Write(error),
        }
    }
}

impl Pump {
    /// `head` goes out first; then the body that `decoder` reads, in chunks if `chunked`.
    pub fn new(head: Vec<u8>, decoder: Decoder, chunked: bool, now: Instant) -> Self {
        Self {
            decoder,
            chunked,
            head,
            head_written: 0,
            frame: Vec::new(),
            frame_written: 0,
            content: 0,
            pipe: None,
            tail: b"",
            ended: false,
            unflushed: false,
            has_consumed: false,
            waits_for: Side::Source,
            progress: now,
            moved: Moved::default(),
            chunks: 0,
        }
    }

    /// A head without a body.
    pub fn head_only(head: Vec<u8>) -> Self {
        Self::new(head, Decoder::new(Framing::Empty, 0), false, Instant::now())
    }

    /// Ready when the whole body has been handed to the sink's kernel.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Stream,
    ) -> Poll<Result<(), PumpError>> {
        let turn_ends = self.work() + TURN_BYTES;
        loop {
            let source_is_dry = self.gather(cx, source, sink)?;
            if self.has_something_to_write() {
                self.waits_for = Side::Sink;
                ready!(self.poll_write(cx, source, sink)).map_err(PumpError::Write)?;
                continue;
            }
            if self.unflushed {
                self.waits_for = Side::Sink;
                ready!(Pin::new(&mut *sink).poll_flush(cx)).map_err(PumpError::Write)?;
                self.unflushed = false;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if source_is_dry {
                self.waits_for = Side::Source;
                return Poll::Pending;
            }
            if self.work() >= turn_ends {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// Decodes until there is enough for a write, reading what is there to be read; says whether the source
    /// had nothing more.
    fn gather(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Stream,
    ) -> Result<bool, PumpError> {
        while self.content == 0
            && !self.unflushed
            && self.pipe.is_none()
            && self.tail.is_empty()
            && !self.ended
            && self.frame.len() < GATHER_BYTES
        {
            match self.decoder.step(source.buffer.filled())? {
                Step::Data { skip, length } => {
                    self.chunks += u64::from(self.chunked);
                    self.consume(skip, source);
                    self.take_content(length, source);
                }
                Step::End { skip, trailers } => {
                    if self.chunked {
                        self.frame.extend_from_slice(b"0\r\n");
                        relay_trailers(&source.buffer.filled()[trailers], &mut self.frame);
                    }
                    self.consume(skip, source);
                    self.ended = true;
                }
                Step::More { skip } => {
                    self.consume(skip, source);
                    match self.poll_read(cx, source, sink) {
                        Poll::Pending => return Ok(true),
                        Poll::Ready(Ok(0)) => self.end_of_input()?,
                        Poll::Ready(Ok(_)) => self.progress = Instant::now(),
                        Poll::Ready(Err(PumpError::Read(error)))
                            if error.kind() == io::ErrorKind::UnexpectedEof =>
                        {
                            return Err(BodyError::Truncated.into());
                        }
                        Poll::Ready(Err(error)) => return Err(error),
                    }
                }
            }
        }
        Ok(false)
    }

    /// What was done so far, as bytes of content.
    fn work(&self) -> u64 {
        self.moved.bytes() + self.chunks * CHUNK_BYTES
    }

    fn consume(&mut self, count: usize, source: &mut Socket) {
        source.buffer.consume(count);
        self.has_consumed |= count > 0;
    }

    fn has_something_to_write(&self) -> bool {
        self.head_written < self.head.len()
            || self.frame_written < self.frame.len()
            || self.content > 0
            || self.pipe.is_some()
            || !self.tail.is_empty()
    }

    /// Writes once.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Stream,
    ) -> Poll<io::Result<()>> {
        let (head, frame) = (&self.head[self.head_written..], &self.frame[self.frame_written..]);
        let is_framed = head.is_empty() && frame.is_empty();
        if let (true, Some(pipe)) = (is_framed, &mut self.pipe) {
            ready!(sink.poll_drain(cx, pipe))?;
            self.progress = Instant::now();
            if pipe.filled() == 0
                && let Some(pipe) = self.pipe.take()
            {
                source.buffer.pipes().give(pipe);
            }
            return Poll::Ready(Ok(()));
        }
        let (content, tail) = if self.pipe.is_some() { (0, &b""[..]) } else { (self.content, self.tail) };
        let slices = [head, frame, &source.buffer.filled()[..content], tail].map(IoSlice::new);
        let count = ready!(Pin::new(sink).poll_write_vectored(cx, &slices))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.wrote(count, source);
        Poll::Ready(Ok(()))
    }

    /// `count` bytes went out: of the head, then of the frame, the content, the tail.
    fn wrote(&mut self, count: usize, source: &mut Socket) {
        let of_head = count.min(self.head.len() - self.head_written);
        let of_frame = (count - of_head).min(self.frame.len() - self.frame_written);
        let of_content = (count - of_head - of_frame).min(self.content);
        let of_tail = count - of_head - of_frame - of_content;
        self.head_written += of_head;
        self.frame_written += of_frame;
        self.consume(of_content, source);
        self.content -= of_content;
        self.tail = &self.tail[of_tail..];
        if self.frame_written == self.frame.len() {
            self.frame.clear();
            self.frame_written = 0;
        }
        self.unflushed = true;
        self.progress = Instant::now();
    }

    /// Whether the sink has been given anything.
    pub fn has_written(&self) -> bool {
        self.head_written > 0
    }

    /// Whether nothing of the body was taken out of the source's buffer, so that all could be sent anew.
    pub fn can_rewind(&self) -> bool {
        !self.has_consumed
    }

    /// The same head and body from the start, whose decoder is `decoder`; nothing may have been consumed.
    pub fn rewind(&mut self, decoder: Decoder) {
        debug_assert!(self.can_rewind());
        let head = std::mem::take(&mut self.head);
        *self = Self::new(head, decoder, self.chunked, Instant::now());
    }

    /// Whom the pump waits for.
    pub fn waits_for(&self) -> Side {
        self.waits_for
    }

    /// When a byte last moved.
    pub fn progress(&self) -> Instant {
        self.progress
    }

    /// What was taken from the source so far.
    pub fn moved(&self) -> Moved {
        self.moved
    }

    /// How many bytes of content the sink has been given. Framing that still waits counts as
    /// content that waits.
    pub fn given(&self) -> u64 {
        let in_pipe = self.pipe.as_ref().map_or(0, Pipe::filled);
        let waiting = self.content + in_pipe + (self.frame.len() - self.frame_written);
        self.moved.bytes().saturating_sub(waiting as u64)
    }

    /// Gives back the head's memory, empty.
    pub fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.head);
        scratch.clear();
        scratch
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::{Buffers, Limits};

    /// Two ends of a connection.
    async fn connection() -> [TcpStream; 2] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        [one, listener.accept().await.unwrap().0]
    }

    #[tokio::test]
    async fn a_turn_ends_after_some_thousand_chunks() {
        const CHUNKS: usize = 20_000;
        let ([mut client, source], [sink, mut upstream]) = (connection().await, connection().await);
        tokio::spawn(async move { tokio::io::copy(&mut upstream, &mut tokio::io::sink()).await });
        client.write_all(&b"1\r\nx\r\n".repeat(CHUNKS)).await.unwrap();
        source.readable().await.unwrap();
        let buffers = Buffers::new(Limits { free: 4, large: 1, pipes: 1 });
        let (mut source, mut sink) = (Socket::new(Stream::Plain(source), &buffers), Stream::Plain(sink));
        let mut pump = Pump::new(Vec::new(), Decoder::new(Framing::Chunked, u64::MAX), true, Instant::now());
        let mut turns = 0;
        let mut most = 0;
        while pump.moved.bytes() < CHUNKS as u64 {
            let before = pump.moved.bytes();
            std::future::poll_fn(|cx| {
                let polled = pump.poll(cx, &mut source, &mut sink);
                assert!(polled.is_pending(), "{polled:?}");
                Poll::Ready(())
            })
            .await;
            most = most.max(pump.moved.bytes() - before);
            turns += 1;
            tokio::task::yield_now().await;
        }
        let expected = TURN_BYTES / CHUNK_BYTES;
        assert!((expected / 2..2 * expected).contains(&most), "{most} chunks in one of {turns} turns");
    }
}
