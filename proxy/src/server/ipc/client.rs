//! The worker's side of the calls.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use socket2::Socket;
use zeroize::Zeroizing;

use super::calls::*;
use super::message::{self, Refusal};
use crate::access::{Access, MachineRoots, State, StateFile, read_state};
use crate::config::Config;
use crate::guard::{Detail, InterfaceState, KernelCounters, Stats};
use crate::observe::KernelTimes;
use crate::prefixes::{Network, PrefixState};

/// How long a reply may take: attaching the guard is the longest work.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// Room for every counter that the guard may have.
const MAX_REPLY_BYTES: usize = 16 << 20;

/// The worker's end of the socket to its supervisor, which may do what the worker may not.
#[derive(Clone, Debug)]
pub(in crate::server) struct SupervisorClient(Arc<Mutex<Option<UnixStream>>>);

/// Why the supervisor did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// In its words, causes included.
    #[error("{}", .0.why)]
    Refused(Refused),
    #[error("the supervisor does not answer any more: {0}")]
    Gone(io::Error),
}

/// What the supervisor answered in place of a reply.
pub struct Refused {
    why: String,
    code: Option<i32>,
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<SupervisorError> for io::Error {
    fn from(error: SupervisorError) -> Self {
        match error {
            SupervisorError::Refused(Refused { why, code }) => Refusal { code, why }.into_io(),
            SupervisorError::Gone(error) => error,
        }
    }
}

impl SupervisorClient {
    /// `socket`: the other end of the one that the supervisor keeps.
    ///
    /// Errors: setsockopt(2).
    pub(in crate::server) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
        socket.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self(Arc::new(Mutex::new(Some(socket)))))
    }

    /// What this worker begins with, and its end of the channel of commands.
    pub(in crate::server) fn begin(&self) -> Result<(Startup, UnixStream), SupervisorError> {
        self.call_with_descriptor(Begin).map(|(startup, commands)| (startup, commands.into()))
    }

    /// The configuration in force.
    pub(in crate::server) fn configuration(&self) -> Result<Config, SupervisorError> {
        self.call_with_descriptor(OpenConfiguration).and_then(|((), file)| parse(file))
    }

    /// What the configuration's files say now.
    ///
    /// Errors: whatever is wrong with them.
    pub(in crate::server) fn read_configuration(&self) -> Result<Config, SupervisorError> {
        self.call_with_descriptor(ReadConfiguration).and_then(|((), file)| parse(file))
    }

    /// The configuration that was read last is in force.
    pub(in crate::server) fn activate_configuration(&self) -> Result<(), SupervisorError> {
        self.call(ActivateConfiguration)
    }

    /// A socket that has the address, and does not listen yet.
    pub(in crate::server) fn bind(&self, address: SocketAddr) -> Result<Socket, SupervisorError> {
        self.call_with_descriptor(Bind(address)).map(|((), socket)| socket.into())
    }

    /// From now on clients can connect to the socket that [`SupervisorClient::bind`] returned.
    pub(in crate::server) fn listen(&self, address: SocketAddr) -> Result<(), SupervisorError> {
        self.call(Listen(address))
    }

    /// The command line's socket.
    pub(in crate::server) fn admin_socket(&self) -> Result<UnixListener, SupervisorError> {
        self.call_with_descriptor(OpenAdminSocket).map(|((), socket)| socket.into())
    }

    /// Puts in force what the configuration says of the guard. Returns also the map in which the
    /// proxy counts.
    pub(in crate::server) fn start_guard(&self) -> Result<(AttachedGuard, OwnedFd), SupervisorError> {
        self.call_with_descriptor(StartGuard)
    }

    /// Attaches the guard to configured interfaces that it is not on. Returns a line for each
    /// change.
    pub(in crate::server) fn attach_missing(&self) -> Result<Vec<String>, SupervisorError> {
        self.call(AttachMissing)
    }

    /// The states of the configured interfaces.
    pub(in crate::server) fn interfaces(&self) -> Result<Vec<InterfaceState>, SupervisorError> {
        self.call(ReadInterfaces)
    }

    /// What the guard has counted; `None` while it is attached to no interface. Blocks until the
    /// reply is there.
    pub(in crate::server) fn stats(&self, detail: Detail) -> Result<Option<Stats>, SupervisorError> {
        self.call(ReadStats(detail))
    }

    /// When the kernel saw the steps of a client's handshake; `None`: it was not followed.
    pub(in crate::server) fn handshake(
        &self,
        client: SocketAddr,
    ) -> Result<Option<KernelTimes>, SupervisorError> {
        self.call(ReadHandshake(client))
    }

    /// The history's file, and why it will be gone with the supervisor, if so.
    pub(in crate::server) fn history(&self) -> Result<(Option<String>, File), SupervisorError> {
        self.call_with_descriptor(OpenHistory).map(|(without_disk, file)| (without_disk, file.into()))
    }

    /// Takes a damaged history out of the way; where it is then.
    pub(in crate::server) fn set_history_aside(&self) -> Result<PathBuf, SupervisorError> {
        self.call(SetHistoryAside)
    }

    /// The ledger's file, why it will be gone with the supervisor, if so, and whether another
    /// process may still write to it.
    pub(in crate::server) fn ledger(&self) -> Result<(Option<String>, bool, File), SupervisorError> {
        let ((without_disk, is_shared), file) = self.call_with_descriptor(OpenLedger)?;
        Ok((without_disk, is_shared, file.into()))
    }

    /// Takes a damaged ledger out of the way; where it is then.
    pub(in crate::server) fn set_ledger_aside(&self) -> Result<PathBuf, SupervisorError> {
        self.call(SetLedgerAside)
    }

    /// Removes the ledger that was set aside.
    pub(in crate::server) fn remove_ledger_aside(&self) -> Result<(), SupervisorError> {
        self.call(RemoveLedgerAside)
    }

    /// Whether the machine's clock is kept right.
    pub(in crate::server) fn clock_is_synchronised(&self) -> Result<bool, SupervisorError> {
        self.call(ReadClock)
    }

    /// The file in which POSTs under way are counted, and the slots in it.
    pub(in crate::server) fn open_posts(&self) -> Result<(OpenPostsSlots, File), SupervisorError> {
        self.call_with_descriptor(ShareOpenPosts).map(|(slots, file)| (slots, file.into()))
    }

    /// What the kernel counts of all connections of the network namespace.
    pub(in crate::server) fn kernel_counters(&self) -> Result<KernelCounters, SupervisorError> {
        self.call(ReadKernelCounters)
    }

    /// Puts in force what the routing registry has of Meta's own, and stores it.
    pub(in crate::server) fn activate_refresh(
        &self,
        registered: &BTreeSet<Network>,
    ) -> Result<ActivePrefixes, SupervisorError> {
        self.call(ActivateRefresh(registered.clone()))
    }

    /// Puts in force what was stored.
    pub(in crate::server) fn activate_stored(&self) -> Result<ActivePrefixes, SupervisorError> {
        self.call(ActivateStored)
    }

    /// Reads the configured list of prefixes again, with the last refresh; nothing changes yet.
    ///
    /// Errors: the list cannot be used.
    pub(in crate::server) fn read_prefix_list(&self) -> Result<PrefixState, SupervisorError> {
        self.call(ReadPrefixList)
    }

    /// Puts in force what [`SupervisorClient::read_prefix_list`] has read last.
    pub(in crate::server) fn activate_prefix_list(&self) -> Result<ActivePrefixes, SupervisorError> {
        self.call(ActivatePrefixList)
    }

    pub(in crate::server) fn notify(&self, event: WorkerEvent) -> Result<(), SupervisorError> {
        self.call(Notify(event))
    }

    fn call<C: Call>(&self, call: C) -> Result<C::Reply, SupervisorError> {
        self.served(call).map(|served| served.reply)
    }

    fn call_with_descriptor<C: Call>(&self, call: C) -> Result<(C::Reply, OwnedFd), SupervisorError> {
        let Served { reply, descriptor } = self.served(call)?;
        let missing = || SupervisorError::Gone(io::Error::other("a reply came without its descriptor"));
        Ok((reply, descriptor.ok_or_else(missing)?))
    }

    fn served<C: Call>(&self, call: C) -> Result<Served<C::Reply>, SupervisorError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let socket =
            held.as_ref().ok_or_else(|| SupervisorError::Gone(io::ErrorKind::NotConnected.into()))?;
        match exchange(socket, call) {
            Ok(Served { reply: Ok(reply), descriptor }) => Ok(Served { reply, descriptor }),
            Ok(Served { reply: Err(Refusal { code, why }), .. }) => {
                Err(SupervisorError::Refused(Refused { why, code }))
            }
            Err(error) => {
                // A reply that comes later would belong to another call.
                *held = None;
                Err(SupervisorError::Gone(error))
            }
        }
    }
}

fn parse(file: OwnedFd) -> Result<Config, SupervisorError> {
    let mut file = File::from(file);
    let mut text = Vec::new();
    // A worker before this one may have read it, and descriptors share their place.
    file.rewind().and_then(|()| file.read_to_end(&mut text)).map_err(SupervisorError::Gone)?;
    serde_json::from_slice(&text).map_err(|error| SupervisorError::Gone(error.into()))
}

fn exchange<C: Call>(mut socket: &UnixStream, call: C) -> io::Result<Served<Result<C::Reply, Refusal>>> {
    // A key may be in it.
    let request = Zeroizing::new(message::line(&call.into())?);
    socket.write_all(&request)?;
    let (line, descriptor) = message::receive(socket, MAX_REPLY_BYTES)?;
    Ok(Served { reply: serde_json::from_slice(&line)?, descriptor })
}

impl Access for SupervisorClient {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let ((), file) = self.call_with_descriptor(OpenFile(path.to_owned()))?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn roots(&self) -> io::Result<MachineRoots> {
        let (fault, file) = self.call_with_descriptor(ReadRoots)?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        let roots = message::read_list(&bytes)?.into_iter();
        let certificates = roots.map(|root| CertificateDer::from(root.to_vec())).collect();
        Ok(MachineRoots { certificates, fault })
    }

    fn state(&self, folder: PathBuf) -> Box<dyn State> {
        Box::new(SupervisedState { supervisor: self.clone(), folder })
    }
}

/// A state folder that the supervisor can reach.
struct SupervisedState {
    supervisor: SupervisorClient,
    folder: PathBuf,
}

impl State for SupervisedState {
    fn prepare(&self) -> io::Result<()> {
        Ok(self.supervisor.call(PrepareState(self.folder.clone()))?)
    }

    fn read(&self, file: StateFile) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let served = self.supervisor.served(ReadState(self.folder.clone(), file))?;
        served.descriptor.map(|file| read_state(&File::from(file))).transpose()
    }

    fn replace(&self, file: StateFile, bytes: &[u8]) -> io::Result<()> {
        let text = Zeroizing::new(str::from_utf8(bytes).map_err(io::Error::other)?.to_owned());
        Ok(self.supervisor.call(ReplaceState(self.folder.clone(), file, text))?)
    }

    fn certificates_beside(&self) -> io::Result<Vec<Zeroizing<Vec<u8>>>> {
        let ((), list) = self.supervisor.call_with_descriptor(ReadCertificatesBeside(self.folder.clone()))?;
        let list = read_state(&File::from(list))?;
        Ok(message::read_list(&list)?.into_iter().map(|one| Zeroizing::new(one.to_vec())).collect())
    }

    fn lock(&self) -> io::Result<OwnedFd> {
        self.supervisor
            .call_with_descriptor(LockState(self.folder.clone()))
            .map(|((), held)| held)
            .map_err(Into::into)
    }
}
