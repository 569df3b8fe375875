//! The way of a request: accept → identify → admit → handshake → read head → route → connect or
//! reuse → forward and relay → count. Each stage has a file; this one is the way itself. Accepting
//! is the listener's (`server/worker/threads.rs`).

// Peers decide most lengths here.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, clippy::expect_used, clippy::indexing_slicing))]

mod admit;
mod answer;
mod body;
mod client;
mod connection;
mod context;
mod delivery;
mod exchange;
mod handshake;
mod lifecycle;
mod observed;
mod pace;
mod protocol;
pub mod proxy_protocol;
mod read_head;
mod redirect;
mod relay;
mod route;
mod scratch;
mod strangers;
mod wait;
mod worker;

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout_at};

pub use admit::Admission;
pub use context::Context;
pub use lifecycle::{Lifecycle, Stage};
pub use protocol::Protocol;
pub use redirect::Redirect;
pub use worker::Worker;

use crate::http::answer::Failure;
use crate::http::decoder::Decoder;
use crate::http::framing::Framing;
use crate::net::Socket;
use crate::observe::{ConnectionRefusal, Handshake, Loss, LostAt, Request, Step, Steps, TraceStep};
use crate::upstream::{Checkout, Wanted};
use body::Pump;
use client::Client;
use connection::{Connection, Next, Used};
use delivery::{Origin, Sent, may_try_again};
use exchange::{Exchange, ExchangeError};
use handshake::{NoSession, Shaken};
use read_head::{Arrived, Idle, read_head};
use relay::Relay;
use route::Plan;
use scratch::Scratch;
use wait::Wait;

/// Serves one client's connection to its end.
pub async fn serve(
    mut tcp: TcpStream,
    peer: SocketAddr,
    protocol: Protocol,
    worker: &Worker,
    lifecycle: Lifecycle,
) {
    let (context, accepted) = (worker.context(), Instant::now());
    let first_byte_due = accepted + context.timeouts.request_head.min(context.timeouts.keepalive);
    // Boxed: what happens once in a connection's life needs memory only for as long.
    let identify = Box::pin(Client::identify(&mut tcp, peer, &protocol, &context));
    let Ok(Ok(client)) = timeout_at(first_byte_due, identify).await else {
        return context.metrics.refused_connection(ConnectionRefusal::ProxyProtocol);
    };
    let count = |step| {
        // A client that is redirected to https is not on the way to an upstream.
        if !matches!(protocol, Protocol::Redirect(_)) {
            context.metrics.funnel.count(client.counter, step);
        }
    };
    count(Step::Accepted);
    if !client.is_stranger() && !matches!(protocol, Protocol::Redirect(_)) {
        context.metrics.losses.count_connection(client.counter);
    }
    let _slot = match context.admission.admit(client.address, client.class) {
        Ok(slot) => slot,
        Err(why) => return context.metrics.refused_connection(why),
    };
    let is_stranger = client.is_stranger();
    let arrival = arrival(&context, &client, peer, accepted);
    if let Some(arrival) = &arrival
        && matches!(protocol, Protocol::Https(..))
        // However it ends, the handshake tells.
        && let Ok(Ok(())) = timeout_at(first_byte_due, tcp.readable()).await
    {
        arrival.now(TraceStep::ClientHello);
    }
    let handshake = Box::pin(handshake::handshake(
        tcp,
        &protocol,
        first_byte_due,
        // A stranger has no use for it, and need not reach that part of the kernel.
        context.kernel_tls.filter(|_| !is_stranger),
        &worker.buffers,
        is_stranger.then_some(&worker.strangers),
    ));
    let Shaken { stream, certificate, group } = match handshake.await {
        Ok(done) => done,
        Err(NoSession::Refused) => {
            count(Step::TlsFailed);
            return context.metrics.refused_connection(ConnectionRefusal::Handshakes);
        }
        Err(NoSession::Ended { outcome, cause }) => {
            if outcome != Handshake::AcmeChallenge {
                count(Step::TlsFailed);
            }
            if let Some(cause) = cause.filter(|_| !is_stranger) {
                let (counter, lost_at) = (client.counter, LostAt::Tls);
                context.metrics.lost(Loss { counter, upstream: None, lost_at, cause });
            }
            return context.metrics.handshake(outcome);
        }
    };
    if matches!(protocol, Protocol::Https(..)) {
        count(Step::Tls);
        arrival.iter().for_each(|arrival| arrival.now(TraceStep::Tls));
        context.metrics.completed_handshake(group);
    }
    let mut socket = Socket::new(stream, &worker.buffers);
    let (timer, drain) = (pin!(sleep_until(first_byte_due)), pin!(lifecycle.reached(Stage::Draining)));
    let mut wait = Wait { timer, drain };
    if let Protocol::Redirect(to) = &protocol {
        return Box::pin(redirect::serve(&mut socket, to, &context, &mut wait, first_byte_due)).await;
    }
    let (client, lifecycle) = (&client, &lifecycle);
    let (certificate, scratch) = (certificate.map(Box::new), Scratch::default());
    let mut connection =
        Connection { socket, client, certificate, context, worker, lifecycle, wait, scratch, arrival };
    let requests = pin!(connection.serve(first_byte_due));
    if is_stranger {
        worker.strangers_time.run(requests, || worker.is_shared()).await;
    } else {
        requests.await;
    }
}

/// The steps of a connection's beginning, while requests are followed.
fn arrival(context: &Context, client: &Client, peer: SocketAddr, accepted: Instant) -> Option<Box<Steps>> {
    let steps = context.metrics.tracer.steps()?;
    // Behind a load balancer the handshake is that one's.
    if client.address == peer.ip().to_canonical() {
        context.metrics.tracer.note_handshake(peer, &steps);
    }
    steps.at(TraceStep::Accepted, accepted);
    Some(steps)
}

impl Connection<'_, '_> {
    /// Serves request after request. `first_byte_due`: when a connection that sends nothing is
    /// closed.
    async fn serve(&mut self, first_byte_due: Instant) {
        let mut idle = Idle::Fresh { until: first_byte_due };
        loop {
            let arrived = read_head(&mut self.socket, &self.context, &mut self.wait, idle).await;
            // What came in the meantime belongs to the configuration in force by now.
            self.context = self.worker.context();
            let next = match arrived {
                Arrived::Nothing => Next::Leave,
                Arrived::Head { length } => {
                    self.scratch = self.worker.scratch_pool.take();
                    // Boxed: idle connections hold no memory for it, and requests under way use the
                    // same memory in turn, which stays in the caches.
                    let next = Box::pin(self.request(length)).await;
                    self.worker.scratch_pool.give(std::mem::take(&mut self.scratch));
                    next
                }
                Arrived::Bad(failure) => {
                    let (context, mut words) = (Rc::clone(&self.context), String::new());
                    let mut request = self.begin(&context, &mut words);
                    request.refused(failure);
                    request.finish();
                    self.answer(failure, None).await
                }
            };
            match next {
                Next::Persist => {
                    idle = Idle::Kept { until: Instant::now() + self.context.timeouts.keepalive };
                    // The next request is there already: without this, over a hundred would go
                    // before anybody else's.
                    if !self.socket.buffer.is_empty() {
                        yield_now().await;
                    }
                }
                Next::Close => return answer::close(&mut self.socket).await,
                Next::Leave => return answer::leave(&mut self.socket).await,
                Next::Abort => return answer::abort(&self.socket),
            }
        }
    }

    /// One request, whose head is the first `length` bytes of the buffer.
    async fn request(&mut self, length: usize) -> Next {
        let (context, mut words) = (Rc::clone(&self.context), std::mem::take(&mut self.scratch.words));
        let mut request = self.begin(&context, &mut words);
        request.follow(self.arrival.take());
        let next = match self.route(length, &mut request) {
            Ok(plan) => {
                request.step(TraceStep::Route);
                self.forward(plan, &mut request).await
            }
            Err(why) => self.refuse(why, &mut request).await,
        };
        request.finish();
        self.scratch.words = words;
        next
    }

    /// Sends the request on and the response back; on a second connection if the first was a pooled
    /// one that had died, and the request allows it.
    async fn forward(&mut self, plan: Plan, request: &mut Request<'_>) -> Next {
        let Plan { slot, most_body_bytes, traits, head_out, observed } = plan;
        let (context, worker, upstream) = (Rc::clone(&self.context), self.worker, slot.upstream());
        let decoder = Decoder::new(traits.framing, most_body_bytes);
        let is_chunked = traits.framing == Framing::Chunked;
        let pump = Pump::new(head_out, decoder.clone(), is_chunked, Instant::now()).observed(observed);
        let relay = Relay::new(
            traits,
            context.limits.response_head_bytes,
            upstream.settings().upstream_idle.unwrap_or(context.timeouts.upstream_idle),
            std::mem::take(&mut self.scratch.heads[1]),
        );
        let is_stranger = self.client.is_stranger();
        let is_message = request.is_message();
        let mut exchange =
            Exchange::new(pump, relay, &context.timeouts, self.lifecycle, &traits, is_stranger, is_message);
        // A body leaves together with its head.
        let all = if traits.framing == Framing::Empty { Sent::HeadWithoutBody } else { Sent::Body };
        let is_repeatable = may_try_again(Origin::Pooled, all, traits.idempotent);
        let mut checkout =
            worker.pool.take_or_dial(Wanted { upstream, dns: &context.dns, is_repeatable }).await;
        loop {
            request.attempt();
            let (stream, usage) = match self.connect_or_reuse(checkout, upstream, request.steps()).await {
                Ok(connected) => connected,
                Err(error) => {
                    self.scratch.observed = exchange.take_observed();
                    self.scratch.heads = exchange.into_scratch();
                    let failure = Failure::from(&error);
                    request.failed(failure, &error);
                    return self.answer(failure, Some(traits)).await;
                }
            };
            request.connected(usage.idle());
            let origin = if usage.idle().is_some() { Origin::Pooled } else { Origin::Fresh };
            exchange.begin_on(usage.idle());
            let mut socket = Socket::new(stream, &worker.buffers);
            let outcome = exchange.run(&mut self.socket, &mut socket, &mut self.wait).await;
            let Socket { stream, buffer } = socket;
            let has_more = !buffer.is_empty();
            drop(buffer);
            if matches!(outcome, Err(ExchangeError::UpstreamGone(_))) {
                upstream.note_death(&usage);
                let sent = exchange.sent(traits.framing != Framing::Empty);
                if may_try_again(origin, sent, traits.idempotent) {
                    exchange.rewind(decoder.clone());
                    checkout = Checkout::Dial { permit: worker.pool.dial(upstream), waited: Duration::ZERO };
                    continue;
                }
            }
            let moved = exchange.moved();
            context.metrics.body_bytes_copied.add(moved.copied);
            context.metrics.body_bytes_spliced.add(moved.spliced);
            request.body(exchange.body_progress(&stream, &outcome));
            request.waited(exchange.waited_for_response());
            request.hung_up(exchange.hung_up_after());
            if let Some(steps) = request.steps() {
                exchange.note_steps(&outcome, steps);
            }
            let request_is_complete = exchange.request_is_complete();
            if let Some(mut observed) = exchange.take_observed() {
                observed.end(request_is_complete, request);
                self.scratch.observed = Some(observed);
            }
            self.scratch.heads = exchange.into_scratch();
            let used = Used { upstream, stream, usage, has_more };
            return self.conclude(outcome, used, traits, request_is_complete, request).await;
        }
    }
}
