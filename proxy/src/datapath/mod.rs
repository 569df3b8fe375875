//! One connection's way: accept → handshake → read head → route → connect → forward and relay → count.

mod answer;
mod body;
mod context;
mod exchange;
mod handshake;
mod read_head;
mod relay;
mod route;

use std::net::SocketAddr;
use std::pin::Pin;

use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

pub use context::{Client, Context, Event, Protocol};

use crate::http::answer::Failure;
use crate::http::decoder::Decoder;
use crate::http::encode::Persistence;
use crate::net::{Buffer, Socket};
use crate::observe::Request;
use crate::upstream;
use body::Pump;
use exchange::{Exchange, ExchangeError, Relayed};
use read_head::Arrived;
use relay::Relay;
use route::{Plan, Refused};

/// A read buffer's size: a TLS record's content, and enough for most heads.
const BUFFER_BYTES: usize = 16 * 1024;

/// Serves one client's connection to its end.
pub async fn serve(tcp: TcpStream, peer: SocketAddr, protocol: Protocol, context: &Context, drain: Event) {
    let first_byte_due = Instant::now() + context.timeouts.request_head.min(context.timeouts.keepalive);
    let Some(stream) = handshake::handshake(tcp, &protocol, first_byte_due).await else { return };
    let socket = Socket { stream, buffer: Buffer::with_capacity(BUFFER_BYTES) };
    let timer = sleep_until(first_byte_due);
    tokio::pin!(timer);
    let client = Client::new(peer, &protocol);
    Connection { socket, client, context, drain, timer, scratch: Vec::new() }.serve(first_byte_due).await;
}

/// A client's connection.
struct Connection<'c, 't> {
    socket: Socket,
    client: Client,
    context: &'c Context,
    drain: Event,
    timer: Pin<&'t mut Sleep>,
    /// Memory for heads.
    scratch: Vec<u8>,
}

/// What becomes of a client's connection after a request.
enum Next {
    /// Another request may come.
    Persist,
    /// Everything was said: an orderly close.
    Close,
    /// Something was left unsaid, and the client must be able to tell.
    Abort,
}

impl Connection<'_, '_> {
    async fn serve(mut self, first_byte_due: Instant) {
        let mut idle_until = first_byte_due;
        loop {
            let arrived =
                read_head::read_head(&mut self.socket, self.context, &mut self.drain, idle_until).await;
            let next = match arrived {
                Arrived::Nothing => Next::Close,
                Arrived::Head { length } => self.request(length).await,
                Arrived::Bad(failure) => {
                    let mut request = Request::new(self.client.address, self.context.log);
                    request.refused(failure);
                    self.answer(failure, None).await
                }
            };
            match next {
                Next::Persist => idle_until = Instant::now() + self.context.timeouts.keepalive,
                Next::Close => return answer::close(self.socket).await,
                Next::Abort => return answer::abort(&self.socket),
            }
        }
    }

    /// One request, whose head is the first `length` bytes of the buffer.
    async fn request(&mut self, length: usize) -> Next {
        let mut request = Request::new(self.client.address, self.context.log);
        let head = &self.socket.buffer.filled()[..length];
        let scratch = std::mem::take(&mut self.scratch);
        let planned = route::plan(head, &self.client, self.context, &mut request, scratch);
        self.socket.buffer.consume(length);
        match planned {
            Ok(plan) => self.forward(plan, &mut request).await,
            Err((Refused { failure, traits }, scratch)) => {
                self.scratch = scratch;
                request.refused(failure);
                self.answer(failure, traits).await
            }
        }
    }

    /// Connects, forwards the request and relays the response.
    async fn forward(&mut self, plan: Plan, request: &mut Request) -> Next {
        let Plan { upstream, traits, head_out } = plan;
        let context = self.context;
        let stream = match upstream::connect(&upstream, &context.dns, context.timeouts.connect).await {
            Ok(stream) => stream,
            Err(error) => {
                let failure = Failure::from(&error);
                request.failed(failure, &error);
                return self.answer(failure, Some(traits)).await;
            }
        };
        request.connected();
        let mut upstream = Socket { stream, buffer: Buffer::with_capacity(BUFFER_BYTES) };
        let most = if context.limits.body_bytes == 0 { u64::MAX } else { context.limits.body_bytes };
        let chunked = traits.framing == crate::http::framing::Framing::Chunked;
        let pump = Pump::new(head_out, Decoder::new(traits.framing, most), chunked);
        let relay = Relay::new(traits, &context.limits, Vec::new());
        let mut exchange = Exchange::new(pump, relay, &context.timeouts, &self.drain, traits.persists);
        let outcome = exchange.run(&mut self.socket, &mut upstream, self.timer.as_mut()).await;
        self.scratch = exchange.relay.into_scratch();
        match outcome {
            Ok(Relayed { head, request_complete }) => {
                request.relayed(head.status);
                let persists = request_complete && head.persistence != Persistence::Ended;
                if persists { Next::Persist } else { Next::Close }
            }
            Err(ExchangeError::Unanswered(failure)) => {
                request.failed(failure, &failure.reason());
                self.answer_and_close(failure, traits.is_head).await
            }
            Err(ExchangeError::Cut { failure, head }) => {
                request.cut(failure, head.status);
                if head.until_close { Next::Abort } else { Next::Close }
            }
            Err(ExchangeError::ClientGone(error)) => {
                request.client_gone(&error);
                Next::Abort
            }
        }
    }
}
