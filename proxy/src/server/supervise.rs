//! Two processes in place of one, where the guard needs privileges: the parent keeps them and sees to the guard; the
//! child, which has given them up, serves. They end together.

use std::future::pending;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setpgid};
use rustix::process::{getpid, getppid, set_parent_process_death_signal};
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::guard::keeper::{self, Keeper, Kept};
use crate::observe::Log;
use crate::sys::{ForkResult, fork};

/// The signals that are for the child.
const FORWARDED: [(SignalKind, Signal); 3] = [
    (SignalKind::hangup(), Signal::SIGHUP),
    (SignalKind::interrupt(), Signal::SIGINT),
    (SignalKind::terminate(), Signal::SIGTERM),
];

/// Runs `serve` in a child and keeps the guard until it has ended; how it ended.
///
/// Errors: no second process, or what `serve` returns.
pub fn supervise<E: From<io::Error>>(
    kept: Kept,
    log: &Log,
    serve: impl FnOnce(Keeper) -> Result<(), E>,
) -> Result<ExitCode, E> {
    let (ours, theirs) = UnixStream::pair()?;
    let parent = getpid();
    match fork()? {
        ForkResult::Child => {
            drop(ours);
            // Ctrl-C is for the parent, which passes it on; the child would otherwise get it twice.
            setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(io::Error::from)?;
            serve(Keeper::new(theirs, parent)?)?;
            Ok(ExitCode::SUCCESS)
        }
        ForkResult::Parent { child } => {
            drop((theirs, serve));
            let control = runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(control.block_on(attend(ours, kept, child, log))?)
        }
    }
}

/// From now on this process ends with the keeper's. To be called once it has become who it stays: when its user changes,
/// the kernel forgets.
///
/// Errors: the keeper has gone already.
pub(super) fn end_with(keeper: &Keeper) -> io::Result<()> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    match getppid() {
        Some(parent) if parent == keeper.pid() => Ok(()),
        _ => Err(io::Error::other("the process that keeps the guard has ended")),
    }
}

async fn attend(socket: UnixStream, kept: Kept, child: Pid, log: &Log) -> io::Result<ExitCode> {
    for (kind, forwarded) in FORWARDED {
        let mut caught = signal(kind)?;
        tokio::spawn(async move {
            while caught.recv().await.is_some() {
                // Only a child that has ended cannot be signalled, and that is noticed below.
                let _ = kill(child, forwarded);
            }
        });
    }
    let mut ended = signal(SignalKind::child())?;
    let keep = async {
        if let Err(error) = keeper::keep(socket, kept).await {
            log.note(&format!("guard: no longer answering the proxy: {error}"));
        }
        pending().await
    };
    let wait = async {
        loop {
            match waitpid(child, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => return Ok(code),
                WaitStatus::Signaled(_, signal, _) => {
                    log.note(&format!("the proxy was ended by {signal}; the guard goes on"));
                    return Ok(1);
                }
                _ => drop(ended.recv().await),
            }
        }
    };
    let code: i32 = tokio::select! {
        code = wait => code,
        never = keep => never,
    }
    .map_err(|error: nix::Error| io::Error::from(error))?;
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}
