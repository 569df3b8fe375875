//! One body's way, from one socket to the other, behind the head that goes before it: through the
//! source's buffer, or through a pipe where neither socket's bytes need looking at.

mod moved;
mod read;

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::observed::Observed;
use crate::http::chunked::{Step, relay_trailers};
use crate::http::decoder::{BodyError, Decoder};
use crate::http::framing::Framing;
use crate::net::{PassError, Pipe, Socket, Stream};
pub use moved::Moved;
use read::Read;

/// Chunks of up to this size are copied together, so that a small body leaves in one write with its
/// head.
const GATHER_BYTES: usize = 4096;
/// After so much that was spliced, others get their turn.
const TURN_BYTES: u64 = 1 << 20;
/// What a copied byte costs, as bytes that are spliced: mostly it is decrypted and encrypted.
const COPIED_COST: u64 = 4;
/// What a chunk costs beside its content, in the same way.
const CHUNK_BYTES: u64 = 256;

/// Moves a head and its body. Nothing is read while something waits to be written, so one read
/// buffer bounds what lies here, and back-pressure goes through.
#[derive(Debug)]
pub struct Pump {
    decoder: Decoder,
    chunked: bool,
    phase: Phase,
    outgoing: Outgoing,
    /// Something of the body was taken out of the source's buffer.
    has_consumed: bool,
    waits_for: Side,
    progress: Instant,
    /// When something was read last.
    last_read: Option<Instant>,
    moved: Moved,
    /// Chunks, or parts of them, that were looked at one by one.
    chunks: u64,
    /// What looks at the content that goes out.
    observed: Option<Box<Observed>>,
}

/// What a pump does next. `is_last`: nothing of the body comes after it.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Decodes, and reads where there is nothing to decode.
    Gathering,
    Writing {
        is_last: bool,
    },
    /// What was written may still be in the sink's TLS session.
    Flushing {
        is_last: bool,
    },
    Done,
}

/// The bytes to write, in this order.
#[derive(Debug)]
struct Outgoing {
    /// Kept to the end: it may have to go out once more, on another connection.
    head: Vec<u8>,
    head_written: usize,
    /// Framing, and small chunks whole.
    frame: Vec<u8>,
    frame_written: usize,
    content: Content,
    tail: &'static [u8],
}

/// Content that follows the frame.
#[derive(Debug)]
enum Content {
    None,
    /// Number of bytes at the front of the source's buffer; at least one.
    Buffered(usize),
    Piped(Pipe),
}

impl Content {
    fn buffered(length: usize) -> Self {
        if length == 0 { Self::None } else { Self::Buffered(length) }
    }

    fn length(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Buffered(length) => *length,
            Self::Piped(pipe) => pipe.filled(),
        }
    }
}

impl Outgoing {
    fn new(head: Vec<u8>) -> Self {
        let (head_written, frame_written) = (0, 0);
        Self { head, head_written, frame: Vec::new(), frame_written, content: Content::None, tail: b"" }
    }

    fn is_empty(&self) -> bool {
        let [head, frame] = self.unwritten();
        head.is_empty() && frame.is_empty() && matches!(self.content, Content::None) && self.tail.is_empty()
    }

    /// Whether it is enough for a write.
    fn is_enough(&self) -> bool {
        !matches!(self.content, Content::None) || !self.tail.is_empty() || self.frame.len() >= GATHER_BYTES
    }

    /// Of head and frame.
    fn unwritten(&self) -> [&[u8]; 2] {
        [(&self.head, self.head_written), (&self.frame, self.frame_written)]
            .map(|(bytes, written)| bytes.get(written..).unwrap_or_default())
    }
}

/// Why gathering ended.
enum Gathered {
    /// The source has nothing more at the moment.
    Dry,
    /// Enough for a write, or the end.
    Batch { is_last: bool },
    /// Content went right into the sink's session.
    Passed { is_last: bool },
}

/// The side that a pump waits for.
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

impl PumpError {
    /// A TLS peer that closes without saying so has cut its body short.
    fn of_read(self) -> Self {
        match self {
            Self::Read(error) if error.kind() == io::ErrorKind::UnexpectedEof => BodyError::Truncated.into(),
            error => error,
        }
    }
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
            phase: Phase::Gathering,
            outgoing: Outgoing::new(head),
            has_consumed: false,
            waits_for: Side::Source,
            progress: now,
            last_read: None,
            moved: Moved::default(),
            chunks: 0,
            observed: None,
        }
    }

    /// The same, with a look at its content.
    pub fn observed(self, observed: Option<Box<Observed>>) -> Self {
        Self { observed, ..self }
    }

    /// What has looked at the content, once.
    pub fn take_observed(&mut self) -> Option<Box<Observed>> {
        self.observed.take()
    }

    /// Whether content has to come through the source's buffer.
    fn is_observing(&self) -> bool {
        self.observed.as_ref().is_some_and(|observed| observed.is_looking())
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
        let turn_ends = self.work().saturating_add(TURN_BYTES);
        loop {
            match self.phase {
                Phase::Gathering => match self.gather(cx, source, sink)? {
                    Gathered::Dry if self.outgoing.is_empty() => {
                        self.waits_for = Side::Source;
                        return Poll::Pending;
                    }
                    Gathered::Dry => self.phase = Phase::Writing { is_last: false },
                    Gathered::Batch { is_last } => self.phase = Phase::Writing { is_last },
                    Gathered::Passed { is_last } => self.phase = Phase::Flushing { is_last },
                },
                Phase::Writing { is_last } if self.outgoing.is_empty() => {
                    self.phase = Phase::Flushing { is_last };
                }
                Phase::Writing { .. } => {
                    self.waits_for = Side::Sink;
                    ready!(self.poll_write(cx, source, sink)).map_err(PumpError::Write)?;
                }
                Phase::Flushing { is_last } => {
                    self.waits_for = Side::Sink;
                    ready!(Pin::new(&mut *sink).poll_flush(cx)).map_err(PumpError::Write)?;
                    self.phase = if is_last { Phase::Done } else { Phase::Gathering };
                    if !is_last && self.work() >= turn_ends {
                        // A task that wakes itself runs again, some 60 times, before the runtime
                        // looks at the sockets; this one runs after it has.
                        return pin!(yield_now()).poll(cx).map(Ok);
                    }
                }
                Phase::Done => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Decodes until there is enough for a write, reading what is there to be read.
    fn gather(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Stream,
    ) -> Result<Gathered, PumpError> {
        while !self.outgoing.is_enough() {
            match self.decoder.step(source.buffer.filled())? {
                Step::Data { skip, length } => {
                    self.chunks = self.chunks.saturating_add(u64::from(self.chunked));
                    self.consume(skip, source);
                    self.take_content(length, source);
                }
                Step::End { skip, trailers } => {
                    if self.chunked {
                        self.outgoing.frame.extend_from_slice(b"0\r\n");
                        let trailers = source.buffer.filled().get(trailers).unwrap_or_default();
                        relay_trailers(trailers, &mut self.outgoing.frame);
                    }
                    self.consume(skip, source);
                    return Ok(Gathered::Batch { is_last: true });
                }
                Step::More { skip } => {
                    self.consume(skip, source);
                    let Poll::Ready(read) = self.poll_read(cx, source, sink) else {
                        return Ok(Gathered::Dry);
                    };
                    match read.map_err(PumpError::of_read)? {
                        Read::End => {
                            self.end_of_input()?;
                            return Ok(Gathered::Batch { is_last: true });
                        }
                        Read::Buffered | Read::Spliced => self.has_read(),
                        Read::Passed => {
                            self.has_read();
                            return Ok(Gathered::Passed { is_last: self.is_decoded() });
                        }
                    }
                }
            }
        }
        Ok(Gathered::Batch { is_last: self.is_decoded() })
    }

    fn has_read(&mut self) {
        self.progress = Instant::now();
        self.last_read = Some(self.progress);
    }

    /// When something was read last; `None`: all of it had come already.
    pub fn last_read(&self) -> Option<Instant> {
        self.last_read
    }

    /// Whether nothing of the body is left to be decoded. The end of a chunked body is a step of
    /// its own.
    fn is_decoded(&self) -> bool {
        !self.chunked && self.decoder.is_at_end()
    }

    /// What was done so far, as bytes that were spliced.
    fn work(&self) -> u64 {
        let copied = self.moved.copied.saturating_mul(COPIED_COST);
        self.moved.spliced.saturating_add(copied).saturating_add(self.chunks.saturating_mul(CHUNK_BYTES))
    }

    fn consume(&mut self, count: usize, source: &mut Socket) {
        source.buffer.consume(count);
        self.has_consumed |= count > 0;
    }

    /// Writes once.
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut Socket,
        sink: &mut Stream,
    ) -> Poll<io::Result<()>> {
        let outgoing = &mut self.outgoing;
        let [head, frame] = outgoing.unwritten();
        let is_framed = head.is_empty() && frame.is_empty();
        if let (true, Content::Piped(pipe)) = (is_framed, &mut outgoing.content) {
            ready!(sink.poll_drain(cx, pipe))?;
            self.progress = Instant::now();
            if pipe.filled() == 0
                && let Content::Piped(pipe) = std::mem::replace(&mut outgoing.content, Content::None)
            {
                source.buffer.pipes().give(pipe);
            }
            return Poll::Ready(Ok(()));
        }
        let [head, frame] = outgoing.unwritten();
        let (content, tail) = match outgoing.content {
            // What follows a pipe's content has to wait for it.
            Content::Piped(_) => (0, &b""[..]),
            Content::None => (0, outgoing.tail),
            Content::Buffered(length) => (length, outgoing.tail),
        };
        let slices = [head, frame, source.buffer.first(content), tail].map(IoSlice::new);
        let count = ready!(Pin::new(sink).poll_write_vectored(cx, &slices))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.wrote(count, content, source);
        Poll::Ready(Ok(()))
    }

    /// `count` bytes went out: of the head, then of the frame, `content` bytes of content, the
    /// tail.
    fn wrote(&mut self, count: usize, content: usize, source: &mut Socket) {
        let outgoing = &mut self.outgoing;
        let [head, frame] = outgoing.unwritten();
        let of_head = count.min(head.len());
        let behind_head = count.saturating_sub(of_head);
        let of_frame = behind_head.min(frame.len());
        let behind_frame = behind_head.saturating_sub(of_frame);
        let of_content = behind_frame.min(content);
        let of_tail = behind_frame.saturating_sub(of_content);
        outgoing.head_written = outgoing.head_written.saturating_add(of_head);
        outgoing.frame_written = outgoing.frame_written.saturating_add(of_frame);
        outgoing.tail = outgoing.tail.get(of_tail..).unwrap_or_default();
        if outgoing.frame_written == outgoing.frame.len() {
            outgoing.frame.clear();
            outgoing.frame_written = 0;
        }
        if content > 0 {
            outgoing.content = Content::buffered(content.saturating_sub(of_content));
            // Behind the write, so that no byte waits for it.
            if let Some(observed) = &mut self.observed {
                observed.look_at(source.buffer.first(of_content));
            }
            self.consume(of_content, source);
        }
        self.progress = Instant::now();
    }

    /// Whether the sink has been given anything.
    pub fn has_written(&self) -> bool {
        self.outgoing.head_written > 0
    }

    /// Whether nothing of the body was taken out of the source's buffer, so that all could be sent
    /// anew.
    pub fn can_rewind(&self) -> bool {
        !self.has_consumed
    }

    /// The same head and body from the start, whose decoder is `decoder`; nothing may have been
    /// consumed.
    pub fn rewind(&mut self, decoder: Decoder) {
        debug_assert!(self.can_rewind());
        let head = std::mem::take(&mut self.outgoing.head);
        let observed = self.observed.take();
        *self = Self::new(head, decoder, self.chunked, Instant::now()).observed(observed);
    }

    /// The side that the pump waits for.
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
        let [_, frame] = self.outgoing.unwritten();
        let waiting = self.outgoing.content.length().saturating_add(frame.len());
        self.moved.bytes().saturating_sub(waiting as u64)
    }

    /// Gives back the head's memory, empty.
    pub fn take_scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.outgoing.head);
        scratch.clear();
        scratch
    }
}

#[cfg(test)]
mod tests;
