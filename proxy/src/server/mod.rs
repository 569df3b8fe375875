//! The two processes of a running proxy. The supervisor keeps the privileges; its worker parses
//! what comes from the network. They talk over [`ipc`].

pub mod capacity;
mod ipc;
mod listen;
mod privileges;
mod supervisor;
mod worker;

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

pub use ipc::{SupervisorError, read_and_write};
pub use listen::{ListenerError, can_bind, has_ipv6, is_optional};
pub use privileges::{UserError, worker_user};
pub use supervisor::{TakeoverError, inherits_sockets, run, run_in_one_process};
pub use worker::{
    CertificatesError, Confinement, ConfinementError, Prepared, is_worker, log_format, run_worker,
};

use crate::config::Config;
use crate::net::{KernelTls, NoKernelTls};
use crate::observe::Log;
use crate::prefixes::PrefixState;
use crate::upstream::BadUpstream;
use crate::upstream::dns::BadDns;

/// What a start begins with.
pub struct Start {
    /// Where `config` was read.
    pub file: PathBuf,
    pub config: Config,
    /// Meta's prefixes.
    pub standing: PrefixState,
    /// The guard may filter even where that will most likely lock the operator or Meta out.
    pub may_lock_out: bool,
    /// In place of the process that runs with this configuration.
    pub takes_over: bool,
    pub log: Log,
}

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listener(#[from] ListenerError),
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Confinement(#[from] ConfinementError),
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    #[error(transparent)]
    Upstream(#[from] BadUpstream),
    #[error(transparent)]
    Dns(#[from] BadDns),
    /// Without a source: its text has it already.
    #[error("cannot start: {0}")]
    System(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// What this machine can do, measured before the worker loses the means to.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The client connections that it can carry.
    connections: usize,
    /// The threads that it can run at once.
    threads: usize,
    kernel_tls: Result<KernelTls, NoKernelTls>,
    has_ipv6: bool,
    /// How often the service manager has to hear that all is well.
    watchdog: Option<Duration>,
}

impl Machine {
    pub fn measure(watchdog: Option<Duration>) -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self {
            connections: capacity::connections(),
            threads,
            kernel_tls: KernelTls::probe(),
            has_ipv6: has_ipv6(),
            watchdog,
        }
    }
}
