use std::task;

use tokio::time::Instant;

use super::context::Context;
use super::wait::{Elapsed, Wait};
use crate::http::answer::Failure;
use crate::http::head::EndOfHead;
use crate::net::Socket;

/// The result of waiting for a request.
pub(super) enum Arrived {
    /// A whole head lies at the front of the buffer.
    Head { length: usize },
    /// Something that is no head; answered, then closed.
    Bad(Failure),
    /// No request came: closed silently.
    Nothing,
}

/// When a connection without a byte of the next request is closed.
pub(super) enum Idle {
    /// Its first request may be on its way, and is served even by a process that drains: its client
    /// was let in.
    Fresh { until: Instant },
    /// Its next request may never come: a process that drains does not wait for it.
    Kept { until: Instant },
}

/// Waits for the next request's head.
pub(super) async fn read_head(
    client: &mut Socket,
    context: &Context,
    wait: &mut Wait<'_>,
    idle: Idle,
) -> Arrived {
    if client.buffer.is_empty() {
        let mut fill = |cx: &mut task::Context<'_>| client.poll_fill(cx);
        let filled = match idle {
            Idle::Fresh { until } => wait.until(until, &mut fill).await,
            Idle::Kept { until } => wait.until_or_drain(until, &mut fill).await,
        };
        match filled {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) | Err(Elapsed) => return Arrived::Nothing,
        }
    }
    let mut deadline = None;
    let limits = context.head_limits();
    let mut end = EndOfHead::default();
    let mut start_skipped = false;
    loop {
        // A robust server ignores an empty line before the request line (RFC 9112 §2.2): one.
        if !start_skipped && client.buffer.filled().starts_with(b"\r\n") {
            client.buffer.consume(2);
            end = EndOfHead::default();
            start_skipped = true;
        }
        match end.find_request(client.buffer.filled(), &limits) {
            Ok(Some(2)) => {
                return Arrived::Bad(Failure::BadRequest("an empty line instead of a request line"));
            }
            Ok(Some(length)) => return Arrived::Head { length },
            Ok(None) => {}
            Err(error) => return Arrived::Bad(error.into()),
        }
        client.buffer.grow_if_full(limits.bytes.saturating_add(1));
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + context.timeouts.request_head);
        match wait.until(deadline, |cx| client.poll_fill(cx)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return Arrived::Bad(Failure::BadRequest("the request head is incomplete")),
            Err(Elapsed) => return Arrived::Bad(Failure::ClientTimeout),
        }
    }
}
