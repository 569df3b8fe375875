use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use socket2::Socket;
use zeroize::Zeroizing;

use super::message::{self, Attached, InForce, Refusal, Request, StateRequest, Told};
use crate::access::{Access, MachineRoots, State, StateFile, read_state};
use crate::config::Config;
use crate::guard::{Detail, InterfaceState, Stats};
use crate::prefixes::{Network, Standing};

/// How long an answer may take: attaching the guard is the longest work.
const PATIENCE: Duration = Duration::from_secs(30);

/// The worker's end of the way to its parent, which may do what the worker may not.
#[derive(Clone, Debug)]
pub(in super::super) struct Parent(Arc<Mutex<Option<UnixStream>>>);

/// Why the parent did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// In its words, causes included.
    #[error("{}", .0.why)]
    Refused(Refused),
    #[error("the process that started this one does not answer any more: {0}")]
    Gone(io::Error),
}

/// What the parent answered in place of what was asked for.
pub struct Refused {
    why: String,
    code: Option<i32>,
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<ParentError> for io::Error {
    fn from(error: ParentError) -> Self {
        match error {
            ParentError::Refused(Refused { why, code }) => Refusal { code, why }.into_io(),
            ParentError::Gone(error) => error,
        }
    }
}

impl Parent {
    /// `socket`: the other end of the one that the parent keeps.
    ///
    /// Errors: setsockopt(2).
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(Arc::new(Mutex::new(Some(socket)))))
    }

    /// What the configuration's files say now.
    ///
    /// Errors: whatever is wrong with them.
    pub(in super::super) fn configuration(&self) -> Result<Config, ParentError> {
        let ((), file) = self.ask(&Request::Configuration)?;
        let read = |file: OwnedFd| Ok(serde_json::from_reader(BufReader::new(File::from(file)))?);
        descriptor(file).and_then(read).map_err(ParentError::Gone)
    }

    /// The configuration that was read last is in force.
    pub(in super::super) fn in_force(&self) -> Result<(), ParentError> {
        self.ask(&Request::InForce).map(|((), _)| ())
    }

    /// A socket that has the address, and does not listen yet.
    pub(in super::super) fn bind(&self, address: SocketAddr) -> Result<Socket, ParentError> {
        let ((), socket) = self.ask(&Request::Bind(address))?;
        descriptor(socket).map(Socket::from).map_err(ParentError::Gone)
    }

    /// From now on clients can connect to the socket that [`Parent::bind`] gave.
    pub(in super::super) fn listen(&self, address: SocketAddr) -> Result<(), ParentError> {
        self.ask(&Request::Listen(address)).map(|((), _)| ())
    }

    /// The command line's socket.
    pub(in super::super) fn admin_socket(&self) -> Result<UnixListener, ParentError> {
        let ((), socket) = self.ask(&Request::AdminSocket)?;
        descriptor(socket).map(UnixListener::from).map_err(ParentError::Gone)
    }

    /// Puts in force what the configuration says of the guard; and the map in which the proxy counts.
    pub(in super::super) fn guard(&self) -> Result<(Attached, OwnedFd), ParentError> {
        let (attached, map) = self.ask(&Request::Guard)?;
        Ok((attached, descriptor(map).map_err(ParentError::Gone)?))
    }

    /// Attaches the guard to configured interfaces that it is not on. Returns a line for each change.
    pub(in super::super) fn attach_missing(&self) -> Result<Vec<String>, ParentError> {
        self.ask(&Request::AttachMissing).map(|(changes, _)| changes)
    }

    /// The states of the configured interfaces.
    pub(in super::super) fn interfaces(&self) -> Result<Vec<InterfaceState>, ParentError> {
        self.ask(&Request::Interfaces).map(|(states, _)| states)
    }

    /// What the guard has counted; `None` while it is attached to no interface. Blocks until the answer is there.
    pub(in super::super) fn stats(&self, detail: Detail) -> Result<Option<Stats>, ParentError> {
        self.ask(&Request::Stats(detail)).map(|(stats, _)| stats)
    }

    /// Puts in force what the routing registry has of Meta's own, and stores it.
    pub(in super::super) fn refreshed(&self, registered: &BTreeSet<Network>) -> Result<InForce, ParentError> {
        self.ask(&Request::Refreshed(registered.clone())).map(|(in_force, _)| in_force)
    }

    /// Puts in force what was stored.
    pub(in super::super) fn stored(&self) -> Result<InForce, ParentError> {
        self.ask(&Request::Stored).map(|(in_force, _)| in_force)
    }

    /// Reads the configured list of prefixes again, with the last refresh; nothing changes yet.
    ///
    /// Errors: the list cannot be used.
    pub(in super::super) fn list(&self) -> Result<Standing, ParentError> {
        self.ask(&Request::ReadList).map(|(standing, _)| standing)
    }

    /// Puts in force what [`Parent::list`] has read last.
    pub(in super::super) fn list_in_force(&self) -> Result<InForce, ParentError> {
        self.ask(&Request::PutListInForce).map(|(in_force, _)| in_force)
    }

    pub(in super::super) fn ready(&self) -> Result<(), ParentError> {
        self.tell(Told::Ready)
    }

    pub(in super::super) fn reloading(&self) -> Result<(), ParentError> {
        self.tell(Told::Reloading)
    }

    pub(in super::super) fn alive(&self) -> Result<(), ParentError> {
        self.tell(Told::Alive)
    }

    pub(in super::super) fn stopping(&self) -> Result<(), ParentError> {
        self.tell(Told::Stopping)
    }

    fn tell(&self, told: Told) -> Result<(), ParentError> {
        self.ask(&Request::Tell(told)).map(|((), _)| ())
    }

    fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<(T, Option<OwnedFd>), ParentError> {
        let mut way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = way.as_ref().ok_or_else(|| ParentError::Gone(io::ErrorKind::NotConnected.into()))?;
        let sent = message::line(request).and_then(|line| exchange(socket, &Zeroizing::new(line)));
        match sent {
            Ok((Ok(answer), beside)) => Ok((answer, beside)),
            Ok((Err(Refusal { code, why }), _)) => Err(ParentError::Refused(Refused { why, code })),
            Err(error) => {
                // A later answer would be to another question.
                *way = None;
                Err(ParentError::Gone(error))
            }
        }
    }
}

type Answer<T> = (Result<T, Refusal>, Option<OwnedFd>);

fn exchange<T: DeserializeOwned>(mut socket: &UnixStream, request: &[u8]) -> io::Result<Answer<T>> {
    socket.write_all(request)?;
    let (line, beside) = message::receive(socket)?;
    Ok((serde_json::from_slice(&line)?, beside))
}

fn descriptor(beside: Option<OwnedFd>) -> io::Result<OwnedFd> {
    beside.ok_or_else(|| io::Error::other("an answer came without its descriptor"))
}

impl Access for Parent {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let ((), file) = self.ask(&Request::Open(path.to_owned()))?;
        let mut bytes = Vec::new();
        File::from(descriptor(file)?).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn roots(&self) -> io::Result<MachineRoots> {
        let (fault, file) = self.ask(&Request::Roots)?;
        let mut bytes = Vec::new();
        File::from(descriptor(file)?).read_to_end(&mut bytes)?;
        let roots = message::read_list(&bytes)?.into_iter();
        let certificates = roots.map(|root| CertificateDer::from(root.to_vec())).collect();
        Ok(MachineRoots { certificates, fault })
    }

    fn state(&self, folder: PathBuf) -> Box<dyn State> {
        Box::new(StateThrough { parent: self.clone(), folder })
    }
}

/// A folder that the parent can reach.
struct StateThrough {
    parent: Parent,
    folder: PathBuf,
}

impl StateThrough {
    fn ask<T: DeserializeOwned>(&self, request: StateRequest) -> io::Result<(T, Option<OwnedFd>)> {
        Ok(self.parent.ask(&Request::State(self.folder.clone(), request))?)
    }
}

impl State for StateThrough {
    fn prepare(&self) -> io::Result<()> {
        self.ask(StateRequest::Prepare).map(|((), _)| ())
    }

    fn read(&self, file: StateFile) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        let ((), file) = self.ask(StateRequest::Read(file))?;
        file.map(|file| read_state(&File::from(file))).transpose()
    }

    fn replace(&self, file: StateFile, bytes: &[u8]) -> io::Result<()> {
        let text = str::from_utf8(bytes).map_err(io::Error::other)?;
        self.ask(StateRequest::Replace(file, text.to_owned().into())).map(|((), _)| ())
    }

    fn certificates_beside(&self) -> io::Result<Vec<Zeroizing<Vec<u8>>>> {
        let ((), list) = self.ask(StateRequest::CertificatesBeside)?;
        let list = read_state(&File::from(descriptor(list)?))?;
        Ok(message::read_list(&list)?.into_iter().map(|one| Zeroizing::new(one.to_vec())).collect())
    }

    fn lock(&self) -> io::Result<OwnedFd> {
        let ((), held) = self.ask(StateRequest::Lock)?;
        descriptor(held)
    }
}
