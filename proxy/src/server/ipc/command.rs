//! The supervisor's commands, over a socket of their own: the worker has another user, and a signal
//! would take a capability.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::UnixStream;

use super::client::SupervisorError;
use super::message::{line, send};
use crate::observe::Log;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) enum Command {
    /// Read the configuration again.
    Reload,
    /// Read the certificates' files again, which have changed.
    ReadCertificates,
    /// Ask for the states of the guarded interfaces, which have changed.
    RefreshInterfaces,
    /// Another process has taken over: drain, and answer no operator any more.
    Retire,
    /// Drain; the second one cuts.
    Stop,
}

/// The supervisor's end.
#[derive(Clone, Debug)]
pub(in crate::server) struct CommandSender(Arc<StdUnixStream>);

/// The worker's end.
#[derive(Debug)]
pub(in crate::server) struct CommandReceiver(Lines<BufReader<UnixStream>>);

/// Both ends of a new channel.
pub(in crate::server) fn channel() -> io::Result<(CommandSender, StdUnixStream)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    // A worker that hangs does not hold up its supervisor.
    ours.set_nonblocking(true)?;
    Ok((CommandSender(Arc::new(ours)), theirs))
}

impl CommandSender {
    /// A command that can't be sent is reported: the worker is ending, or hangs.
    pub(in crate::server) fn send(&self, command: Command, log: &Log) {
        let sent = line(&command).and_then(|line| send(&*self.0, &line, None));
        if let Err(error) = sent {
            log.note(&format!("the worker did not get the command {command:?}: {error}"));
        }
    }
}

impl CommandReceiver {
    /// Of the worker's end of [`channel`]; to be called within a runtime.
    pub(in crate::server) fn new(socket: StdUnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self(BufReader::new(UnixStream::from_std(socket)?).lines()))
    }

    /// The next command. Cancelling loses none.
    ///
    /// Errors: the supervisor has ended.
    pub(in crate::server) async fn next(&mut self) -> Result<Command, SupervisorError> {
        let line = self.0.next_line().await;
        let command = line.and_then(|line| {
            let line = line.ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(serde_json::from_str(&line)?)
        });
        command.map_err(SupervisorError::Gone)
    }

    /// The next [`Command::Stop`]; a worker that drains ignores other commands.
    ///
    /// Errors: as [`CommandReceiver::next`].
    pub(in crate::server) async fn stop(&mut self) -> Result<(), SupervisorError> {
        while self.next().await? != Command::Stop {}
        Ok(())
    }
}
