//! Reads a body as its framing says, from whatever pieces it arrives in.

use super::chunked::{BadChunk, Chunked, Step};
use super::framing::Framing;

/// How far a body has been read.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of content that may still come.
    allowed: u64,
}

#[derive(Clone, Debug)]
enum State {
    Length { left: u64 },
    Chunked(Chunked),
    UntilClose,
}

/// Why a body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    Chunk(BadChunk),
    /// More content than is allowed.
    TooLarge,
    /// It ended before its framing said so.
    Truncated,
}

impl Decoder {
    /// `most`: how many bytes of content are allowed.
    pub fn new(framing: Framing, most: u64) -> Self {
        let state = match framing {
            Framing::Empty => State::Length { left: 0 },
            Framing::Length(length) => State::Length { left: length.get() },
            Framing::Chunked => State::Chunked(Chunked::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, allowed: most }
    }

    /// A response's; as much content is allowed as comes.
    pub fn of_response(framing: Framing) -> Self {
        let mut decoder = Self::new(framing, u64::MAX);
        if let State::Chunked(chunked) = &mut decoder.state {
            *chunked = Chunked::of_response();
        }
        decoder
    }

    /// Looks at `input`, which begins where the last step's bytes ended.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        let step = match &mut self.state {
            State::Length { left: 0 } => Step::End { skip: 0, trailers: 0..0 },
            State::Length { .. } | State::UntilClose if input.is_empty() => Step::More { skip: 0 },
            State::Length { left } => {
                let length = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                *left = left.saturating_sub(length as u64);
                Step::Data { skip: 0, length }
            }
            State::Chunked(chunked) => chunked.step(input).map_err(BodyError::Chunk)?,
            State::UntilClose => Step::Data { skip: 0, length: input.len() },
        };
        if let Step::Data { length, .. } = step {
            self.allowed = self.allowed.checked_sub(length as u64).ok_or(BodyError::TooLarge)?;
        }
        Ok(step)
    }

    /// How much content is sure to come next, without framing in between.
    pub fn content_left(&self) -> u64 {
        match &self.state {
            State::Length { left } => *left,
            State::Chunked(chunked) => chunked.data_left(),
            State::UntilClose => u64::MAX,
        }
    }

    /// `count` bytes of that content were taken without being looked at.
    pub fn take(&mut self, count: u64) -> Result<(), BodyError> {
        match &mut self.state {
            State::Length { left } => *left = left.saturating_sub(count),
            State::Chunked(chunked) => chunked.take(count),
            State::UntilClose => {}
        }
        self.allowed = self.allowed.checked_sub(count).ok_or(BodyError::TooLarge)?;
        Ok(())
    }

    /// Whether all content of a body with a length has been taken.
    pub fn is_at_end(&self) -> bool {
        matches!(self.state, State::Length { left: 0 })
    }

    /// The sender has closed: fine only where that is what ends the body.
    pub fn end_of_input(&self) -> Result<(), BodyError> {
        match self.state {
            State::UntilClose | State::Length { left: 0 } => Ok(()),
            State::Length { .. } | State::Chunked(_) => Err(BodyError::Truncated),
        }
    }
}
