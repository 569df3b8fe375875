//! One request and its response between two connections, both directions at once, with every
//! deadline.

use std::future::poll_fn;
use std::io;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::body::{Moved, Pump, PumpError, Side};
use super::delivery::Sent;
use super::lifecycle::{Lifecycle, Stage};
use super::observed::Observed;
use super::pace::Pace;
use super::relay::{FinalHead, Relay, RelayError};
use super::route::Traits;
use super::wait::Wait;
use crate::config::Timeouts;
use crate::http::answer::Failure;
use crate::http::decoder::{BodyError, Decoder};
use crate::net::{Socket, Stream};
use crate::observe::{BodyProgress, Steps, TraceStep};

/// When the client is told to go on if the upstream has not done so; the contract says within a
/// second.
const CONTINUE_DELAY: Duration = Duration::from_millis(700);

/// One exchange under way.
pub(super) struct Exchange<'a> {
    forward: Forward,
    relay: Relay,
    timeouts: &'a Timeouts,
    lifecycle: &'a Lifecycle,
    begun: Instant,
    /// The client allows another request on its connection.
    persists: bool,
    /// Of the request's body, where its head tells it.
    length: Option<u64>,
    /// The upstream's connection may lead nowhere any more.
    doubt: Option<Doubt>,
    /// Of a stranger's bodies; whose else may take as long as they want.
    pace: Option<Pace>,
    hang_up: HangUp,
}

/// Whether the client has hung up before its answer came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HangUp {
    /// It makes no difference.
    Ignored,
    Awaited,
    /// After it had waited for so long.
    Noticed(Duration),
}

/// A firewall may have forgotten a connection that was idle, and drop what is sent over it.
#[derive(Clone, Copy)]
struct Doubt {
    /// When the request began to be sent.
    since: Instant,
    /// When something must have been acknowledged.
    until: Instant,
    /// The connection was idle for so long that a firewall may well have forgotten it.
    was_idle_long: bool,
}

/// No firewall forgets a connection sooner.
const LONG_IDLE: Duration = Duration::from_secs(5);
/// What fits into one packet on any path (RFC 8200 §5: 1280 bytes with its headers). Larger packets
/// may be lost for their size, until the kernel has found out which pass (RFC 4821).
const MAX_SMALL_BYTES: u64 = 1200;

/// The request's way.
struct Forward {
    pump: Pump,
    state: ForwardState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ForwardState {
    Running,
    /// All of it has been handed to the upstream's kernel.
    Complete {
        at: Instant,
    },
    /// The upstream takes no more of it; a response may come all the same.
    Broken {
        at: Instant,
    },
}

/// An exchange that went through: the client has the whole response.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) head: FinalHead,
    /// The upstream took the whole request.
    pub(super) request_complete: bool,
}

/// An exchange that did not.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The upstream's connection ended, or was found to lead nowhere, before a byte of a response.
    UpstreamGone(Failure),
    /// No byte of the final response was sent: the client can be told.
    BeforeResponse(Failure),
    /// The response had begun; all that can be done is not to complete it.
    Cut { failure: Failure, head: FinalHead },
    /// The client went away.
    ClientGone(io::Error),
}

impl<'a> Exchange<'a> {
    /// `is_message`: whether it counts that the client hangs up before its answer comes.
    pub(super) fn new(
        request: Pump,
        relay: Relay,
        timeouts: &'a Timeouts,
        lifecycle: &'a Lifecycle,
        traits: &Traits,
        is_stranger: bool,
        is_message: bool,
    ) -> Self {
        let begun = request.progress();
        let forward = Forward { pump: request, state: ForwardState::Running };
        let (persists, length) = (traits.persists, traits.framing.length());
        let pace = is_stranger.then(|| Pace::new(begun));
        let hang_up = if is_message { HangUp::Awaited } else { HangUp::Ignored };
        Self { forward, relay, timeouts, lifecycle, begun, persists, length, doubt: None, pace, hang_up }
    }

    /// What comes next goes over a new connection, or one that has been `idle` for so long.
    pub(super) fn begin_on(&mut self, idle: Option<Duration>) {
        let since = Instant::now();
        self.doubt = idle.map(|idle| Doubt {
            since,
            until: since + self.timeouts.connect,
            was_idle_long: idle >= LONG_IDLE,
        });
    }

    /// Runs to the end.
    pub(super) async fn run(
        &mut self,
        client: &mut Socket,
        upstream: &mut Socket,
        wait: &mut Wait<'_>,
    ) -> Result<Relayed, ExchangeError> {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = self.poll(cx, client, upstream) {
                    return Poll::Ready(outcome);
                }
                let Some((deadline, due)) = self.next_deadline() else { return Poll::Pending };
                ready!(wait.poll_deadline(cx, deadline));
                match due {
                    Due::Continue => self.relay.send_continue(),
                    Due::Failure(failure) => return Poll::Ready(Err(self.failed(failure))),
                    Due::Doubt(doubt) => match self.resolve(doubt, &upstream.stream) {
                        Ok(doubt) => self.doubt = doubt,
                        Err(failure) => return Poll::Ready(Err(ExchangeError::UpstreamGone(failure))),
                    },
                    Due::Pace(mut pace) => {
                        if !pace.is_kept(self.moved_by_client(client), self.timeouts.body_idle) {
                            return Poll::Ready(Err(self.client_is_slow()));
                        }
                        self.pace = Some(pace);
                    }
                    Due::ClientGone => {
                        return Poll::Ready(Err(ExchangeError::ClientGone(io::ErrorKind::TimedOut.into())));
                    }
                }
            }
        })
        .await
    }

    fn poll(
        &mut self,
        cx: &mut TaskContext<'_>,
        client: &mut Socket,
        upstream: &mut Socket,
    ) -> Poll<Result<Relayed, ExchangeError>> {
        if !self.waits_for_client()
            && let Some(pace) = &mut self.pace
        {
            pace.excuse();
        }
        if self.forward.state == ForwardState::Running
            && let Poll::Ready(outcome) = self.forward.pump.poll(cx, client, &mut upstream.stream)
        {
            match outcome {
                Ok(()) => self.forward.state = ForwardState::Complete { at: Instant::now() },
                Err(PumpError::Write(_)) => self.forward.state = ForwardState::Broken { at: Instant::now() },
                Err(PumpError::Read(error)) => return Poll::Ready(Err(ExchangeError::ClientGone(error))),
                Err(PumpError::Body(BodyError::Truncated)) => {
                    let error = io::ErrorKind::UnexpectedEof.into();
                    return Poll::Ready(Err(ExchangeError::ClientGone(error)));
                }
                Err(PumpError::Body(BodyError::Chunk(bad))) => {
                    return Poll::Ready(Err(self.failed(Failure::BadRequest(bad.0))));
                }
                Err(PumpError::Body(BodyError::TooLarge)) => {
                    return Poll::Ready(Err(self.failed(Failure::BodyTooLarge)));
                }
            }
        }
        self.look_for_hang_up(cx, client);
        let request_complete = self.request_is_complete();
        let may_persist = self.persists && request_complete && !self.lifecycle.has_reached(Stage::Replaced);
        match self.relay.poll(cx, upstream, client, may_persist) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(head)) => Poll::Ready(Ok(Relayed { head, request_complete })),
            Poll::Ready(Err(RelayError::NoResponse)) => {
                Poll::Ready(Err(ExchangeError::UpstreamGone(Failure::ConnectionTerminated)))
            }
            Poll::Ready(Err(RelayError::Upstream(failure))) => Poll::Ready(Err(self.failed(failure))),
            Poll::Ready(Err(RelayError::Client(error))) => Poll::Ready(Err(ExchangeError::ClientGone(error))),
        }
    }

    /// The answer is written all the same: some clients say that they send no more, and read on.
    fn look_for_hang_up(&mut self, cx: &mut TaskContext<'_>, client: &mut Socket) {
        let Some(waited) = self.waited_for_response().filter(|_| self.hang_up == HangUp::Awaited) else {
            return;
        };
        // What has come already is another request.
        if client.buffer.is_empty() && client.stream.poll_hang_up(cx).is_ready() {
            self.hang_up = HangUp::Noticed(waited);
        }
    }

    /// When the request was sent, and its response came and was written.
    pub(super) fn note_steps(&self, outcome: &Result<Relayed, ExchangeError>, steps: &Steps) {
        if let ForwardState::Complete { at } = self.forward.state {
            steps.at(TraceStep::Sent, at);
        }
        if let Some(head) = self.relay.final_head() {
            steps.at(TraceStep::ResponseHead, head.at);
        }
        if let Ok(Relayed { head, .. }) = outcome {
            steps.at(TraceStep::Response, head.ended.unwrap_or(head.at));
            steps.now(TraceStep::Written);
        }
    }

    /// How long the client had waited for the response when it hung up; `None`: it has not.
    pub(super) fn hung_up_after(&self) -> Option<Duration> {
        match self.hang_up {
            HangUp::Noticed(waited) => Some(waited),
            HangUp::Ignored | HangUp::Awaited => None,
        }
    }

    /// Whether the whole request was taken from the client and sent.
    pub(super) fn request_is_complete(&self) -> bool {
        matches!(self.forward.state, ForwardState::Complete { .. })
    }

    /// How long the client has waited for the response to its whole request; `None`: not at all, or
    /// there is one.
    pub(super) fn waited_for_response(&self) -> Option<Duration> {
        match self.forward.state {
            ForwardState::Complete { at } if self.relay.final_head().is_none() => Some(at.elapsed()),
            _ => None,
        }
    }

    /// Bytes of both bodies so far.
    pub(super) fn moved(&self) -> Moved {
        self.forward.pump.moved().plus(self.relay.moved())
    }

    /// Whether it is the client that nothing goes on without.
    fn waits_for_client(&self) -> bool {
        match self.relay.waits_for() {
            Some((Side::Sink, _)) => true,
            // An upstream may say no more before it has the rest of the request.
            Some((Side::Source, _)) | None => {
                self.forward.state == ForwardState::Running && self.forward.pump.waits_for() == Side::Source
            }
        }
    }

    /// How many bytes of bodies have come from the client, and got to it.
    fn moved_by_client(&self, client: &Socket) -> u64 {
        let got = self.relay.given().saturating_sub(client.stream.unacknowledged_bytes());
        self.forward.pump.moved().bytes().saturating_add(got)
    }

    /// The client has moved less than the least rate.
    fn client_is_slow(&self) -> ExchangeError {
        if self.relay.waits_for().is_none() {
            return self.failed(Failure::ClientTimeout);
        }
        let why = "its bodies moved at less than 1 KiB a second";
        ExchangeError::ClientGone(io::Error::new(io::ErrorKind::TimedOut, why))
    }

    /// What is left of a doubt when its time is over.
    ///
    /// Errors: nothing was acknowledged.
    fn resolve(&self, doubt: Doubt, upstream: &Stream) -> Result<Option<Doubt>, Failure> {
        if upstream.has_been_acknowledged_since(doubt.since) {
            return Ok(None);
        }
        let until = doubt.since + self.timeouts.body_idle;
        let may_be_too_large = !doubt.was_idle_long && upstream.unacknowledged_bytes() > MAX_SMALL_BYTES;
        if may_be_too_large && until > doubt.until {
            return Ok(Some(Doubt { until, ..doubt }));
        }
        Err(Failure::Unacknowledged)
    }

    /// How far the request's body got to `upstream`.
    pub(super) fn body_progress(
        &self,
        upstream: &Stream,
        outcome: &Result<Relayed, ExchangeError>,
    ) -> BodyProgress {
        let pump = &self.forward.pump;
        // The length of a chunked body is known once all of it has come.
        let length = if self.request_is_complete() { Some(pump.moved().bytes()) } else { self.length };
        let acknowledged = match outcome {
            // An upstream that answered a whole request has received it.
            Ok(Relayed { request_complete: true, .. }) => pump.moved().bytes(),
            // The socket's queue may hold some of the head, too: this is a lower bound.
            _ => pump.given().saturating_sub(upstream.unacknowledged_bytes()),
        };
        BodyProgress { length, acknowledged }
    }

    /// The look at the request's body, once.
    pub(super) fn take_observed(&mut self) -> Option<Box<Observed>> {
        self.forward.pump.take_observed()
    }

    /// Gives back the memory that heads were made in: the request's and the response's, empty.
    pub(super) fn into_scratch(mut self) -> [Vec<u8>; 2] {
        [self.forward.pump.take_scratch(), self.relay.into_scratch()]
    }

    /// What of the request the kernel has accepted; `has_body`: the request has one.
    pub(super) fn sent(&self, has_body: bool) -> Sent {
        let pump = &self.forward.pump;
        match (pump.has_written(), pump.can_rewind()) {
            (_, false) => Sent::Body,
            (false, true) => Sent::Nothing,
            (true, true) if has_body => Sent::HeadBeforeBody,
            (true, true) => Sent::HeadWithoutBody,
        }
    }

    /// Makes ready to send the request on another connection; nothing of its body may have been
    /// taken.
    pub(super) fn rewind(&mut self, decoder: Decoder) {
        self.forward.pump.rewind(decoder);
        self.forward.state = ForwardState::Running;
    }

    fn failed(&self, failure: Failure) -> ExchangeError {
        if self.relay.is_within_interim() {
            // An answer would be taken for the rest of it.
            let why = format!("it had taken part of an interim response when {}", failure.reason());
            return ExchangeError::ClientGone(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        match self.relay.final_head() {
            Some(head) if self.relay.has_begun() => ExchangeError::Cut { failure, head },
            _ => ExchangeError::BeforeResponse(failure),
        }
    }

    /// The earliest of what is waited for, and what its passing means.
    fn next_deadline(&self) -> Option<(Instant, Due)> {
        let idle = self.timeouts.body_idle;
        let relaying = self.relay.waits_for().map(|(side, since)| match side {
            Side::Source => (since + idle, Due::Failure(Failure::ResponseTimeout)),
            Side::Sink => (since + idle, Due::ClientGone),
        });
        let pump = &self.forward.pump;
        let forwarding = match self.forward.state {
            // While the response is on its way, the request may take its time, or never come.
            _ if relaying.is_some() => None,
            ForwardState::Running => Some(match pump.waits_for() {
                Side::Source => (pump.progress() + idle, Due::Failure(Failure::ClientTimeout)),
                Side::Sink => (pump.progress() + idle, Due::Failure(Failure::ResponseTimeout)),
            }),
            ForwardState::Complete { at } | ForwardState::Broken { at } => {
                Some((at + self.timeouts.response, Due::Failure(Failure::ResponseTimeout)))
            }
        };
        let doubt = self.doubt.filter(|_| relaying.is_none());
        let doubt = doubt.map(|doubt| (doubt.until, Due::Doubt(doubt)));
        let continuing = self.relay.wants_continue().then_some((self.begun + CONTINUE_DELAY, Due::Continue));
        let pace = self.pace.filter(|_| self.waits_for_client());
        let pace = pace.map(|pace| (pace.due(idle), Due::Pace(pace)));
        [doubt, relaying, forwarding, continuing, pace]
            .into_iter()
            .flatten()
            .min_by_key(|(deadline, _)| *deadline)
    }
}

/// What the passing of a deadline means.
#[derive(Clone, Copy)]
enum Due {
    /// The client is told to send its body.
    Continue,
    Failure(Failure),
    /// By now the upstream must have acknowledged something.
    Doubt(Doubt),
    /// By now a stranger's bodies must have come some way.
    Pace(Pace),
    /// The client takes nothing.
    ClientGone,
}

#[cfg(test)]
mod tests;
