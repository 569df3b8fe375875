//! The response's way: interim responses, the final head, the body.

use std::io;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::body::{Moved, Pump, PumpError, Side};
use super::route::Traits;
use crate::http::answer::Failure;
use crate::http::decoder::{BodyError, Decoder};
use crate::http::encode::{self, Persistence};
use crate::http::framing::Framing;
use crate::http::head::{EndOfHead, HeadError, slots};
use crate::http::response::{BadResponse, ResponseHead};
use crate::http::{CONTINUE, Version};
use crate::net::Socket;

/// The most interim responses that one request may have.
const MAX_INTERIM: u8 = 16;

pub(super) struct Relay {
    state: State,
    traits: Traits,
    most_head_bytes: usize,
    upstream_idle: Duration,
    interim_seen: u8,
    /// The client waits for a 100 that it has not had.
    continue_wanted: bool,
    /// Where the next head is made.
    scratch: Vec<u8>,
    /// Bytes of a body that has been relayed whole.
    moved: Moved,
}

enum State {
    Head(EndOfHead),
    Interim(Pump),
    Body { pump: Pump, head: FinalHead },
    Done(FinalHead),
}

/// What of the final response's head matters after it was sent on.
#[derive(Clone, Copy, Debug)]
pub(super) struct FinalHead {
    pub(super) status: u16,
    /// When it had come.
    pub(super) at: Instant,
    /// When the last of its body had come, if it has one and all of it was relayed.
    pub(super) ended: Option<Instant>,
    pub(super) persistence: Persistence,
    /// For how long the upstream's connection may be kept for another request; `None`: not at all.
    pub(super) upstream_keep: Option<Duration>,
    /// The body to the client ends with its connection.
    pub(super) until_close: bool,
}

/// Why a response did not get through.
#[derive(Debug)]
pub(super) enum RelayError {
    /// The upstream's connection ended before a byte of a response.
    NoResponse,
    /// The upstream's fault.
    Upstream(Failure),
    /// The client does not take it any more.
    Client(io::Error),
}

impl Relay {
    /// `most_head_bytes`: of each response head. `upstream_idle`: for how long the upstream's
    /// connection may be kept, if it does not say less.
    pub(super) fn new(
        traits: Traits,
        most_head_bytes: usize,
        upstream_idle: Duration,
        scratch: Vec<u8>,
    ) -> Self {
        Self {
            state: State::Head(EndOfHead::default()),
            traits,
            most_head_bytes,
            upstream_idle,
            interim_seen: 0,
            continue_wanted: traits.expects_continue,
            scratch,
            moved: Moved::default(),
        }
    }

    /// Ready when the whole response has been handed to the client's kernel. `may_persist`: whether
    /// the client's connection could take another request after it.
    pub(super) fn poll(
        &mut self,
        cx: &mut TaskContext<'_>,
        upstream: &mut Socket,
        client: &mut Socket,
        may_persist: bool,
    ) -> Poll<Result<FinalHead, RelayError>> {
        loop {
            match &mut self.state {
                State::Head(end) => match end.find(upstream.buffer.filled(), self.most_head_bytes) {
                    Ok(Some(length)) => self.head(length, upstream, may_persist)?,
                    Ok(None) => ready!(self.poll_more_head(cx, upstream))?,
                    Err(HeadError::TooLarge) => return upstream_failed(Failure::ResponseHeadTooLarge),
                    Err(_) => return upstream_failed(Failure::BadResponse("a line ends without CR")),
                },
                State::Interim(pump) => {
                    ready!(pump.poll(cx, upstream, &mut client.stream)).map_err(RelayError::from)?;
                    self.scratch = pump.take_scratch();
                    self.state = State::Head(EndOfHead::default());
                }
                State::Body { pump, head } => {
                    ready!(pump.poll(cx, upstream, &mut client.stream)).map_err(RelayError::from)?;
                    self.scratch = pump.take_scratch();
                    self.moved = pump.moved();
                    self.state = State::Done(FinalHead { ended: pump.last_read(), ..*head });
                }
                State::Done(head) => return Poll::Ready(Ok(*head)),
            }
        }
    }

    fn poll_more_head(
        &mut self,
        cx: &mut TaskContext<'_>,
        upstream: &mut Socket,
    ) -> Poll<Result<(), RelayError>> {
        upstream.buffer.grow_if_full(self.most_head_bytes.saturating_add(1));
        let nothing_came = upstream.buffer.is_empty() && self.interim_seen == 0;
        match ready!(upstream.poll_fill(cx)) {
            Ok(1..) => Poll::Ready(Ok(())),
            Err(error) if is_alert(&error) => upstream_failed(Failure::TlsAlert),
            Ok(0) | Err(_) if nothing_came => Poll::Ready(Err(RelayError::NoResponse)),
            Ok(0) | Err(_) => upstream_failed(Failure::ResponseIncomplete),
        }
    }

    /// A whole head of `length` bytes lies at the front of the upstream's buffer.
    fn head(&mut self, length: usize, upstream: &mut Socket, may_persist: bool) -> Result<(), RelayError> {
        let bytes = upstream.buffer.first(length);
        let mut slots = slots();
        let head = ResponseHead::parse(bytes, &mut slots, self.traits.is_head)
            .map_err(|BadResponse(why)| RelayError::Upstream(Failure::BadResponse(why)))?;
        let mut out = std::mem::take(&mut self.scratch);
        self.state = if head.is_interim() {
            self.interim_seen = self.interim_seen.saturating_add(1);
            if head.status == 101 || self.interim_seen > MAX_INTERIM {
                let why = "a 101 that nobody asked for, or too many interim responses";
                return Err(RelayError::Upstream(Failure::BadResponse(why)));
            }
            let wanted = if head.status == 100 { self.continue_wanted } else { true };
            self.continue_wanted &= head.status != 100;
            if wanted && self.traits.version == Version::Http11 {
                encode::response_head(&head, Version::Http11, Framing::Empty, Persistence::Implied, &mut out);
                State::Interim(Pump::head_only(out))
            } else {
                self.scratch = out;
                State::Head(EndOfHead::default())
            }
        } else {
            let framing_out = self.framing_out(&head);
            let persistence = self.persistence(framing_out, may_persist);
            encode::response_head(&head, self.traits.version, framing_out, persistence, &mut out);
            let now = Instant::now();
            let final_head = FinalHead {
                status: head.status,
                at: now,
                ended: None,
                persistence,
                upstream_keep: head.persists().then(|| self.keep_for(head.keep_alive_seconds())),
                until_close: framing_out == Framing::UntilClose,
            };
            let decoder = Decoder::of_response(head.framing);
            let pump = Pump::new(out, decoder, framing_out == Framing::Chunked, now);
            State::Body { pump, head: final_head }
        };
        upstream.buffer.consume(length);
        Ok(())
    }

    /// A little less than the upstream says, so that its close and our next request do not cross.
    fn keep_for(&self, said_seconds: Option<u64>) -> Duration {
        let said = said_seconds.map(Duration::from_secs);
        let shorter = |said: Duration| said.saturating_sub(Duration::from_secs(1)).max(said / 2);
        said.map_or(self.upstream_idle, |said| shorter(said).min(self.upstream_idle))
    }

    /// A body without a length goes in chunks to those who know them, so that a truncated one
    /// shows.
    fn framing_out(&self, head: &ResponseHead<'_>) -> Framing {
        match (head.framing, self.traits.version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
            (framing @ (Framing::Empty | Framing::Length(_)), _) => framing,
        }
    }

    fn persistence(&self, framing_out: Framing, may_persist: bool) -> Persistence {
        match self.traits.version {
            _ if !may_persist || framing_out == Framing::UntilClose => Persistence::Ended,
            Version::Http10 => Persistence::Promised,
            Version::Http11 => Persistence::Implied,
        }
    }

    /// Bytes of the body so far.
    pub(super) fn moved(&self) -> Moved {
        match &self.state {
            State::Body { pump, .. } => pump.moved(),
            State::Head(_) | State::Interim(_) | State::Done(_) => self.moved,
        }
    }

    /// How many bytes of the body the client's socket has been given.
    pub(super) fn given(&self) -> u64 {
        match &self.state {
            State::Body { pump, .. } => pump.given(),
            State::Head(_) | State::Interim(_) | State::Done(_) => self.moved.bytes(),
        }
    }

    /// Gives back the memory that heads were made in, empty.
    pub(super) fn into_scratch(self) -> Vec<u8> {
        self.scratch
    }

    /// Sends the client a 100 of our own if it still waits for one and no other response has begun.
    pub(super) fn send_continue(&mut self) {
        if self.continue_wanted && matches!(self.state, State::Head(_)) {
            self.continue_wanted = false;
            let mut out = std::mem::take(&mut self.scratch);
            out.extend_from_slice(CONTINUE);
            // What has arrived of the response's head stays in the buffer, and is looked at again.
            self.state = State::Interim(Pump::head_only(out));
        }
    }

    pub(super) fn wants_continue(&self) -> bool {
        self.continue_wanted && matches!(self.state, State::Head(_))
    }

    /// Whether a byte of the final response has been given to the client.
    pub(super) fn has_begun(&self) -> bool {
        match &self.state {
            State::Head(_) | State::Interim(_) => false,
            State::Body { pump, .. } => pump.has_written(),
            State::Done(_) => true,
        }
    }

    /// Whether the client has been given part of an interim response, and not all of it.
    pub(super) fn is_within_interim(&self) -> bool {
        matches!(&self.state, State::Interim(pump) if pump.has_written())
    }

    /// The final response's head, once it is there.
    pub(super) fn final_head(&self) -> Option<FinalHead> {
        match &self.state {
            State::Head(_) | State::Interim(_) => None,
            State::Body { head, .. } | State::Done(head) => Some(*head),
        }
    }

    /// While something is on its way to the client: the side that it waits for, and since when.
    pub(super) fn waits_for(&self) -> Option<(Side, Instant)> {
        match &self.state {
            State::Head(_) | State::Done(_) => None,
            State::Interim(pump) | State::Body { pump, .. } => Some((pump.waits_for(), pump.progress())),
        }
    }
}

impl From<PumpError> for RelayError {
    fn from(error: PumpError) -> Self {
        match error {
            PumpError::Write(error) => Self::Client(error),
            PumpError::Body(BodyError::Chunk(bad)) => Self::Upstream(Failure::BadResponse(bad.0)),
            PumpError::Read(_) | PumpError::Body(BodyError::Truncated | BodyError::TooLarge) => {
                Self::Upstream(Failure::ResponseIncomplete)
            }
        }
    }
}

/// Whether the upstream says why it does not go on; in TLS 1.3 it may do so after the handshake.
fn is_alert(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::AlertReceived(_)))
}

fn upstream_failed<T>(failure: Failure) -> Poll<Result<T, RelayError>> {
    Poll::Ready(Err(RelayError::Upstream(failure)))
}
