//! A client's connection, and the stages that it shares between its requests.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::client::Client;
use super::context::{Context, WorkerContext};
use super::exchange::{ExchangeError, Relayed};
use super::lifecycle::Lifecycle;
use super::route::{self, ClientCertificate, NotForwarded, Plan, Traits};
use super::scratch::Scratch;
use super::wait::Wait;
use super::worker::Worker;
use crate::http::answer::Failure;
use crate::http::encode::Persistence;
use crate::net::{Socket, Stream};
use crate::observe::{Request, Steps};
use crate::tls::VerifiedClient;
use crate::upstream::{Checkout, ConnectError, Upstream, Usage, connect};

/// A client's connection.
pub(super) struct Connection<'c, 't> {
    pub(super) socket: Socket,
    pub(super) client: &'c Client,
    /// The client's certificate. Boxed: few have one, and every idle connection has room for it.
    pub(super) certificate: Option<Box<VerifiedClient>>,
    /// The configuration of the request under way, or of the last one.
    pub(super) context: Rc<WorkerContext>,
    pub(super) worker: &'c Worker,
    pub(super) lifecycle: &'c Lifecycle,
    pub(super) wait: Wait<'t>,
    pub(super) scratch: Scratch,
    /// The steps of its beginning, while requests are followed.
    pub(super) arrival: Option<Box<Steps>>,
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
    /// Begins to count and log a request.
    pub(super) fn begin<'r>(&self, context: &'r Context, words: &'r mut String) -> Request<'r>
    where
        'c: 'r,
    {
        Request::new(self.client.sender(), self.socket.buffer.filled(), words, &context.log, &context.metrics)
    }

    fn client_certificate(&self) -> ClientCertificate {
        match &self.certificate {
            None => ClientCertificate::NotShown,
            Some(shown) if shown.is_valid(self.context.client_authority.as_ref()) => ClientCertificate::Valid,
            Some(_) => ClientCertificate::Lapsed,
        }
    }

    /// The stage *route*. `length`: of the head at the front of the buffer, which is used up.
    pub(super) fn route(&mut self, length: usize, request: &mut Request<'_>) -> Result<Plan, NotForwarded> {
        let head = self.socket.buffer.first(length);
        let mut scratch = std::mem::take(&mut self.scratch.heads[0]);
        // An answer may have been made in it.
        scratch.clear();
        let certificate = self.client_certificate();
        let observed = &mut self.scratch.observed;
        let planned = route::plan(head, self.client, certificate, &self.context, request, scratch, observed);
        self.socket.buffer.consume(length);
        planned.map_err(|(not_forwarded, scratch)| {
            self.scratch.heads[0] = scratch;
            not_forwarded
        })
    }

    /// Answers a request that is not forwarded.
    pub(super) async fn refuse(&mut self, why: NotForwarded, request: &mut Request<'_>) -> Next {
        match why {
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

    /// The stage *connect or reuse*: the connection that was checked out, or a new one.
    pub(super) async fn connect_or_reuse(
        &self,
        checkout: Checkout<'_>,
        upstream: &Arc<Upstream>,
        steps: Option<&Steps>,
    ) -> Result<(Stream, Usage), ConnectError> {
        match checkout {
            Checkout::Reused(stream, usage) => Ok((stream, usage)),
            Checkout::Dial { permit, waited } => {
                let (context, made) = (&self.context, Instant::now());
                let limit = context.timeouts.connect.saturating_sub(waited);
                let connecting =
                    connect(upstream, &context.dns, limit, context.kernel_tls, &self.worker.buffers, steps);
                // Boxed: rare, and large.
                let connected = Box::pin(connecting).await;
                drop(permit);
                connected.map(|stream| {
                    let usage = Usage::of_new(&stream, made);
                    (stream, usage)
                })
            }
        }
    }

    /// What a request comes to whose exchange has ended: its upstream's connection may be kept, its
    /// client may have to be answered. `request_is_complete`: all of it was sent.
    pub(super) async fn conclude(
        &mut self,
        outcome: Result<Relayed, ExchangeError>,
        used: Used<'_>,
        traits: Traits,
        request_is_complete: bool,
        request: &mut Request<'_>,
    ) -> Next {
        match outcome {
            Ok(Relayed { head, request_complete }) => {
                request.relayed(head.status, head.at);
                if let Some(age) = head.upstream_keep.filter(|_| request_complete && !used.has_more) {
                    self.worker.pool.keep(used.upstream, used.stream, used.usage, age);
                }
                let persists = request_complete
                    && head.persistence != Persistence::Ended
                    && self.socket.stream.may_be_kept();
                if persists { Next::Persist } else { Next::Close }
            }
            Err(ExchangeError::UpstreamGone(failure)) => {
                note_gone(request, failure, used.usage.idle());
                self.answer_forwarded(failure, traits, request_is_complete).await
            }
            Err(ExchangeError::BeforeResponse(failure)) => {
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
        }
    }
}

/// An upstream's connection after an exchange.
pub(super) struct Used<'u> {
    pub(super) upstream: &'u Arc<Upstream>,
    pub(super) stream: Stream,
    pub(super) usage: Usage,
    /// Bytes came that belong to no response.
    pub(super) has_more: bool,
}

/// The upstream's connection has gone; `idle`: for how long it had been idle before the request, if
/// it had.
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
