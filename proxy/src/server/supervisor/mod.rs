//! The supervisor: it may bind, read keys, attach the guard and talk to the service manager, and
//! does so for its worker as far as the configuration names it. The worker's calls may hold strings
//! that the network has chosen; nothing else from the network is read here. A worker that crashes
//! is replaced, and the listeners stay open meanwhile.

mod admin_socket;
mod allowed;
mod file_watch;
mod grants;
mod guarding;
mod supervise;
mod systemd;
mod takeover;
mod worker_process;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;

use nix::unistd::Gid;
use socket2::Socket;
use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::runtime;

pub use takeover::{TakeoverError, inherits_sockets};

use super::ipc::{SupervisorClient, channel};
use super::privileges::{self, WorkerUser};
use super::{Start, StartError, listen, worker};
use crate::config::{self, PrefixSource};
use crate::observe::Log;
use crate::prefixes::{PrefixState, Table};
use crate::sys::{ForkResult, fork, give_back_free_memory};
use admin_socket::AdminSocket;
use allowed::Allowed;
use guarding::SupervisedGuard;
use supervise::supervise;
use systemd::Sockets;
use takeover::{
    Handover, InheritedSockets, PendingTakeover, Predecessor, Successor, SuccessorReady, TakeoverListener,
};
use worker_process::{Restarts, WorkerProcess};

/// What the supervisor keeps.
struct Supervisor {
    /// The configuration's file.
    file: PathBuf,
    /// The user that the worker becomes; `None`: it keeps this process's.
    worker_user: Option<WorkerUser>,
    /// The worker's end of the channel of commands, until it has taken it.
    worker_commands: Option<StdUnixStream>,
    restarts: Restarts,
    /// How often the service manager has to hear that all is well.
    watchdog: Option<Duration>,
    allowed: Allowed,
    /// What the configuration allows that was read last and is not in force yet.
    next_allowed: Option<Allowed>,
    /// The listeners' sockets, also for a successor.
    sockets: Vec<(SocketAddr, Socket)>,
    /// Sockets that this process was started with.
    inherited: Sockets,
    admin_socket: Option<AdminSocket>,
    /// The process that this one replaces, and the command line's socket that it has passed on.
    predecessor: Option<(Predecessor, Option<UnixListener>)>,
    takeover_listener: Option<TakeoverListener>,
    pending_takeover: Option<PendingTakeover>,
    /// Another process has taken over.
    is_replaced: bool,
    /// The group that may use the command line's socket, besides this process's user.
    admin_group: Option<Gid>,
    /// Where prefixes come from, and are stored.
    prefixes: config::Prefixes,
    standing: PrefixState,
    /// The list that was read last and is not in force yet.
    next_list: Option<(PrefixSource, Table)>,
    guard: SupervisedGuard,
    log: Log,
}

/// Where a successor comes from.
enum SuccessorSource {
    /// This process starts it.
    Start,
    /// An operator has started it.
    Connected(Successor),
}

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
    privileges::keep_memory_private()?;
    let user = privileges::worker_user(&start.config)?;
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
    let control = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::scope(|scope| {
        let worker = scope.spawn(|| worker::run_unconfined(SupervisorClient::new(theirs)?, log));
        control.block_on(async {
            let mut calls = BufReader::new(UnixStream::from_std(ours)?);
            supervise::serve_calls(&mut calls, &mut supervisor).await
        })?;
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the worker panicked").into()))
    })
}

impl Supervisor {
    fn new(
        start: Start,
        inherited: Sockets,
        predecessor: Option<(Predecessor, Option<UnixListener>)>,
        worker_user: Option<WorkerUser>,
        admin_group: Option<Gid>,
    ) -> io::Result<Self> {
        let Start { file, config, standing, may_lock_out, log, .. } = start;
        Ok(Self {
            allowed: Allowed::by(&config, &file)?,
            worker_user,
            worker_commands: None,
            restarts: Restarts::default(),
            watchdog: systemd::watchdog(),
            file,
            next_allowed: None,
            sockets: Vec::new(),
            inherited,
            admin_socket: None,
            predecessor,
            takeover_listener: None,
            pending_takeover: None,
            is_replaced: false,
            admin_group,
            prefixes: config.prefixes,
            standing,
            next_list: None,
            guard: SupervisedGuard::new(may_lock_out),
            log,
        })
    }

    fn start_worker(&mut self) -> io::Result<WorkerProcess> {
        let (worker, commands) = WorkerProcess::start()?;
        self.worker_commands = Some(commands);
        Ok(worker)
    }

    /// How long to wait before another worker is started in place of one that has ended; `None`:
    /// there will be none.
    fn restart_delay(&mut self, status: ExitStatus) -> Option<Duration> {
        let delay = self.restarts.after(status);
        if !status.success() && (delay.is_some() || status.code().is_none()) {
            let next = if delay.is_some() { "; another one takes its place" } else { "" };
            self.log.note(&format!("the worker was ended by {}{next}", worker_process::in_words(status)));
        }
        // What it has read and not put in force yet.
        (self.next_allowed, self.next_list) = (None, None);
        delay
    }

    /// Ends the predecessor's service, at the first time that the worker serves; from then on a
    /// successor may come.
    fn replace_predecessor(&mut self) {
        if let Some((predecessor, _)) = self.predecessor.take() {
            if let Err(error) = predecessor.replace(self.admin_socket.as_ref().map(AdminSocket::path)) {
                self.log.note(&format!("the process before this one may still serve: {error}"));
            }
            if let Some(socket) = &mut self.admin_socket {
                socket.keep();
            }
        }
        if let (None, Some(path)) = (&self.takeover_listener, &self.allowed.admin_socket) {
            match TakeoverListener::open(path) {
                Ok(listener) => self.takeover_listener = Some(listener),
                Err(error) => self.log.note(&format!("`hookgate run --takeover` will not work: {error}")),
            }
        }
    }

    /// The process that is to replace this one, and what it gets.
    fn successor(&mut self, source: SuccessorSource) -> io::Result<(Successor, Handover)> {
        if self.pending_takeover.is_some() {
            return Err(io::Error::new(ErrorKind::ResourceBusy, "another process is about to take over"));
        }
        let handover = self.handover()?;
        let successor = match source {
            SuccessorSource::Start => Successor::start()?,
            SuccessorSource::Connected(successor) => successor,
        };
        self.pending_takeover = Some(successor.pending()?);
        Ok((successor, handover))
    }

    fn handover(&self) -> io::Result<Handover> {
        let listener = |(address, socket): &(SocketAddr, Socket)| Ok((*address, socket.try_clone()?));
        let listeners = self.sockets.iter().map(listener).collect::<io::Result<_>>()?;
        let admin_socket = self.admin_socket.as_ref().map(AdminSocket::share).transpose()?;
        Ok(Handover { listeners, admin_socket: admin_socket.map(OwnedFd::from) })
    }

    /// Leaves the service to a successor that serves: no new client may come here.
    fn retire(&mut self, SuccessorReady { pid, admin_socket }: SuccessorReady) {
        self.log.note(&format!("process {pid} has taken over"));
        systemd::replaced_by(pid, &self.log);
        self.is_replaced = true;
        self.restarts.stop();
        self.sockets.clear();
        // The file belongs to the other process now, if that answers there.
        self.admin_socket.take_if(|socket| admin_socket.as_deref() == Some(socket.path()));
        self.clean_up();
    }

    /// Removes the socket files, and ends a successor that does not serve yet.
    fn clean_up(&mut self) {
        if let Some(socket) = self.admin_socket.take() {
            socket.remove();
        }
        if let Some(listener) = self.takeover_listener.take() {
            listener.close();
        }
        if let Some(pending) = self.pending_takeover.take() {
            pending.cancel();
        }
    }
}
