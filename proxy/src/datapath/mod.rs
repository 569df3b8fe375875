//! One connection's way: identify → admit → handshake → read head → route → connect → forward and relay → count.

mod admit;
mod answer;
mod body;
mod connection;
mod context;
mod delivery;
mod exchange;
mod handshake;
pub mod proxy_protocol;
mod read_head;
mod redirect;
mod relay;
mod route;

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

pub use admit::{Admission, Class};
pub use context::{Context, Event, Protocol};
pub use redirect::Redirect;

use crate::net::{Buffers, Socket};
use crate::observe::{ConnectionRefusal, Handshake, Step};
use crate::upstream::Pool;
use connection::Connection;
use context::Client;

/// A read buffer's size: a TLS record's content, and enough for most heads.
const BUFFER_BYTES: usize = 16 * 1024;
/// Buffers that a worker keeps while nobody uses them: 1 MiB of them.
const MOST_FREE_BUFFERS: usize = 64;

/// What the connections of one worker share.
pub struct Local {
    pub pool: Pool,
    buffers: Rc<Buffers>,
}

impl Default for Local {
    fn default() -> Self {
        Self { pool: Pool::default(), buffers: Buffers::new(BUFFER_BYTES, MOST_FREE_BUFFERS).into() }
    }
}

/// Serves one client's connection to its end.
pub async fn serve(
    mut tcp: TcpStream,
    peer: SocketAddr,
    protocol: Protocol,
    context: &Context,
    local: &Local,
    drain: Event,
) {
    let first_byte_due = Instant::now() + context.timeouts.request_head.min(context.timeouts.keepalive);
    let identified = timeout_at(first_byte_due, Client::identify(&mut tcp, peer, &protocol, context)).await;
    let Ok(Ok(client)) = identified else {
        return context.metrics.refused_connection(ConnectionRefusal::ProxyProtocol);
    };
    // Who is only led to https is on no way to an upstream.
    let count = |step| {
        if !matches!(protocol, Protocol::Redirect(_)) {
            context.metrics.funnel.count(client.row, step);
        }
    };
    count(Step::Accepted);
    let _slot = match context.admission.admit(client.address, client.row) {
        Ok(slot) => slot,
        Err(why) => return context.metrics.refused_connection(why),
    };
    let stream = match handshake::handshake(tcp, &protocol, first_byte_due).await {
        Ok(stream) => stream,
        Err(outcome) => {
            count(Step::TlsFailed);
            return context.metrics.handshake(outcome);
        }
    };
    if matches!(protocol, Protocol::Https(_)) {
        count(Step::Tls);
        context.metrics.handshake(Handshake::Completed);
    }
    let mut socket = Socket::new(stream, &local.buffers);
    if let Protocol::Redirect(to) = &protocol {
        let mut drain = drain;
        return redirect::serve(&mut socket, to, context, &mut drain, first_byte_due).await;
    }
    let timer = sleep_until(first_byte_due);
    tokio::pin!(timer);
    let connection = Connection { socket, client, context, local, drain, timer, scratch: Default::default() };
    connection.serve(first_byte_due).await;
}
