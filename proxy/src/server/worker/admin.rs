//! Where the operator is answered: at an address, which may change, and at a socket.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::running::RunningProxy;
use crate::admin;
use crate::config::Config;
use crate::observe::Log;
use crate::server::StartError;
use crate::server::ipc::{SupervisorClient, SupervisorError};
use crate::server::listen::Listener;

/// The admin listeners before the proxy runs.
pub(super) struct Admin {
    listener: Option<Listener>,
    socket: Option<(UnixListener, PathBuf)>,
}

/// Serves operators until it is dropped.
pub(super) struct AdminServer {
    status: Arc<RunningProxy>,
    endpoint: Option<Rc<AdminEndpoint>>,
    socket: Option<JoinHandle<()>>,
}

/// An address where operators are served, until it is dropped.
pub(super) struct AdminEndpoint {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Admin {
    pub(super) fn new(config: &Config, supervisor: &SupervisorClient) -> Result<Self, StartError> {
        let listener = config
            .admin_listen()
            .map(|address| Ok::<_, SupervisorError>(Listener::new(supervisor.bind(address)?, address)));
        let socket = config
            .admin_socket()
            .map(|path| Ok::<_, SupervisorError>((supervisor.admin_socket()?, path.to_owned())));
        Ok(Self { listener: listener.transpose()?, socket: socket.transpose()? })
    }

    pub(super) fn open(
        self,
        status: RunningProxy,
        supervisor: &SupervisorClient,
        log: &Log,
    ) -> Result<AdminServer, StartError> {
        let mut admin_server = AdminServer { status: Arc::new(status), endpoint: None, socket: None };
        if let Some(listener) = &self.listener {
            admin_server.endpoint = Some(admin_server.open(listener, supervisor, log)?);
        }
        if let Some((socket, path)) = self.socket {
            log.note(&format!("listening on {} (admin)", path.display()));
            let listener = admin::Listener::Socket(tokio::net::UnixListener::from_std(socket)?);
            admin_server.socket = Some(tokio::spawn(admin::serve(listener, admin_server.status.clone())));
        }
        Ok(admin_server)
    }
}

impl AdminServer {
    /// The endpoint that `config` names: the present one, or another that serves from now on.
    pub(super) fn endpoint(
        &self,
        config: &Config,
        supervisor: &SupervisorClient,
        log: &Log,
    ) -> Result<Option<Rc<AdminEndpoint>>, StartError> {
        let Some(address) = config.admin_listen() else { return Ok(None) };
        match self.endpoint.as_ref().filter(|endpoint| endpoint.address == address) {
            Some(same) => Ok(Some(Rc::clone(same))),
            None => {
                Ok(Some(self.open(&Listener::new(supervisor.bind(address)?, address), supervisor, log)?))
            }
        }
    }

    pub(super) fn move_to(&mut self, endpoint: Option<Rc<AdminEndpoint>>) {
        self.endpoint = endpoint;
    }

    fn open(
        &self,
        listener: &Listener,
        supervisor: &SupervisorClient,
        log: &Log,
    ) -> Result<Rc<AdminEndpoint>, StartError> {
        supervisor.listen(listener.address())?;
        log.note(&format!("listening on {listener} (admin)"));
        let address = listener.address();
        let listener = admin::Listener::Address(TcpListener::from_std(listener.share()?)?);
        let task = tokio::spawn(admin::serve(listener, self.status.clone()));
        Ok(Rc::new(AdminEndpoint { address, task }))
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.socket.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for AdminEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}
