//! The life of the process: prepare, listen, serve, drain.

pub mod capacity;
mod certificates;
mod generation;
mod listen;
mod pages;
mod prefixes;
mod privileges;
mod reload;
mod stamp;
mod supervise;
mod systemd;
mod worker;

use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use nix::unistd::User;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

pub use certificates::BadCertificates;
pub use generation::log_format;
pub use listen::{BadListener, can_bind};
pub use privileges::BadUser;
pub use supervise::supervise;

use crate::admin::{self, AdminSocket, BadSocket};
use crate::config::{self, Config};
use crate::datapath::Event;
use crate::guard::{self, keeper::Keeper};
use crate::net::KernelTls;
use crate::observe::{Funnel, Log, Metrics};
use crate::prefixes::Standing;
use crate::registry::Refresher;
use crate::upstream::BadUpstream;
use crate::upstream::dns::BadDns;
use certificates::Certificates;
use generation::{Door, Generation, Parts, kernel_tls, mode, note_what_is_missing, protocols};
use listen::Listener;
use pages::{Reply, Status};
use prefixes::Prefixes;
use reload::Reloader;
use stamp::Watch;
use systemd::Sockets;
use worker::Workers;

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listener(#[from] BadListener),
    #[error(transparent)]
    Socket(#[from] BadSocket),
    #[error(transparent)]
    User(#[from] BadUser),
    #[error(transparent)]
    Certificates(#[from] BadCertificates),
    #[error(transparent)]
    Upstream(#[from] BadUpstream),
    #[error(transparent)]
    Dns(#[from] BadDns),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Everything that a configuration needs, read and checked; nothing listens yet.
pub struct Prepared {
    config: Config,
    parts: Parts,
    funnel: Funnel,
    log: Log,
    user: Option<User>,
    certificates: Option<Certificates>,
    standing: Standing,
    refresher: Option<Refresher>,
}

impl Prepared {
    /// `standing`: the prefixes whose connections go before others'.
    pub fn new(config: &Config, standing: Standing, log: Log) -> Result<Self, StartError> {
        let allowed = config.guard.as_ref().map(|guard| guard.allow.clone()).unwrap_or_default();
        Ok(Self {
            certificates: Certificates::load(config, &log)?,
            parts: Parts::new(config)?,
            funnel: Funnel::new(standing.table(), allowed)?,
            user: privileges::find(config.process.user.as_deref())?,
            refresher: Refresher::new(config, log.clone())?,
            config: config.clone(),
            log,
            standing,
        })
    }

    /// Takes the listeners' addresses; clients are still refused.
    pub fn bind(self) -> Result<Server, StartError> {
        let certificates = self.certificates.map(Arc::new);
        if let Some(certificates) = &certificates {
            certificates.prepare(self.user.as_ref().map(|user| (user.uid.as_raw(), user.gid.as_raw())))?;
        }
        let mut inherited = Sockets::inherited()?;
        let mut listener = |address| match inherited.take(address) {
            Some(socket) => Ok(Listener::inherited(socket, address)),
            None => Listener::bind(address),
        };
        let bind = |(address, protocol)| Ok(Door { listener: listener(address)?.into(), protocol });
        let protocols = protocols(&self.config, certificates.as_deref()).into_iter();
        let doors = protocols.map(bind).collect::<Result<_, BadListener>>()?;
        let admin = self.config.admin.as_ref();
        let listen = admin.and_then(|admin| admin.listen);
        let socket = admin.and_then(|admin| admin.socket.as_deref());
        let admin = Admin {
            listener: listen.map(&mut listener).transpose()?,
            socket: socket.map(AdminSocket::listen).transpose()?,
        };
        if let (Some(socket), Some(user)) = (&admin.socket, &self.user) {
            socket.give_to(user.uid.as_raw(), user.gid.as_raw())?;
        }
        inherited.close(&self.log);
        let Self { config, parts, funnel, log, user, standing, refresher, .. } = self;
        Ok(Server { config, parts, funnel, log, user, standing, refresher, certificates, doors, admin })
    }
}

/// A proxy that holds its addresses, and opens them when it runs.
pub struct Server {
    config: Config,
    parts: Parts,
    funnel: Funnel,
    log: Log,
    user: Option<User>,
    standing: Standing,
    refresher: Option<Refresher>,
    certificates: Option<Arc<Certificates>>,
    doors: Vec<Door>,
    admin: Admin,
}

/// Where the operator is answered.
struct Admin {
    listener: Option<Listener>,
    socket: Option<AdminSocket>,
}

impl Server {
    /// From now on counts where the guard's readers look.
    pub fn count_with(&mut self, attached: guard::Attached) {
        self.funnel.move_to(attached.funnel, attached.rows);
    }

    /// Gives up what only the start needed, then serves until a signal ends it: SIGTERM and SIGINT drain, a second one
    /// cuts; SIGHUP reads `file`, the configuration's, again. `keeper`: whoever sees to the guard, and without whom this
    /// process ends too.
    pub fn run(self, file: PathBuf, keeper: Option<Keeper>) -> Result<(), StartError> {
        let kernel_tls = kernel_tls(self.config.ktls, &self.log);
        privileges::give_up(self.user.as_ref())?;
        if let Some(keeper) = &keeper {
            supervise::end_with(keeper)?;
        }
        let control = runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&control, self.serve(file, kernel_tls, keeper.map(Arc::new)))
    }

    async fn serve(
        self,
        file: PathBuf,
        kernel_tls: Option<KernelTls>,
        keeper: Option<Arc<Keeper>>,
    ) -> Result<(), StartError> {
        let Self { config, parts, funnel, log, standing, refresher, certificates, doors, admin, .. } = self;
        let (mut stop, mut hangup) = (Stop::catch()?, signal(SignalKind::hangup())?);
        let (draining, drain) = watch::channel(false);
        let (ending, end) = watch::channel(false);
        let (drain, end) = (Event::new(drain), Event::new(end));
        let metrics = Arc::new(Metrics::new(funnel));
        let context = Arc::new(parts.context(&config, kernel_tls, log.clone(), Arc::clone(&metrics)));
        for Door { listener, protocol } in &doors {
            listener.open()?;
            log.note(&format!("listening on {listener} ({protocol})"));
        }
        note_what_is_missing(&context);
        let mode = mode(&config);
        let (generations, now) = watch::channel(Arc::new(Generation { context, doors, certificates, mode }));
        let workers = Workers::start(&now, &drain, &end)?;
        let prefixes = Prefixes::new(config.prefixes.clone(), standing, metrics, log.clone(), keeper.clone());
        let prefixes = Arc::new(prefixes);
        if let Some(refresher) = refresher {
            // Connecting, as the relay does it, keeps to one thread.
            drop(spawn_local(Arc::clone(&prefixes).follow(refresher)));
        }
        let (reload, mut reloads) = mpsc::channel(1);
        admin.open(Status { now: now.clone(), keeper: keeper.clone(), prefixes, reload, drain }, &log)?;
        let watched = file.clone();
        let mut watch = config.process.watch.then(|| Watch::new(move || config::files(&watched)));
        let mut reloader = Reloader::new(file, config, generations, keeper);
        systemd::ready(&log);
        loop {
            tokio::select! {
                () = settled(&mut watch) => drop(reloader.reload_and_tell()),
                () = stop.wait() => break,
                _ = hangup.recv() => drop(reloader.reload_and_tell()),
                // Whoever asked may have gone; the log has it too.
                Some(reply) = reloads.recv() => drop(Reply::send(reply, reloader.reload_and_tell())),
            }
        }
        let limit = now.borrow().context.timeouts.drain;
        drop(now);
        log.note(&format!("draining: what is under way has {} s", limit.as_secs_f64()));
        systemd::stopping(&log);
        reloader.close_doors();
        draining.send_replace(true);
        let mut finished = std::pin::pin!(workers.finished());
        let cut = tokio::select! {
            cut = &mut finished => cut,
            () = stop.wait() => { ending.send_replace(true); finished.await }
            () = tokio::time::sleep(limit) => { ending.send_replace(true); finished.await }
        };
        log.note(&format!("drained; {cut} connections were cut"));
        admin.close();
        Ok(())
    }
}

impl Admin {
    fn open(&self, status: Status, log: &Log) -> Result<(), StartError> {
        let status = Arc::new(status);
        if let Some(listener) = &self.listener {
            listener.open()?;
            log.note(&format!("listening on {listener} (admin)"));
            let listener = admin::Listener::Address(TcpListener::from_std(listener.share()?)?);
            tokio::spawn(admin::serve(listener, status.clone()));
        }
        if let Some(socket) = &self.socket {
            log.note(&format!("listening on {} (admin)", socket.path().display()));
            let listener = admin::Listener::Socket(UnixListener::from_std(socket.share()?)?);
            tokio::spawn(admin::serve(listener, status));
        }
        Ok(())
    }

    fn close(self) {
        if let Some(socket) = self.socket {
            socket.remove();
        }
    }
}

/// Returns when files have changed that are watched; without such, never.
async fn settled(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.settled().await,
        None => pending().await,
    }
}

/// The signals that end the process.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
