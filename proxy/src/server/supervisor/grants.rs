//! What the supervisor does for its worker: only what the configuration names.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::unistd::geteuid;

use super::admin_socket::AdminSocket;
use super::allowed::Allowed;
use super::memory_file::in_memory;
use super::state::Supervisor;
use super::systemd;
use crate::access::{Access as _, Disk, DiskState, MachineRoots, State as _};
use crate::config::Config;
use crate::guard::{self, Absence, InterfaceState, KernelCounters, Stats};
use crate::observe::{KernelTimes, clock};
use crate::prefixes::{PrefixState, Registered};
use crate::server::ipc::*;
use crate::server::listen;
use crate::sys::{clock_is_synchronised, give_back_free_memory};

type Reply<R> = anyhow::Result<Served<R>>;

impl Serve<Begin> for Supervisor {
    fn serve(&mut self, _: Begin) -> Reply<Startup> {
        let commands = self.worker_commands.take().context("the worker has begun already")?;
        let startup = Startup {
            supervisor: std::process::id(),
            user: self.worker_user.clone(),
            file: self.file.clone(),
            standing: self.standing.clone(),
            watchdog: self.watchdog,
            restarts: self.restarts.count(),
        };
        Ok(Served::with(startup, commands.into()))
    }
}

impl Serve<OpenConfiguration> for Supervisor {
    fn serve(&mut self, _: OpenConfiguration) -> Reply<()> {
        Ok(Served::descriptor(self.allowed.configuration.try_clone()?))
    }
}

impl Serve<ReadConfiguration> for Supervisor {
    fn serve(&mut self, _: ReadConfiguration) -> Reply<()> {
        let next = Allowed::by(&Config::load(&self.file)?, &self.file);
        // Tens of MiB with many upstreams.
        give_back_free_memory();
        let next = self.next_allowed.insert(next?);
        Ok(Served::descriptor(next.configuration.try_clone()?))
    }
}

impl Serve<ActivateConfiguration> for Supervisor {
    fn serve(&mut self, _: ActivateConfiguration) -> Reply<()> {
        if let Some(next) = self.next_allowed.take() {
            self.allowed = next;
        }
        self.keep_allowed_sockets();
        Ok(().into())
    }
}

impl Serve<OpenFile> for Supervisor {
    fn serve(&mut self, OpenFile(path): OpenFile) -> Reply<()> {
        let mut allowed = std::iter::once(&self.allowed).chain(&self.next_allowed);
        let file = allowed.find_map(|allowed| allowed.open(&path));
        let file = file.with_context(|| format!("{}: not in the configuration", path.display()))?;
        Ok(Served::descriptor(file?.into()))
    }
}

impl Serve<ReadRoots> for Supervisor {
    fn serve(&mut self, _: ReadRoots) -> Reply<Option<String>> {
        let MachineRoots { certificates, fault } = Disk.roots()?;
        Ok(Served::with(fault, in_memory("roots", |file| write_list(file, &certificates))?))
    }
}

impl Serve<Bind> for Supervisor {
    /// A socket that is there already is handed out again.
    fn serve(&mut self, Bind(address): Bind) -> Reply<()> {
        ensure!(self.allows(|allowed| allowed.has_address(address)), "{address}: not in the configuration");
        if let Some((_, socket)) = self.sockets.iter().find(|(its, _)| *its == address) {
            return Ok(Served::descriptor(socket.as_fd().try_clone_to_owned()?));
        }
        let socket = match self.inherited.take(address) {
            Some(socket) => socket,
            None => listen::bind(address)?,
        };
        let shared = socket.as_fd().try_clone_to_owned()?;
        self.sockets.push((address, socket));
        Ok(Served::descriptor(shared))
    }
}

impl Serve<Listen> for Supervisor {
    fn serve(&mut self, Listen(address): Listen) -> Reply<()> {
        let socket = self.sockets.iter().find(|(its, _)| *its == address);
        let (_, socket) = socket.with_context(|| format!("{address}: no socket has it"))?;
        Ok(listen::listen(socket, address)?.into())
    }
}

impl Serve<OpenAdminSocket> for Supervisor {
    /// The one that is there already is handed out again.
    fn serve(&mut self, _: OpenAdminSocket) -> Reply<()> {
        if let Some(socket) = &self.admin_socket {
            return Ok(Served::descriptor(socket.share()?.into()));
        }
        let path =
            self.allowed.admin_socket.as_deref().context("[admin] socket: not in the configuration")?;
        let handed_over = self.predecessor.as_mut().and_then(|(_, socket)| socket.take());
        let socket = match handed_over.and_then(|listener| AdminSocket::taken_over(listener, path)) {
            Some(socket) => socket,
            None => AdminSocket::listen(path)?,
        };
        // Others than root may not give files away; the package's folder gives its group to what is
        // made there.
        if let Some(group) = self.admin_group.filter(|_| geteuid().is_root()) {
            socket.give_to(group.as_raw())?;
        }
        let shared = socket.share()?;
        self.admin_socket = Some(socket);
        Ok(Served::descriptor(shared.into()))
    }
}

impl Serve<PrepareState> for Supervisor {
    fn serve(&mut self, PrepareState(folder): PrepareState) -> Reply<()> {
        Ok(self.state(&folder)?.prepare()?.into())
    }
}

impl Serve<ReadState> for Supervisor {
    fn serve(&mut self, ReadState(folder, file): ReadState) -> Reply<()> {
        let descriptor = self.state(&folder)?.open(file)?.map(OwnedFd::from);
        Ok(Served { reply: (), descriptor })
    }
}

impl Serve<ReplaceState> for Supervisor {
    fn serve(&mut self, ReplaceState(folder, file, text): ReplaceState) -> Reply<()> {
        let state = self.state(&folder)?;
        // That file says what an operator has forced, and the worker must not be able to.
        ensure!(
            folder.join(file.name()) != self.prefixes.state,
            "[guard] state is not a file of [acme] state"
        );
        Ok(state.replace(file, text.as_bytes())?.into())
    }
}

impl Serve<ReadCertificatesBeside> for Supervisor {
    fn serve(&mut self, ReadCertificatesBeside(folder): ReadCertificatesBeside) -> Reply<()> {
        let certificates = self.state(&folder)?.certificates_beside()?;
        Ok(Served::descriptor(in_memory("certificates", |file| write_list(file, &certificates))?))
    }
}

impl Serve<LockState> for Supervisor {
    fn serve(&mut self, LockState(folder): LockState) -> Reply<()> {
        Ok(Served::descriptor(self.state(&folder)?.lock()?))
    }
}

impl Serve<StartGuard> for Supervisor {
    fn serve(&mut self, _: StartGuard) -> Reply<AttachedGuard> {
        let allowed = self.next_allowed.as_ref().unwrap_or(&self.allowed);
        let guard = allowed.guard.as_ref();
        let guard = guard.context("[guard] is gone: `hookgate guard detach` takes the program off")?;
        let absence = if self.next_allowed.is_some() { Absence::Refused } else { Absence::Awaited };
        let (attached, map) = self.guard.start(guard, &self.standing.table(), absence)?;
        Ok(Served::with(attached, map))
    }
}

impl Serve<AttachMissing> for Supervisor {
    fn serve(&mut self, _: AttachMissing) -> Reply<Vec<String>> {
        Ok(self.guard.attach_missing(self.allowed.guard.as_ref(), &self.standing.table())?.into())
    }
}

impl Serve<ReadInterfaces> for Supervisor {
    fn serve(&mut self, _: ReadInterfaces) -> Reply<Vec<InterfaceState>> {
        Ok(self.guard.states(self.allowed.guard.as_ref()).into())
    }
}

impl Serve<ReadStats> for Supervisor {
    fn serve(&mut self, ReadStats(detail): ReadStats) -> Reply<Option<Stats>> {
        let configured = || self.allowed.guard.as_ref().filter(|guard| guard.is_attached());
        // Where a guard of this version is, or would be.
        let pin = self.guard.pin.as_ref().or_else(|| configured().map(|guard| &guard.pin));
        Ok(pin.map(|pin| guard::read(pin, detail)).transpose()?.flatten().into())
    }
}

impl Serve<ReadHandshake> for Supervisor {
    fn serve(&mut self, ReadHandshake(client): ReadHandshake) -> Reply<Option<KernelTimes>> {
        let pin = self.guard.pin.as_ref();
        Ok(pin.map(|pin| guard::handshake_times(pin, client)).transpose()?.flatten().into())
    }
}

impl Serve<OpenHistory> for Supervisor {
    fn serve(&mut self, _: OpenHistory) -> Reply<Option<String>> {
        let (file, without_disk, _) = self.history.open()?;
        Ok(Served::with(without_disk, file))
    }
}

impl Serve<SetHistoryAside> for Supervisor {
    fn serve(&mut self, _: SetHistoryAside) -> Reply<PathBuf> {
        Ok(self.history.set_aside()?.into())
    }
}

impl Serve<OpenLedger> for Supervisor {
    fn serve(&mut self, _: OpenLedger) -> Reply<(Option<String>, bool)> {
        let (file, without_disk, is_shared) = self.ledger.open()?;
        Ok(Served::with((without_disk, is_shared), file))
    }
}

impl Serve<SetLedgerAside> for Supervisor {
    fn serve(&mut self, _: SetLedgerAside) -> Reply<PathBuf> {
        Ok(self.ledger.set_aside()?.into())
    }
}

impl Serve<RemoveLedgerAside> for Supervisor {
    fn serve(&mut self, _: RemoveLedgerAside) -> Reply<()> {
        Ok(self.ledger.remove_aside()?.into())
    }
}

impl Serve<ReadClock> for Supervisor {
    fn serve(&mut self, _: ReadClock) -> Reply<bool> {
        Ok(clock_is_synchronised()?.into())
    }
}

impl Serve<ShareOpenPosts> for Supervisor {
    fn serve(&mut self, _: ShareOpenPosts) -> Reply<OpenPostsSlots> {
        let (slots, file) = self.history.open_posts()?;
        Ok(Served::with(slots, file))
    }
}

impl Serve<ReadKernelCounters> for Supervisor {
    fn serve(&mut self, _: ReadKernelCounters) -> Reply<KernelCounters> {
        Ok(guard::kernel_counters().into())
    }
}

impl Serve<ActivateRefresh> for Supervisor {
    /// Makes the checks that the worker has made, since the worker is not trusted. Nothing can be
    /// forced from here: an operator's command does that, and writes the state file itself.
    fn serve(&mut self, ActivateRefresh(networks): ActivateRefresh) -> Reply<ActivePrefixes> {
        let registered = Registered::checked(networks)?;
        let registry = self.prefixes.registry.to_string();
        let next = self.standing.refreshed(&registered, clock::now(), &registry)?;
        if let Some(refresh) = &next.refresh {
            refresh.store(&self.prefixes.state)?;
        }
        Ok(self.activate(next)?.into())
    }
}

impl Serve<ActivateStored> for Supervisor {
    fn serve(&mut self, _: ActivateStored) -> Reply<ActivePrefixes> {
        match self.prefixes.load()? {
            (_, Some(bad)) => Err(bad.into()),
            (standing, None) => Ok(self.activate(standing)?.into()),
        }
    }
}

impl Serve<ReadPrefixList> for Supervisor {
    fn serve(&mut self, _: ReadPrefixList) -> Reply<PrefixState> {
        let allowed = self.next_allowed.as_ref().unwrap_or(&self.allowed);
        let configured = allowed.prefixes.read().context("[guard] prefixes")?;
        let (standing, bad) = self.standing.with_list(configured.clone());
        if let Some(bad) = bad {
            self.log.note(&format!("prefixes: the configured list stands without the last refresh: {bad}"));
        }
        if let (Some(guard), Some(_), false) = (&allowed.guard, &self.guard.pin, self.guard.may_lock_out) {
            guard::ensure_none_locked_out(guard, &standing.table())?;
        }
        self.next_list = Some((allowed.prefixes.clone(), configured));
        Ok(standing.into())
    }
}

impl Serve<ActivatePrefixList> for Supervisor {
    fn serve(&mut self, _: ActivatePrefixList) -> Reply<ActivePrefixes> {
        let (source, configured) = self.next_list.take().context("no list of prefixes was read")?;
        let (standing, _reported_before) = self.standing.with_list(configured);
        let active = self.activate(standing)?;
        self.prefixes.source = source;
        Ok(active.into())
    }
}

impl Serve<Notify> for Supervisor {
    fn serve(&mut self, Notify(event): Notify) -> Reply<()> {
        match event {
            // The service is another process, which speaks for itself.
            _ if self.is_replaced => {}
            WorkerEvent::Ready => {
                self.restarts.worker_serves();
                // What was read is in force now, or was refused.
                (self.next_allowed, self.next_list) = (None, None);
                self.keep_allowed_sockets();
                std::mem::take(&mut self.inherited).close(&self.log);
                self.replace_predecessor();
                systemd::ready(&self.log);
            }
            WorkerEvent::Reloading => systemd::reloading(&self.log),
            WorkerEvent::Alive => systemd::alive(&self.log),
            WorkerEvent::Stopping => {
                systemd::stopping(&self.log);
                self.restarts.stop();
                self.sockets.clear();
                if let Some(pending) = self.pending_takeover.take() {
                    pending.cancel();
                }
            }
        }
        Ok(().into())
    }
}

impl Supervisor {
    /// Whether the configuration in force, or the one that was read last, has such a thing.
    fn allows(&self, has: impl Fn(&Allowed) -> bool) -> bool {
        has(&self.allowed) || self.next_allowed.as_ref().is_some_and(has)
    }

    fn keep_allowed_sockets(&mut self) {
        self.sockets.retain(|(address, _)| self.allowed.has_address(*address));
    }

    fn state(&self, folder: &Path) -> anyhow::Result<DiskState> {
        ensure!(
            self.allows(|allowed| allowed.has_state(folder)),
            "{}: not in the configuration",
            folder.display()
        );
        Ok(DiskState::new(folder.to_owned()))
    }

    fn activate(&mut self, standing: PrefixState) -> anyhow::Result<ActivePrefixes> {
        let pin = self.guard.pin.as_ref();
        let rows = pin.map(|pin| guard::set_prefixes(pin, &standing.table())).transpose()?;
        self.standing = standing.clone();
        Ok(ActivePrefixes { standing, rows })
    }
}
