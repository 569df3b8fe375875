//! What the parent tells the worker: a JSON text a line, over a socket of its own. The worker belongs to another user, whom a
//! signal would take a capability to reach.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;

use super::{ParentError, message};
use crate::observe::Log;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) enum Order {
    /// Read the configuration again.
    Reload,
    /// Read the certificates' files again, which have changed.
    ReadCertificates,
    /// Ask for the states of the guarded interfaces, which have changed.
    AskForInterfaces,
    /// Another process has taken over: drain, and answer no operator any more.
    StepAside,
    /// Drain; the second one cuts.
    Stop,
}

/// The parent's end.
#[derive(Clone, Debug)]
pub(super) struct Commander(Arc<StdUnixStream>);

/// The worker's end.
#[derive(Debug)]
pub(in super::super) struct Orders(Lines<BufReader<UnixStream>>);

/// The ends of a new way from the parent to the worker.
pub(super) fn way() -> io::Result<(Commander, StdUnixStream)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    // A worker that hangs does not hold up its parent.
    ours.set_nonblocking(true)?;
    Ok((Commander(Arc::new(ours)), theirs))
}

impl Commander {
    /// Says so where it can't: the worker is ending, or hangs.
    pub(super) fn give(&self, order: Order, log: &Log) {
        let sent = message::line(&order).and_then(|line| message::send(&*self.0, &line, None));
        if let Err(error) = sent {
            log.note(&format!("the process that serves did not hear {order:?}: {error}"));
        }
    }
}

impl Orders {
    /// Of the end that [`way`] gave; to be called within a runtime.
    pub(in super::super) fn new(way: StdUnixStream) -> io::Result<Self> {
        way.set_nonblocking(true)?;
        Ok(Self(BufReader::new(UnixStream::from_std(way)?).lines()))
    }

    /// The next one. Cancelling loses none.
    ///
    /// Errors: the parent has ended.
    pub(in super::super) async fn next(&mut self) -> Result<Order, ParentError> {
        let line = self.0.next_line().await;
        let order = line.and_then(|line| {
            let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(serde_json::from_str(&line)?)
        });
        order.map_err(ParentError::Gone)
    }

    /// The next [`Order::Stop`]; others are too late for a process that drains.
    ///
    /// Errors: as [`Orders::next`].
    pub(in super::super) async fn stop(&mut self) -> Result<(), ParentError> {
        while self.next().await? != Order::Stop {}
        Ok(())
    }
}
