//! The life of the process: prepare, listen, serve, drain.

pub mod capacity;
mod certificates;
mod listen;
mod pages;
mod prefixes;
mod privileges;
mod supervise;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use nix::unistd::User;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

pub use listen::{BadListener, can_bind};
pub use privileges::BadUser;
pub use supervise::supervise;

use crate::admin::{self, AdminSocket, BadSocket};
use crate::config::{self, Config, Mode};
use crate::datapath::{Admission, Context, Event, Protocol, Redirect};
use crate::guard::{self, keeper::Keeper};
use crate::observe::{Funnel, Log, Metrics};
use crate::prefixes::Standing;
use crate::registry::Refresher;
use crate::tls::BadTls;
use crate::upstream::dns::BadDns;
use crate::upstream::{BadUpstream, Directory, Dns};
use certificates::Certificates;
use listen::Listener;
use pages::Status;
use prefixes::Prefixes;
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
    Tls(#[from] BadTls),
    #[error(transparent)]
    Upstream(#[from] BadUpstream),
    #[error(transparent)]
    Dns(#[from] BadDns),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Everything that a configuration needs, read and checked; nothing listens yet.
pub struct Prepared {
    context: Context,
    relay: Vec<(SocketAddr, Protocol)>,
    admin: Option<config::Admin>,
    user: Option<User>,
    certificates: Option<Certificates>,
    mode: Mode,
    prefixes: config::Prefixes,
    standing: Standing,
    refresher: Option<Refresher>,
}

impl Prepared {
    /// `standing`: the prefixes whose connections go before others'.
    pub fn new(config: &Config, standing: Standing, log: Log) -> Result<Self, StartError> {
        let mut relay = Vec::new();
        let mut certificates = None;
        if let Some(tls) = &config.tls {
            let (server_config, loaded) = Certificates::load(tls)?;
            let https = Protocol::Https(server_config.into());
            certificates = Some(loaded);
            relay.extend(config.listen.https.iter().map(|address| (*address, https.clone())));
        }
        let redirect = Protocol::Redirect(Redirect {
            certificates: certificates.as_ref().map(Certificates::resolver),
            https_port: config.listen.https.first().map_or(443, |address| address.port()),
        });
        relay.extend(config.listen.http.iter().map(|address| (*address, redirect.clone())));
        let plain = Protocol::Plain(config.listen.plain_scheme);
        relay.extend(config.listen.plain.iter().map(|address| (*address, plain.clone())));
        let allowed = config.guard.as_ref().map(|guard| guard.allow.clone()).unwrap_or_default();
        let limits = &config.limits;
        let most = limits.connections.unwrap_or(capacity::connections());
        let admission = Admission::new(most, limits.reserved_for_meta, limits.per_source);
        let context = Context {
            admission,
            proxy_protocol_from: config.listen.proxy_protocol_from.clone(),
            name: config.relay.name.clone(),
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
            directory: Directory::new(&config.upstreams)?,
            dns: Dns::new(&config.dns)?,
            log: log.clone(),
            metrics: Metrics::new(Funnel::new(standing.table(), allowed)?),
        };
        let mode = config.guard.as_ref().map_or(Mode::Observe, |guard| guard.mode);
        let user = privileges::find(config.process.user.as_deref())?;
        let refresher = Refresher::new(config, log)?;
        let prefixes = config.prefixes.clone();
        let admin = config.admin.clone();
        Ok(Self { context, relay, admin, user, certificates, mode, prefixes, standing, refresher })
    }

    /// Takes the listeners' addresses; clients are still refused.
    pub fn bind(self) -> Result<Server, StartError> {
        let Self { context, relay, admin, user, certificates, mode, prefixes, standing, refresher } = self;
        let bind = |(address, protocol)| Ok((Listener::bind(address)?, protocol));
        let relay = relay.into_iter().map(bind).collect::<Result<_, BadListener>>()?;
        let listen = admin.as_ref().and_then(|admin| admin.listen);
        let socket = admin.as_ref().and_then(|admin| admin.socket.as_deref());
        let admin = Admin {
            listener: listen.map(Listener::bind).transpose()?,
            socket: socket.map(AdminSocket::listen).transpose()?,
        };
        if let (Some(socket), Some(user)) = (&admin.socket, &user) {
            socket.give_to(user.uid.as_raw(), user.gid.as_raw())?;
        }
        Ok(Server { context, relay, admin, user, certificates, mode, prefixes, standing, refresher })
    }
}

/// A proxy that holds its addresses, and opens them when it runs.
pub struct Server {
    context: Context,
    relay: Vec<(Listener, Protocol)>,
    admin: Admin,
    user: Option<User>,
    certificates: Option<Certificates>,
    mode: Mode,
    prefixes: config::Prefixes,
    standing: Standing,
    refresher: Option<Refresher>,
}

/// Where the operator is answered.
struct Admin {
    listener: Option<Listener>,
    socket: Option<AdminSocket>,
}

impl Server {
    /// From now on counts where the guard's readers look.
    pub fn count_with(&mut self, attached: guard::Attached) {
        self.context.metrics.funnel.move_to(attached.funnel, attached.rows);
    }

    /// Gives up what only the start needed, then serves until a signal ends it: SIGTERM and SIGINT drain, a second one
    /// cuts. `keeper`: whoever sees to the guard, and without whom this process ends too.
    pub fn run(self, keeper: Option<Keeper>) -> Result<(), StartError> {
        privileges::give_up(self.user.as_ref())?;
        if let Some(keeper) = &keeper {
            supervise::end_with(keeper)?;
        }
        let control = runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&control, self.serve(keeper))
    }

    async fn serve(self, keeper: Option<Keeper>) -> Result<(), StartError> {
        let Self { context, relay, admin, certificates, mode, prefixes, standing, refresher, .. } = self;
        let log = context.log.clone();
        let mut stop = Stop::catch()?;
        let context = Arc::new(context);
        let (draining, drain) = watch::channel(false);
        let (ending, end) = watch::channel(false);
        let (drain, end) = (Event::new(drain), Event::new(end));
        for (listener, protocol) in &relay {
            listener.open()?;
            log.note(&format!("listening on {listener} ({protocol})"));
        }
        let workers = Workers::start(&relay, &context, &drain, &end)?;
        drop(relay);
        let keeper = keeper.map(Arc::new);
        let prefixes = Arc::new(Prefixes::new(prefixes, standing, Arc::clone(&context), keeper.clone()));
        if let Some(refresher) = refresher {
            // Connecting, as the relay does it, keeps to one thread.
            drop(spawn_local(Arc::clone(&prefixes).follow(refresher)));
        }
        let certificates_now = certificates.as_ref().map(Certificates::resolver);
        let context_now = Arc::clone(&context);
        admin.open(
            Status { context: context_now, certificates: certificates_now, keeper, prefixes, mode, drain },
            &log,
        )?;
        note_what_is_missing(&context);
        if let Some(certificates) = certificates {
            tokio::spawn(certificates.follow(log.clone()));
        }
        stop.wait().await;
        let limit = context.timeouts.drain;
        log.note(&format!("draining: what is under way has {} s", limit.as_secs_f64()));
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

fn note_what_is_missing(context: &Context) {
    if context.directory.is_empty() {
        context.log.note("[upstreams] is empty: every request will be answered 403");
    }
    for name in context.directory.unverified() {
        context.log.note(&format!(
            "WARNING: upstream {name}: verify = false: anyone on the way to it can read and change its messages"
        ));
    }
    if context.directory.lacks_roots() {
        let message = "no root certificates on this machine: upstreams without `ca` will fail; \
                       install the package ca-certificates";
        context.log.note(message);
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
