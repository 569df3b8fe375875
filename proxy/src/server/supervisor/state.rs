//! What the supervisor keeps, and what it does to it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nix::unistd::Gid;
use socket2::Socket;

use super::admin_socket::AdminSocket;
use super::allowed::Allowed;
use super::guarding::SupervisedGuard;
use super::insight_file::InsightFile;
use super::systemd::{self, Sockets};
use super::takeover::{Handover, PendingTakeover, Predecessor, Successor, SuccessorReady, TakeoverListener};
use super::worker_process::{self, Restarts, WorkerProcess};
use crate::config::{self, PrefixSource};
use crate::observe::Log;
use crate::prefixes::{PrefixState, Table};
use crate::server::Start;
use crate::server::privileges::WorkerUser;
use crate::{insight, messages};

/// What the supervisor keeps.
pub(super) struct Supervisor {
    /// The configuration's file.
    pub(super) file: PathBuf,
    /// The user that the worker becomes; `None`: it keeps this process's.
    pub(super) worker_user: Option<WorkerUser>,
    /// The worker's end of the channel of commands, until it has taken it.
    pub(super) worker_commands: Option<UnixStream>,
    pub(super) restarts: Restarts,
    /// How often the service manager has to hear that all is well.
    pub(super) watchdog: Option<Duration>,
    pub(super) allowed: Allowed,
    /// What the configuration allows that was read last and is not in force yet.
    pub(super) next_allowed: Option<Allowed>,
    /// The listeners' sockets, also for a successor.
    pub(super) sockets: Vec<(SocketAddr, Socket)>,
    /// Sockets that this process was started with.
    pub(super) inherited: Sockets,
    pub(super) admin_socket: Option<AdminSocket>,
    /// The process that this one replaces, and the command line's socket that it has passed on.
    pub(super) predecessor: Option<(Predecessor, Option<UnixListener>)>,
    pub(super) takeover_listener: Option<TakeoverListener>,
    pub(super) pending_takeover: Option<PendingTakeover>,
    /// Another process has taken over.
    pub(super) is_replaced: bool,
    /// The group that may use the command line's socket, besides this process's user.
    pub(super) admin_group: Option<Gid>,
    /// Where prefixes come from, and are stored.
    pub(super) prefixes: config::Prefixes,
    pub(super) standing: PrefixState,
    /// The list that was read last and is not in force yet.
    pub(super) next_list: Option<(PrefixSource, Table)>,
    pub(super) guard: SupervisedGuard,
    pub(super) history: InsightFile,
    pub(super) ledger: InsightFile,
    pub(super) log: Log,
}

/// Where a successor comes from.
pub(super) enum SuccessorSource {
    /// This process starts it.
    Start,
    /// An operator has started it.
    Connected(Successor),
}

impl Supervisor {
    pub(super) fn new(
        start: Start,
        inherited: Sockets,
        predecessor: Option<(Predecessor, Option<UnixListener>)>,
        worker_user: Option<WorkerUser>,
        admin_group: Option<Gid>,
    ) -> io::Result<Self> {
        let Start { file, config, standing, may_lock_out, log, .. } = start;
        let insight_file = |name, bytes| {
            InsightFile::new(name, bytes, Some(config.insight.state.clone()), predecessor.is_some())
        };
        let history = insight_file(insight::FILE, insight::HISTORY_BYTES);
        let ledger = insight_file(messages::LEDGER_FILE, messages::ledger_bytes(config.insight.ledger));
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
            history,
            ledger,
            log,
        })
    }

    /// Figures are gone with this process.
    pub(super) fn keep_in_memory(&mut self) {
        (self.history, self.ledger) = (self.history.in_memory(), self.ledger.in_memory());
    }

    pub(super) fn start_worker(&mut self) -> io::Result<WorkerProcess> {
        let (worker, commands) = WorkerProcess::start()?;
        self.worker_commands = Some(commands);
        Ok(worker)
    }

    /// How long to wait before another worker is started in place of one that has ended; `None`:
    /// there will be none.
    pub(super) fn restart_delay(&mut self, status: ExitStatus) -> Option<Duration> {
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
    pub(super) fn replace_predecessor(&mut self) {
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
    pub(super) fn successor(&mut self, source: SuccessorSource) -> io::Result<(Successor, Handover)> {
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

    pub(super) fn handover(&self) -> io::Result<Handover> {
        let listener = |(address, socket): &(SocketAddr, Socket)| Ok((*address, socket.try_clone()?));
        let listeners = self.sockets.iter().map(listener).collect::<io::Result<_>>()?;
        let admin_socket = self.admin_socket.as_ref().map(AdminSocket::share).transpose()?;
        Ok(Handover { listeners, admin_socket: admin_socket.map(OwnedFd::from) })
    }

    /// Leaves the service to a successor that serves: no new client may come here.
    pub(super) fn retire(&mut self, SuccessorReady { pid, admin_socket }: SuccessorReady) {
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
    pub(super) fn clean_up(&mut self) {
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
