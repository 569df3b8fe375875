//! What the parent does for its worker: only what the configuration names.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, ErrorKind, Seek as _, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::unistd::{Gid, geteuid};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::Serialize;
use serde_json::Value;
use socket2::Socket;

use super::Start;
use super::Wish;
use super::guarding::SupervisedGuard;
use super::message::{Attached, InForce, Refusal, Request, StateRequest, Told, write_list};
use super::named::Named;
use super::takeover::{Meeting, Offered, Predecessor, Serving, Successor, UnderWay};
use crate::access::{Access as _, Disk, DiskState, MachineRoots, State as _};
use crate::admin::AdminSocket;
use crate::config::{self, Config, PrefixSource};
use crate::guard::{self, Absence};
use crate::observe::{Log, clock};
use crate::prefixes::{Network, Registered, Standing, Table};
use crate::server::listen;
use crate::server::systemd::{self, Sockets};
use crate::sys::give_back_free_memory;

/// What the parent keeps.
pub(super) struct Privileged {
    /// The configuration's file.
    file: PathBuf,
    pub(super) named: Named,
    /// What the configuration names that was read last and is not in force yet.
    next: Option<Named>,
    /// The listeners' sockets, for whoever takes over.
    sockets: Vec<(SocketAddr, Socket)>,
    /// Sockets that were open before this process was there.
    inherited: Sockets,
    pub(super) admin_socket: Option<AdminSocket>,
    /// Whom this process replaces, and the command line's socket that it has handed over.
    predecessor: Option<(Predecessor, Option<UnixListener>)>,
    /// Where whoever replaces this process comes.
    pub(super) meeting: Option<Meeting>,
    /// Another process has taken over.
    is_replaced: bool,
    /// Another process is about to.
    pub(super) under_way: Option<UnderWay>,
    /// Who may use the command line's socket, besides this process's user.
    admin_group: Option<Gid>,
    /// Where prefixes come from, and are stored.
    prefixes: config::Prefixes,
    standing: Standing,
    /// The list that was read last and is not in force yet.
    next_list: Option<(PrefixSource, Table)>,
    pub(super) guarding: SupervisedGuard,
    pub(super) log: Log,
}

/// An answer, and the descriptor beside it.
pub(super) type Given = (Result<Value, Refusal>, Option<OwnedFd>);

impl Privileged {
    /// For the start of `start`.
    pub(super) fn new(
        start: Start,
        inherited: Sockets,
        predecessor: Option<(Predecessor, Option<UnixListener>)>,
        admin_group: Option<Gid>,
    ) -> Self {
        let Start { file, config, standing, may_lock_out, log, .. } = start;
        Self {
            named: Named::of(&config, &file),
            file,
            next: None,
            sockets: Vec::new(),
            inherited,
            admin_socket: None,
            predecessor,
            meeting: None,
            is_replaced: false,
            under_way: None,
            admin_group,
            prefixes: config.prefixes,
            standing,
            next_list: None,
            guarding: SupervisedGuard::new(may_lock_out),
            log,
        }
    }

    pub(super) fn act(&mut self, request: Request) -> Given {
        match self.answer(request) {
            Ok((answer, beside)) => (Ok(answer), beside),
            Err(error) => {
                let code = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
                (Err(Refusal { code, why: format!("{error:#}") }), None)
            }
        }
    }

    fn answer(&mut self, request: Request) -> anyhow::Result<(Value, Option<OwnedFd>)> {
        let descriptor = |descriptor: OwnedFd| Ok((Value::Null, Some(descriptor)));
        match request {
            Request::Configuration => descriptor(self.configuration()?),
            Request::InForce => {
                self.in_force();
                json(&())
            }
            Request::Open(path) => {
                let mut named = std::iter::once(&self.named).chain(&self.next);
                let file = named.find_map(|named| named.open(&path));
                let file = file.with_context(|| format!("{}: not in the configuration", path.display()))?;
                descriptor(file?.into())
            }
            Request::Roots => {
                let (fault, roots) = roots()?;
                Ok((json(&fault)?.0, Some(roots)))
            }
            Request::Bind(address) => {
                ensure!(
                    self.names(|named| named.has_address(address)),
                    "{address}: not in the configuration"
                );
                descriptor(self.bind(address)?)
            }
            Request::Listen(address) => {
                let socket = self.sockets.iter().find(|(its, _)| *its == address);
                let (_, socket) = socket.with_context(|| format!("{address}: no socket has it"))?;
                json(&listen::listen(socket, address)?)
            }
            Request::AdminSocket => descriptor(self.admin_socket()?),
            Request::State(folder, request) => {
                ensure!(
                    self.names(|named| named.has_state(&folder)),
                    "{}: not in the configuration",
                    folder.display()
                );
                // It says what was forced, which is not the worker's to say.
                let is_prefixes = matches!(&request, StateRequest::Replace(name, _)
                    if folder.join(name.name()) == self.prefixes.state);
                ensure!(!is_prefixes, "[guard] state is not a file of [acme] state");
                state(&folder, request)
            }
            Request::Guard => {
                let (attached, map) = self.guard()?;
                Ok((json(&attached)?.0, Some(map)))
            }
            Request::AttachMissing => {
                let (guard, table) = (self.named.guard.as_ref(), self.standing.table());
                json(&self.guarding.attach_missing(guard, &table)?)
            }
            Request::Interfaces => json(&self.guarding.states(self.named.guard.as_ref())),
            Request::Stats(detail) => {
                let read = |pin: &str| guard::read(pin, detail);
                json(&self.pin().map(read).transpose()?.flatten())
            }
            Request::Refreshed(networks) => json(&self.refresh(networks)?),
            Request::Stored => match self.prefixes.load()? {
                (_, Some(bad)) => Err(bad.into()),
                (standing, None) => json(&self.put_in_force(standing)?),
            },
            Request::ReadList => json(&self.read_list()?),
            Request::PutListInForce => json(&self.list_in_force()?),
            Request::Tell(told) => {
                self.hear(told);
                json(&())
            }
        }
    }

    fn names(&self, what: impl Fn(&Named) -> bool) -> bool {
        what(&self.named) || self.next.as_ref().is_some_and(what)
    }

    fn configuration(&mut self) -> anyhow::Result<OwnedFd> {
        let config = Config::load(&self.file)?;
        self.next = Some(Named::of(&config, &self.file));
        let text = in_memory("configuration", |file| Ok(serde_json::to_writer(file, &config)?));
        drop(config);
        // Tens of MiB with many upstreams.
        give_back_free_memory();
        Ok(text?)
    }

    fn in_force(&mut self) {
        if let Some(next) = self.next.take() {
            self.named = next;
        }
        self.keep_named_sockets();
    }

    fn keep_named_sockets(&mut self) {
        self.sockets.retain(|(address, _)| self.named.has_address(*address));
    }

    /// One that is there already, is handed out again.
    fn bind(&mut self, address: SocketAddr) -> anyhow::Result<OwnedFd> {
        if let Some((_, socket)) = self.sockets.iter().find(|(its, _)| *its == address) {
            return Ok(socket.as_fd().try_clone_to_owned()?);
        }
        let socket = match self.inherited.take(address) {
            Some(socket) => socket,
            None => listen::bind(address)?,
        };
        let given = socket.as_fd().try_clone_to_owned()?;
        self.sockets.push((address, socket));
        Ok(given)
    }

    fn admin_socket(&mut self) -> anyhow::Result<OwnedFd> {
        let path = self.named.socket.as_deref().context("[admin] socket: not in the configuration")?;
        let handed_over = self.predecessor.as_mut().and_then(|(_, socket)| socket.take());
        let socket = match handed_over.and_then(|listener| AdminSocket::taken_over(listener, path)) {
            Some(socket) => socket,
            None => AdminSocket::listen(path)?,
        };
        // Others than root may not give files away; the package's folder gives its group to what is made there.
        if let Some(group) = self.admin_group.filter(|_| geteuid().is_root()) {
            socket.give_to(group.as_raw())?;
        }
        let given = socket.share()?;
        self.admin_socket = Some(socket);
        Ok(given.into())
    }

    fn guard(&mut self) -> anyhow::Result<(Attached, OwnedFd)> {
        let named = self.next.as_ref().unwrap_or(&self.named);
        let guard = named.guard.as_ref();
        let guard = guard.context("[guard] is gone: `hookgate guard detach` takes the program off")?;
        let absence = if self.next.is_some() { Absence::Refused } else { Absence::Awaited };
        self.guarding.start(guard, &self.standing.table(), absence)
    }

    /// The folder in which a guard of this version is, or would be.
    fn pin(&self) -> Option<&str> {
        let configured = || self.named.guard.as_ref().filter(|guard| guard.is_attached());
        self.guarding.pin.as_deref().or_else(|| configured().map(|guard| &*guard.pin))
    }

    /// The same checks as the worker has made: what it says is not believed. There is no way to force it from here: an
    /// operator's command does that, and writes the state file itself.
    fn refresh(&mut self, networks: BTreeSet<Network>) -> anyhow::Result<InForce> {
        let registered = Registered::checked(networks)?;
        let registry = self.prefixes.registry.to_string();
        let next = self.standing.refreshed(&registered, clock::now(), &registry)?;
        if let Some(refresh) = &next.refresh {
            refresh.store(&self.prefixes.state)?;
        }
        self.put_in_force(next)
    }

    fn read_list(&mut self) -> anyhow::Result<Standing> {
        let named = self.next.as_ref().unwrap_or(&self.named);
        let configured = named.prefixes.read().context("[guard] prefixes")?;
        let (standing, bad) = self.standing.with_list(configured.clone());
        if let Some(bad) = bad {
            self.log.note(&format!("prefixes: the configured list stands without the last refresh: {bad}"));
        }
        if let (Some(guard), Some(_), false) = (&named.guard, &self.guarding.pin, self.guarding.may_lock_out)
        {
            guard::locks_nobody_out(guard, &standing.table())?;
        }
        self.next_list = Some((named.prefixes.clone(), configured));
        Ok(standing)
    }

    fn list_in_force(&mut self) -> anyhow::Result<InForce> {
        let (source, configured) = self.next_list.take().context("no list of prefixes was read")?;
        let (standing, _told_before) = self.standing.with_list(configured);
        let in_force = self.put_in_force(standing)?;
        self.prefixes.source = source;
        Ok(in_force)
    }

    fn put_in_force(&mut self, standing: Standing) -> anyhow::Result<InForce> {
        let pin = self.guarding.pin.as_deref();
        let rows = pin.map(|pin| guard::set_prefixes(pin, &standing.table())).transpose()?;
        self.standing = standing.clone();
        Ok(InForce { standing, rows })
    }

    fn hear(&mut self, told: Told) {
        match told {
            // It is another process's to say.
            _ if self.is_replaced => {}
            Told::Ready => {
                // Either they are in force now, or they were refused.
                (self.next, self.next_list) = (None, None);
                self.keep_named_sockets();
                std::mem::take(&mut self.inherited).close(&self.log);
                self.replace_predecessor();
                systemd::ready(&self.log);
            }
            Told::Reloading => systemd::reloading(&self.log),
            Told::Alive => systemd::alive(&self.log),
            Told::Stopping => {
                systemd::stopping(&self.log);
                self.sockets.clear();
                if let Some(under_way) = self.under_way.take() {
                    under_way.give_up();
                }
            }
        }
    }
}

impl Privileged {
    /// At the first time that the worker serves.
    fn replace_predecessor(&mut self) {
        if let Some((predecessor, _)) = self.predecessor.take() {
            if let Err(error) = predecessor.replace(self.admin_socket.as_ref().map(AdminSocket::path)) {
                self.log.note(&format!("the process before this one may still serve: {error}"));
            }
            if let Some(socket) = &mut self.admin_socket {
                socket.keep();
            }
        }
        if let (None, Some(path)) = (&self.meeting, &self.named.socket) {
            match Meeting::open(path) {
                Ok(meeting) => self.meeting = Some(meeting),
                Err(error) => self.log.note(&format!("`hookgate run --takeover` will not work: {error}")),
            }
        }
    }

    pub(super) fn is_replaced(&self) -> bool {
        self.is_replaced
    }

    /// Whoever is to replace this process, and what it is given.
    pub(super) fn successor(&mut self, wish: Wish) -> io::Result<(Successor, Offered)> {
        if self.under_way.is_some() {
            return Err(io::Error::new(ErrorKind::ResourceBusy, "another process is about to take over"));
        }
        let offered = self.offered()?;
        let successor = match wish {
            Wish::Start => Successor::start()?,
            Wish::By(successor) => successor,
        };
        self.under_way = Some(successor.under_way()?);
        Ok((successor, offered))
    }

    /// What another process needs to serve in this one's place.
    fn offered(&self) -> io::Result<Offered> {
        let listener = |(address, socket): &(SocketAddr, Socket)| Ok((*address, socket.try_clone()?));
        let listeners = self.sockets.iter().map(listener).collect::<io::Result<_>>()?;
        let admin_socket = self.admin_socket.as_ref().map(AdminSocket::share).transpose()?;
        Ok((listeners, admin_socket.map(OwnedFd::from)))
    }

    /// Whoever has been given it all serves: no client is to come here any more.
    pub(super) fn step_aside(&mut self, Serving { pid, admin_socket }: Serving) {
        self.log.note(&format!("process {pid} has taken over"));
        systemd::replaced_by(pid, &self.log);
        self.is_replaced = true;
        self.sockets.clear();
        // The file belongs to the other process now, if that answers there.
        self.admin_socket.take_if(|socket| admin_socket.as_deref() == Some(socket.path()));
        self.leave();
    }

    /// Takes with it what others would come to.
    pub(super) fn leave(&mut self) {
        if let Some(socket) = self.admin_socket.take() {
            socket.remove();
        }
        if let Some(meeting) = self.meeting.take() {
            meeting.close();
        }
        if let Some(under_way) = self.under_way.take() {
            under_way.give_up();
        }
    }
}

fn json(answer: &impl Serialize) -> anyhow::Result<(Value, Option<OwnedFd>)> {
    Ok((serde_json::to_value(answer)?, None))
}

fn state(folder: &Path, request: StateRequest) -> anyhow::Result<(Value, Option<OwnedFd>)> {
    let state = DiskState::new(folder.to_owned());
    match request {
        StateRequest::Prepare => json(&state.prepare()?),
        StateRequest::Read(file) => Ok((Value::Null, state.open(file)?.map(OwnedFd::from))),
        StateRequest::Replace(file, text) => json(&state.replace(file, text.as_bytes())?),
        StateRequest::CertificatesBeside => {
            let certificates = state.certificates_beside()?;
            let list = in_memory("certificates", |file| write_list(file, &certificates))?;
            Ok((Value::Null, Some(list)))
        }
        StateRequest::Lock => Ok((Value::Null, Some(state.lock()?))),
    }
}

/// What is wrong with them, and those that can be used.
fn roots() -> io::Result<(Option<String>, OwnedFd)> {
    let MachineRoots { certificates, fault } = Disk.roots()?;
    let file = in_memory("roots", |file| write_list(file, &certificates))?;
    Ok((fault, file))
}

/// A file that lies in memory alone, to be read from its start.
fn in_memory(name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    let mut buffered = io::BufWriter::new(file);
    write(&mut buffered)?;
    let mut file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file.into())
}
