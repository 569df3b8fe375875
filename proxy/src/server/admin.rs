//! Where the operator is answered: at an address, which may change, and at a socket.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::StartError;
use super::listen::Listener;
use super::pages::Status;
use super::parent::{Parent, ParentError};
use crate::admin;
use crate::config::Config;
use crate::observe::Log;

/// What is held, and answered at once the proxy runs.
pub(super) struct Admin {
    listener: Option<Listener>,
    socket: Option<(UnixListener, PathBuf)>,
}

/// Answers until it is dropped.
pub(super) struct Answering {
    status: Arc<Status>,
    place: Option<Rc<Place>>,
    socket: Option<JoinHandle<()>>,
}

/// An address at which the operator is answered, until it is dropped.
pub(super) struct Place {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Admin {
    pub(super) fn new(config: &Config, parent: &Parent) -> Result<Self, StartError> {
        let listener = config
            .admin_listen()
            .map(|address| Ok::<_, ParentError>(Listener::new(parent.bind(address)?, address)));
        let socket =
            config.admin_socket().map(|path| Ok::<_, ParentError>((parent.admin_socket()?, path.to_owned())));
        Ok(Self { listener: listener.transpose()?, socket: socket.transpose()? })
    }

    pub(super) fn open(self, status: Status, parent: &Parent, log: &Log) -> Result<Answering, StartError> {
        let mut answering = Answering { status: Arc::new(status), place: None, socket: None };
        if let Some(listener) = &self.listener {
            answering.place = Some(answering.open(listener, parent, log)?);
        }
        if let Some((socket, path)) = self.socket {
            log.note(&format!("listening on {} (admin)", path.display()));
            let listener = admin::Listener::Socket(tokio::net::UnixListener::from_std(socket)?);
            answering.socket = Some(tokio::spawn(admin::serve(listener, answering.status.clone())));
        }
        Ok(answering)
    }
}

impl Answering {
    /// Where `config` wants it: where it is, or an address that is answered at from now on.
    pub(super) fn place(
        &self,
        config: &Config,
        parent: &Parent,
        log: &Log,
    ) -> Result<Option<Rc<Place>>, StartError> {
        let Some(address) = config.admin_listen() else { return Ok(None) };
        match self.place.as_ref().filter(|place| place.address == address) {
            Some(same) => Ok(Some(Rc::clone(same))),
            None => Ok(Some(self.open(&Listener::new(parent.bind(address)?, address), parent, log)?)),
        }
    }

    pub(super) fn move_to(&mut self, place: Option<Rc<Place>>) {
        self.place = place;
    }

    fn open(&self, listener: &Listener, parent: &Parent, log: &Log) -> Result<Rc<Place>, StartError> {
        parent.listen(listener.address())?;
        log.note(&format!("listening on {listener} (admin)"));
        let address = listener.address();
        let listener = admin::Listener::Address(TcpListener::from_std(listener.share()?)?);
        let task = tokio::spawn(admin::serve(listener, self.status.clone()));
        Ok(Rc::new(Place { address, task }))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.socket.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.task.abort();
    }
}
