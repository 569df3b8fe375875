//! The supervisor: it may bind, read keys, attach the guard and talk to the service manager, and
//! does so for its worker as far as the configuration names it. The worker's calls may hold strings
//! that the network has chosen; nothing else from the network is read here. A worker that crashes
//! is replaced, and the listeners stay open meanwhile.

mod admin_socket;
mod allowed;
mod file_watch;
mod grants;
mod guarding;
mod insight_file;
mod memory_file;
mod open_posts;
mod private_file;
mod state;
mod supervise;
mod systemd;
mod takeover;
mod worker_process;

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitCode;
use std::thread;

use rustix::process::geteuid;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::runtime;

pub use takeover::{TakeoverError, inherits_sockets};

use super::ipc::{SupervisorClient, channel};
use super::{Start, StartError, privileges, worker};
use crate::host::Host;
use crate::net::KernelTls;
use crate::sys::{ForkResult, fork, give_back_free_memory};
use state::Supervisor;
use supervise::{serve_calls, supervise};
use systemd::Sockets;
use takeover::{InheritedSockets, Predecessor};

/// Runs the proxy until it ends. Returns the process's exit code.
///
/// Errors: it does not start.
pub fn run(start: Start) -> Result<ExitCode, StartError> {
    // A successor leaves the process that has started it, and becomes the service manager's own
    // child: that one hears of its end at once and waits for it, however long the old process
    // drains.
    if takeover::is_by_predecessor()
        && let ForkResult::Parent { .. } = fork()?
    {
        return Ok(ExitCode::SUCCESS);
    }
    for remark in Host::examine().remarks(&start.config) {
        start.log.note(&remark);
    }
    privileges::keep_memory_private()?;
    let user = privileges::worker_user(&start.config)?;
    if user.is_none() && geteuid().is_root() {
        start.log.note(
            "the process that serves stays root's, without any capability: CAP_SETUID and CAP_SETGID let it become another user",
        );
    }
    let admin_group = privileges::admin_group(&start.config, user.as_ref()).map_err(io::Error::from)?;
    let mut inherited = Sockets::inherited()?;
    let predecessor = match Predecessor::find(&start.config, start.takes_over)? {
        None => None,
        Some(predecessor) => {
            let InheritedSockets { listeners, admin_socket } =
                predecessor.sockets().map_err(TakeoverError::from)?;
            inherited.add_handed_over(listeners);
            Some((predecessor, admin_socket))
        }
    };
    // Its worker finds out, and tells, whether the kernel has it.
    let _ = KernelTls::load_module();
    privileges::keep_what_is_needed(&start.config)?;
    let supervisor = Supervisor::new(start, inherited, predecessor, user, admin_group)?;
    give_back_free_memory();
    let control = runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(control.block_on(supervise(supervisor))?)
}

/// Runs supervisor and worker in this process, which keeps its privileges, until it ends: for tools
/// that look inside, as a fuzzer does.
///
/// Errors: it does not start.
pub fn run_in_one_process(start: Start) -> Result<(), StartError> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    // No command will come.
    let (_commands, receiver) = channel()?;
    let log = start.log.clone();
    let mut supervisor = Supervisor::new(start, Sockets::default(), None, None, None)?;
    supervisor.worker_commands = Some(receiver);
    supervisor.keep_in_memory();
    let control = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::scope(|scope| {
        let worker = scope.spawn(|| worker::run_unconfined(SupervisorClient::new(theirs)?, log));
        control.block_on(async {
            let mut calls = BufReader::new(UnixStream::from_std(ours)?);
            serve_calls(&mut calls, &mut supervisor).await
        })?;
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the worker panicked").into()))
    })
}
