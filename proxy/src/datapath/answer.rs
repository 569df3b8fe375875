//! Our own answers, and the ends of connections.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::{Connection, Next};
use super::lifecycle::Stage;
use super::route::Traits;
use crate::http::Version;
use crate::http::answer::{self, Failure};
use crate::http::chunked::Step;
use crate::http::decoder::Decoder;
use crate::http::encode::Persistence;
use crate::http::framing::Framing;
use crate::net::Socket;
use crate::observe::clock;

/// How long a closing connection is still read from, so that the client gets to read what was said.
const LINGER: Duration = Duration::from_secs(2);
/// How much is read and thrown away in that time.
const LINGER_BYTES: usize = 4 << 20;

impl Connection<'_, '_> {
    /// Answers a request none of whose body was taken; `traits` where its head was valid.
    pub(super) async fn answer(&mut self, failure: Failure, traits: Option<Traits>) -> Next {
        let is_head = traits.is_some_and(|traits| traits.is_head);
        let persistence = self.persistence(traits.filter(|_| !failure.ends_connection()));
        let (name, date) = (&self.context.name, clock::imf_fixdate());
        let out = &mut self.scratch.heads[0];
        out.clear();
        answer::write(failure, name, &date, persistence, !is_head, out);
        self.write_answer(persistence).await.unwrap_or(Next::Abort)
    }

    /// Answers an OPTIONS request that must not be forwarded, and none of whose body was taken.
    pub(super) async fn answer_options(&mut self, traits: Traits) -> Next {
        let persistence = self.persistence(Some(traits));
        let out = &mut self.scratch.heads[0];
        out.clear();
        answer::write_options(&self.context.name, &clock::imf_fixdate(), persistence, out);
        self.write_answer(persistence).await.unwrap_or(Next::Abort)
    }

    /// What becomes of the client's connection after an answer of ours, where the next request can
    /// be found.
    fn persistence(&mut self, traits: Option<Traits>) -> Persistence {
        let may_persist = |traits: &Traits| {
            traits.persists
                && !self.lifecycle.has_reached(Stage::Replaced)
                && skip_body(&mut self.socket, *traits)
        };
        match traits.filter(may_persist) {
            None => Persistence::Ended,
            Some(Traits { version: Version::Http10, .. }) => Persistence::Promised,
            Some(Traits { version: Version::Http11, .. }) => Persistence::Implied,
        }
    }

    /// Answers a request that was forwarded, `whole` or in part; in part, its connection cannot go
    /// on.
    pub(super) async fn answer_forwarded(&mut self, failure: Failure, traits: Traits, whole: bool) -> Next {
        let persists = traits.persists && whole;
        // Nothing of a body is left to be skipped.
        self.answer(failure, Some(Traits { persists, framing: Framing::Empty, ..traits })).await
    }

    /// Writes the answer that was made in the memory for heads.
    async fn write_answer(&mut self, persistence: Persistence) -> Option<Next> {
        let out = &self.scratch.heads[0];
        let stream = &mut self.socket.stream;
        let written = timeout(self.context.timeouts.body_idle, async {
            stream.write_all(out).await?;
            stream.flush().await
        });
        written.await.ok()?.ok()?;
        Some(if persistence == Persistence::Ended { Next::Close } else { Next::Persist })
    }
}

/// Skips a body that is in the buffer as a whole; otherwise the next request cannot be found.
fn skip_body(client: &mut Socket, traits: Traits) -> bool {
    let mut decoder = Decoder::new(traits.framing, u64::MAX);
    loop {
        match decoder.step(client.buffer.filled()) {
            Ok(Step::Data { skip, length }) => client.buffer.consume(skip.saturating_add(length)),
            Ok(Step::End { skip, .. }) => {
                client.buffer.consume(skip);
                return true;
            }
            Ok(Step::More { .. }) | Err(_) => return false,
        }
    }
}

/// An orderly close: says that nothing more will come, then lets the client finish reading. A close
/// with unread input would reset the connection and could take the last answer with it.
pub(super) async fn close(client: &mut Socket) {
    let deadline = Instant::now() + LINGER;
    if !shutdown(client, deadline).await {
        return;
    }
    let mut left = LINGER_BYTES;
    while left > 0 {
        client.buffer.consume(client.buffer.filled().len());
        match timeout_at(deadline, poll_fn(|cx| client.poll_fill(cx))).await {
            Ok(Ok(count @ 1..)) => left = left.saturating_sub(count),
            _ => return,
        }
    }
}

/// Closes a connection on which nothing is under way.
pub(super) async fn leave(client: &mut Socket) {
    shutdown(client, Instant::now() + LINGER).await;
}

/// Says that nothing more will come; whether that was possible.
async fn shutdown(client: &mut Socket, deadline: Instant) -> bool {
    let said = poll_fn(|cx| Pin::new(&mut client.stream).poll_shutdown(cx));
    matches!(timeout_at(deadline, said).await, Ok(Ok(())))
}

/// A close that no client can take for the end of a body: a reset. With TLS, too: some clients do
/// without close_notify.
pub(super) fn abort(client: &Socket) {
    if let Some(tcp) = client.stream.tcp() {
        // When it cannot be set, the close is an ordinary one: there is nothing better left to do.
        let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}
