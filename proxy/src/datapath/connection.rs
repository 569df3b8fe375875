//! Request after request on one client's connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::Instant;

use super::Worker;
use super::answer;
use super::body::Pump;
use super::context::{Client, Context, WorkerContext};
use super::delivery::{Origin, Sent, may_try_again};
use super::exchange::{Exchange, ExchangeError, Relayed};
use super::lifecycle::Lifecycle;
use super::read_head::{Arrived, Idle, read_head};
use super::relay::Relay;
use super::route::{self, NotForwarded, Plan};
use super::wait::Wait;
use crate::http::answer::Failure;
use crate::http::decoder::Decoder;
use crate::http::encode::Persistence;
use crate::http::framing::Framing;
use crate::net::Socket;
use crate::observe::Request;
use crate::tls::VerifiedClient;
use crate::upstream::{Checkout, Usage, Wanted, connect};

/// The most memory of one request that is lent to another, and of how many a worker keeps it: 2 MiB at most.
const MAX_SCRATCH_BYTES: usize = 8 * 1024;
const MAX_FREE_SCRATCHES: usize = 256;

/// A client's connection.
pub(super) struct Connection<'c, 't> {
    pub(super) socket: Socket,
    pub(super) client: &'c Client,
    /// What the client has shown in its handshake. Boxed: few do, and every idle connection has room for it.
    pub(super) certificate: Option<Box<VerifiedClient>>,
    /// The configuration of the request under checkout, or of the last one.
    pub(super) context: Rc<WorkerContext>,
    pub(super) local: &'c Worker,
    pub(super) lifecycle: &'c Lifecycle,
    pub(super) wait: Wait<'t>,
    pub(super) scratch: Scratch,
}

/// Scratch that a request needs, lent from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// The request's head and the response's, as they are sent on.
    pub(super) heads: [Vec<u8>; 2],
    /// What the log says of it.
    words: String,
}

/// Scratch of connections that have no request under checkout, for one worker.
#[derive(Default)]
pub(super) struct ScratchPool(RefCell<Vec<Scratch>>);

impl ScratchPool {
    fn take(&self) -> Scratch {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes memory back; what has grown much is let go.
    fn give(&self, scratch: Scratch) {
        let mut free = self.0.borrow_mut();
        let bytes = scratch.heads.iter().map(Vec::capacity).sum::<usize>() + scratch.words.capacity();
        if bytes <= MAX_SCRATCH_BYTES && free.len() < MAX_FREE_SCRATCHES {
            free.push(scratch);
        }
    }
}

/// What becomes of a client's connection after a request.
pub(super) enum Next {
    /// Another request may come.
    Persist,
    /// Everything was said: an orderly close, in which the client may read to the end.
    Close,
    /// Nothing was said, or asked.
    Leave,
    /// Something was left unsaid, and the client must be able to tell.
    Abort,
}

impl<'c> Connection<'c, '_> {
    /// Serves it to its end. `first_byte_due`: when a connection that says nothing is closed.
    pub(super) async fn serve(&mut self, first_byte_due: Instant) {
        let mut idle = Idle::Fresh { until: first_byte_due };
        loop {
            let arrived = read_head(&mut self.socket, &self.context, &mut self.wait, idle).await;
            // What came in the meantime belongs to the configuration in force by now.
            self.context = self.local.context();
            let next = match arrived {
                Arrived::Nothing => Next::Leave,
                Arrived::Head { length } => {
                    self.scratch = self.local.scratch_pool.take();
                    let next = self.request(length).await;
                    self.local.scratch_pool.give(std::mem::take(&mut self.scratch));
                    next
                }
                Arrived::Bad(failure) => {
                    let (context, mut words) = (Rc::clone(&self.context), String::new());
                    self.begin(&context, &mut words).refused(failure);
                    self.answer(failure, None).await
                }
            };
            match next {
                // The client may show its certificate again on another connection.
                Next::Persist if self.certificate.is_some() && !self.has_valid_certificate() => {
                    answer::close(&mut self.socket).await;
                    break;
                }
                Next::Persist => {
                    idle = Idle::Kept { until: Instant::now() + self.context.timeouts.keepalive };
                    // The next request is there already: without this, over a hundred would go before anybody else's.
                    if !self.socket.buffer.is_empty() {
                        yield_now().await;
                    }
                }
                Next::Close => {
                    answer::close(&mut self.socket).await;
                    break;
                }
                Next::Leave => {
                    answer::leave(&mut self.socket).await;
                    break;
                }
                Next::Abort => {
                    answer::abort(&self.socket);
                    break;
                }
            }
        }
    }

    /// One request, whose head is the first `length` bytes of the buffer.
    async fn request(&mut self, length: usize) -> Next {
        let (context, mut words) = (Rc::clone(&self.context), std::mem::take(&mut self.scratch.words));
        let mut request = self.begin(&context, &mut words);
        let next = self.route(length, &mut request).await;
        drop(request);
        self.scratch.words = words;
        next
    }

    /// A request that is counted and logged from now on.
    fn begin<'r>(&self, context: &'r Context, words: &'r mut String) -> Request<'r>
    where
        'c: 'r,
    {
        Request::new(self.client.sender(), words, &context.log, &context.metrics)
    }

    fn has_valid_certificate(&self) -> bool {
        let in_force = self.context.client_authority.as_ref();
        self.certificate.as_ref().is_some_and(|certificate| certificate.is_valid(in_force))
    }

    async fn route(&mut self, length: usize, request: &mut Request<'_>) -> Next {
        let head = &self.socket.buffer.filled()[..length];
        let mut scratch = std::mem::take(&mut self.scratch.heads[0]);
        // An answer may have been made in it.
        scratch.clear();
        let has_certificate = self.has_valid_certificate();
        let planned = route::plan(head, self.client, has_certificate, &self.context, request, scratch);
        self.socket.buffer.consume(length);
        match planned {
            Ok(plan) => self.forward(plan, request).await,
            Err((not_forwarded, scratch)) => {
                self.scratch.heads[0] = scratch;
                match not_forwarded {
                    NotForwarded::Refused { failure, traits } => {
                        request.refused(failure);
                        self.answer(failure, traits).await
                    }
                    NotForwarded::Options(traits) => {
                        request.answered_options();
                        self.answer_options(traits).await
                    }
                }
            }
        }
    }

    /// Sends the request on and the response back; on a second connection if the first was a pooled one that
    /// had died, and the request allows it.
    async fn forward(&mut self, plan: Plan, request: &mut Request<'_>) -> Next {
        let Plan { slot, most_body_bytes, traits, head_out } = plan;
        let (context, local, upstream) = (Rc::clone(&self.context), self.local, slot.upstream());
        let now = Instant::now();
        let decoder = Decoder::new(traits.framing, most_body_bytes);
        let pump = Pump::new(head_out, decoder.clone(), traits.framing == Framing::Chunked, now);
        let upstream_idle = upstream.idle.unwrap_or(context.timeouts.upstream_idle);
        let most_head_bytes = context.limits.response_head_bytes;
        let scratch = std::mem::take(&mut self.scratch.heads[1]);
        let relay = Relay::new(traits, most_head_bytes, upstream_idle, scratch);
        let is_stranger = self.client.is_stranger();
        let mut exchange =
            Exchange::new(pump, relay, &context.timeouts, self.lifecycle, &traits, is_stranger);
        // A body leaves together with its head.
        let all = if traits.framing == Framing::Empty { Sent::HeadWithoutBody } else { Sent::Body };
        let is_repeatable = may_try_again(Origin::Pooled, all, traits.idempotent);
        let mut checkout =
            local.pool.take_or_dial(Wanted { upstream, dns: &context.dns, is_repeatable }).await;
        loop {
            request.attempt();
            let (usage, stream) = match checkout {
                Checkout::Reused(stream, usage) => (usage, stream),
                Checkout::Dial { permit, waited } => {
                    let made = Instant::now();
                    let limit = context.timeouts.connect.saturating_sub(waited);
                    // Boxed: rare, and large.
                    let connected =
                        Box::pin(connect(upstream, &context.dns, limit, context.kernel_tls, &local.buffers))
                            .await;
                    drop(permit);
                    match connected {
                        Ok(stream) => (Usage::of_new(&stream, made), stream),
                        Err(error) => {
                            self.scratch.heads = exchange.into_scratch();
                            let failure = Failure::from(&error);
                            request.failed(failure, &error);
                            return self.answer(failure, Some(traits)).await;
                        }
                    }
                }
            };
            request.connected(usage.idle());
            let origin = if usage.idle().is_some() { Origin::Pooled } else { Origin::Fresh };
            exchange.begin_on(usage.idle());
            let mut socket = Socket::new(stream, &local.buffers);
            let outcome = exchange.run(&mut self.socket, &mut socket, &mut self.wait).await;
            let Socket { stream, buffer } = socket;
            let has_more = !buffer.is_empty();
            drop(buffer);
            if matches!(outcome, Err(ExchangeError::UpstreamGone(_))) {
                upstream.note_death(&usage);
                let sent = exchange.sent(traits.framing != Framing::Empty);
                if may_try_again(origin, sent, traits.idempotent) {
                    exchange.rewind(decoder.clone());
                    checkout = Checkout::Dial { permit: local.pool.dial(upstream), waited: Duration::ZERO };
                    continue;
                }
            }
            let moved = exchange.moved();
            context.metrics.body_bytes_copied.add(moved.copied);
            context.metrics.body_bytes_spliced.add(moved.spliced);
            let request_is_complete = exchange.request_is_complete();
            request.body(exchange.body_progress(&stream, &outcome));
            self.scratch.heads = exchange.into_scratch();
            return match outcome {
                Ok(Relayed { head, request_complete }) => {
                    request.relayed(head.status, head.at);
                    if let Some(age) = head.upstream_keep.filter(|_| request_complete && !has_more) {
                        local.pool.keep(upstream, stream, usage, age);
                    }
                    let persists = request_complete
                        && head.persistence != Persistence::Ended
                        && self.socket.stream.may_be_kept();
                    if persists { Next::Persist } else { Next::Close }
                }
                Err(ExchangeError::UpstreamGone(failure)) => {
                    note_gone(request, failure, usage.idle());
                    self.answer_forwarded(failure, traits, request_is_complete).await
                }
                Err(ExchangeError::Unanswered(failure)) => {
                    request.failed(failure, &failure.reason());
                    self.answer_forwarded(failure, traits, request_is_complete).await
                }
                Err(ExchangeError::Cut { failure, head }) => {
                    request.cut(failure, head.status, head.at);
                    if head.until_close { Next::Abort } else { Next::Close }
                }
                Err(ExchangeError::ClientGone(error)) => {
                    request.client_gone(&error);
                    Next::Abort
                }
            };
        }
    }
}

/// The upstream's connection has gone; `idle`: for how long it had been idle before the request, if it had.
fn note_gone(request: &mut Request<'_>, failure: Failure, idle: Option<Duration>) {
    let reason = failure.reason();
    match idle.map(|idle| idle.as_secs_f64()) {
        None => request.failed(failure, &reason),
        Some(idle) => {
            let detail = format_args!("{reason}, over a connection that had been idle for {idle:.3} s");
            request.failed(failure, &detail);
        }
    }
}
