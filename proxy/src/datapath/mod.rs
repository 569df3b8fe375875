//! One connection's way: identify → admit → handshake → read head → route → connect → forward and relay → count.

mod admit;
mod answer;
mod body;
mod connection;
mod context;
mod delivery;
mod exchange;
mod handshake;
mod lifecycle;
mod pace;
pub mod proxy_protocol;
mod read_head;
mod redirect;
mod relay;
mod route;
mod strangers;
mod wait;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

pub use admit::Admission;
pub use context::{Context, Protocol};
pub use lifecycle::{Lifecycle, Stage};
pub use redirect::Redirect;

use crate::net::{Buffers, Limits, Socket, StrangersHandshakes};
use crate::observe::{ConnectionRefusal, Handshake, Step};
use crate::prefixes::Class;
use crate::upstream::Pool;
use connection::{Connection, Scratch, ScratchPool};
use context::{Client, WorkerContext};
use handshake::NoSession;
use strangers::StrangersTime;
use wait::Wait;

/// What a worker spends on content on its way, beyond a buffer for each connection that has something in it: at most
/// 0.6 MiB of free small buffers, as much in large ones, and 16 MiB of the kernel's in pipes.
const MEMORY: Limits = Limits { free: 32, large: 8, pipes: 16 };

/// What the connections of one worker share.
pub struct Worker {
    /// Counted for this worker alone: each request takes it.
    context: RefCell<Rc<WorkerContext>>,
    pool: Pool,
    buffers: Rc<Buffers>,
    scratch_pool: ScratchPool,
    strangers: StrangersHandshakes,
    strangers_time: StrangersTime,
}

impl Worker {
    pub fn new(context: Arc<Context>) -> Self {
        let context = RefCell::new(WorkerContext::new(context));
        let buffers = Buffers::new(MEMORY);
        let (pool, scratch_pool, strangers, strangers_time) = Default::default();
        Self { context, pool, buffers, scratch_pool, strangers, strangers_time }
    }

    /// What the next request is served with.
    pub fn context(&self) -> Rc<WorkerContext> {
        Rc::clone(&self.context.borrow())
    }

    /// Looks after idle connections to upstreams, for ever.
    pub async fn sweep(&self) {
        self.pool.sweep(|| Arc::clone(&self.context().dns)).await;
    }

    /// Gives strangers their turns, in TLS handshakes and in all that comes behind, for ever.
    pub async fn give_turns(&self) {
        tokio::join!(self.strangers.give_turns(|| self.is_shared()), self.strangers_time.give());
    }

    /// Whether somebody is connected who is no stranger.
    fn is_shared(&self) -> bool {
        let context = self.context();
        let connected = |class| context.admission.count(class) > 0;
        connected(Class::Meta) || connected(Class::Allowed)
    }

    /// From now on requests are served with another.
    pub fn set_context(&self, context: Arc<Context>) {
        *self.context.borrow_mut() = WorkerContext::new(context);
    }
}

/// Serves one client's connection to its end.
pub async fn serve(
    mut tcp: TcpStream,
    peer: SocketAddr,
    protocol: Protocol,
    local: &Worker,
    lifecycle: Lifecycle,
) {
    let context = local.context();
    let first_byte_due = Instant::now() + context.timeouts.request_head.min(context.timeouts.keepalive);
    // What happens once in a connection's lifecycle has its memory only for as long: boxed.
    let identify = Box::pin(Client::identify(&mut tcp, peer, &protocol, &context));
    let identified = timeout_at(first_byte_due, identify).await;
    let Ok(Ok(client)) = identified else {
        return context.metrics.refused_connection(ConnectionRefusal::ProxyProtocol);
    };
    // Who is only led to https is on no way to an upstream.
    let count = |step| {
        if !matches!(protocol, Protocol::Redirect(_)) {
            context.metrics.funnel.count(client.counter, step);
        }
    };
    count(Step::Accepted);
    let _slot = match context.admission.admit(client.address, client.class) {
        Ok(slot) => slot,
        Err(why) => return context.metrics.refused_connection(why),
    };
    let is_stranger = client.is_stranger();
    let (stream, certificate) = match Box::pin(handshake::handshake(
        tcp,
        &protocol,
        first_byte_due,
        // A stranger has no use for it, and need not reach that part of the kernel.
        context.kernel_tls.filter(|_| !is_stranger),
        &local.buffers,
        is_stranger.then_some(&local.strangers),
    ))
    .await
    {
        Ok(done) => done,
        Err(NoSession::Refused) => {
            count(Step::TlsFailed);
            return context.metrics.refused_connection(ConnectionRefusal::Handshakes);
        }
        Err(NoSession::Ended(outcome)) => {
            if outcome != Handshake::AcmeChallenge {
                count(Step::TlsFailed);
            }
            return context.metrics.handshake(outcome);
        }
    };
    if matches!(protocol, Protocol::Https(..)) {
        count(Step::Tls);
        context.metrics.handshake(Handshake::Completed);
    }
    let mut socket = Socket::new(stream, &local.buffers);
    let (timer, draining) = (pin!(sleep_until(first_byte_due)), pin!(lifecycle.reached(Stage::Draining)));
    let mut wait = Wait { timer, drain: draining };
    if let Protocol::Redirect(to) = &protocol {
        return Box::pin(redirect::serve(&mut socket, to, &context, &mut wait, first_byte_due)).await;
    }
    let scratch = Scratch::default();
    let certificate = certificate.map(Box::new);
    let mut connection = Connection {
        socket,
        client: &client,
        certificate,
        context,
        local,
        lifecycle: &lifecycle,
        wait,
        scratch,
    };
    let serving = pin!(connection.serve(first_byte_due));
    if is_stranger {
        local.strangers_time.run(serving, || local.is_shared()).await;
    } else {
        serving.await;
    }
}
