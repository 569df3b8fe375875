//! The life of the process: prepare, listen, serve, drain.

mod admin;
pub mod capacity;
mod certificates;
mod confine;
mod generation;
mod interfaces;
mod listen;
mod pages;
mod parent;
mod prefixes;
mod privileges;
mod pulse;
mod readiness;
mod reload;
mod stamp;
mod status;
mod systemd;
mod worker;

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

pub use certificates::BadCertificates;
pub use confine::{Confinement, Unconfined};
pub use generation::log_format;
pub use listen::{BadListener, can_bind, has_ipv6, is_optional};
pub use parent::{BadTakeover, ParentError, Start, is_given_sockets, read_and_write, run, run_unsplit};
pub use privileges::{BadUser, worker_user};

use crate::access::Access;
use crate::config::{Config, Guard};
use crate::datapath::{Life, Stage};
use crate::net::{KernelTls, NoKernelTls};
use crate::observe::{Funnel, Log, Metrics, clock};
use crate::prefixes::Standing;
use crate::registry::Refresher;
use crate::sys::Shared;
use crate::upstream::BadUpstream;
use crate::upstream::dns::BadDns;
use admin::Admin;
use certificates::Certificates;
use generation::{Door, Generation, Parts, kernel_tls, mode, note_missing_roots, protocols};
use interfaces::Interfaces;
use listen::Listener;
use pages::{Reply, Status};
use parent::{Order, Orders, Parent};
use prefixes::Prefixes;
use pulse::Pulse;
use reload::Reloader;
use status::{LastReload, Process};
use worker::Workers;

/// Why the proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listener(#[from] BadListener),
    #[error(transparent)]
    Parent(#[from] ParentError),
    #[error(transparent)]
    Takeover(#[from] BadTakeover),
    #[error(transparent)]
    User(#[from] BadUser),
    #[error(transparent)]
    Unconfined(#[from] Unconfined),
    #[error(transparent)]
    Certificates(#[from] BadCertificates),
    #[error(transparent)]
    Upstream(#[from] BadUpstream),
    #[error(transparent)]
    Dns(#[from] BadDns),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// What is known of the machine before the worker may look at it no more.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Client connections that it can carry.
    connections: usize,
    /// Threads that it can run at once.
    threads: usize,
    kernel_tls: Result<KernelTls, NoKernelTls>,
    has_ipv6: bool,
    /// How often the service manager has to hear that all is well.
    watchdog: Option<Duration>,
}

impl Machine {
    pub fn measure() -> Self {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        Self {
            connections: capacity::connections(),
            threads,
            kernel_tls: KernelTls::probe(),
            has_ipv6: has_ipv6(),
            watchdog: systemd::watchdog(),
        }
    }
}

/// Everything that a configuration needs, read and checked; nothing listens yet.
pub struct Prepared {
    parts: Parts,
    funnel: Funnel,
    certificates: Option<Certificates>,
    refresher: Option<Refresher>,
}

impl Prepared {
    /// `standing`: the prefixes whose connections go before others'. `access`: how the files that `config` names are
    /// reached.
    pub fn new(
        config: &Config,
        standing: &Standing,
        machine: &Machine,
        log: &Log,
        access: &Arc<dyn Access>,
    ) -> Result<Self, StartError> {
        let allowed = config.guard.as_ref().map(|guard| guard.allow.clone()).unwrap_or_default();
        Ok(Self {
            certificates: Certificates::load(config, log, access)?,
            parts: Parts::new(config, machine, &**access)?,
            funnel: Funnel::new(standing.table(), allowed)?,
            refresher: Refresher::new(config, log.clone(), &**access)?,
        })
    }
}

/// Serves until an order ends it; `orders`: the end at which they come.
///
/// Errors: it does not start, or the parent has ended.
fn serve(
    config: Config,
    standing: Standing,
    machine: Machine,
    parent: Parent,
    orders: UnixStream,
    log: Log,
    file: PathBuf,
) -> Result<(), StartError> {
    let access: Arc<dyn Access> = Arc::new(parent.clone());
    let Prepared { parts, mut funnel, certificates, refresher } =
        Prepared::new(&config, &standing, &machine, &log, &access)?;
    let certificates = certificates.map(Arc::new);
    if let Some(certificates) = &certificates {
        certificates.prepare()?;
    }
    let door = |(address, protocol)| {
        let listener = Listener::new(parent.bind(address)?, address);
        Ok(Door { listener: listener.into(), protocol })
    };
    let protocols = protocols(&config, certificates.as_deref(), &access, &machine, &log);
    let doors = protocols.into_iter().map(door).collect::<Result<_, ParentError>>()?;
    let admin = Admin::new(&config, &parent)?;
    // Before the first connection can come in, so that none goes uncounted.
    let wants_guard = config.guard.as_ref().is_some_and(Guard::is_attached);
    let has_guard = wants_guard && attach(&mut funnel, &parent, &log);
    let interfaces = Interfaces::default();
    if wants_guard {
        interfaces.ask(&parent, &log);
    }
    let kernel_tls = kernel_tls(config.ktls, &machine, &log);
    let control = runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Server {
        config,
        parts,
        funnel,
        machine,
        log,
        file,
        standing,
        refresher,
        certificates,
        kernel_tls,
        doors,
        admin,
        has_guard,
        interfaces,
    };
    LocalSet::new().block_on(&control, server.run(parent, orders))
}

/// Whether the guard is attached; that it cannot be never stops the proxy.
fn attach(funnel: &mut Funnel, parent: &Parent, log: &Log) -> bool {
    let attached = parent.guard().map_err(io::Error::from).and_then(|(attached, map)| {
        funnel.move_to(Shared::map(map.as_fd(), Funnel::CELLS)?, attached.rows);
        Ok(attached.words)
    });
    log.note(&match &attached {
        Ok(words) => format!("guard: {words}"),
        Err(error) => format!("guard: not attached, serving without it: {error}"),
    });
    attached.is_ok()
}

/// A proxy that holds its addresses, and opens them when it runs.
struct Server {
    config: Config,
    parts: Parts,
    funnel: Funnel,
    machine: Machine,
    log: Log,
    /// The configuration's.
    file: PathBuf,
    standing: Standing,
    refresher: Option<Refresher>,
    certificates: Option<Arc<Certificates>>,
    kernel_tls: Option<KernelTls>,
    doors: Vec<Door>,
    admin: Admin,
    has_guard: bool,
    interfaces: Interfaces,
}

impl Server {
    async fn run(self, parent: Parent, orders: UnixStream) -> Result<(), StartError> {
        let Self { config, parts, funnel, machine, log, file, standing, refresher, .. } = self;
        let Self { certificates, kernel_tls, doors, admin, has_guard, interfaces, .. } = self;
        let mut orders = Orders::new(orders)?;
        let (stage, life) = watch::channel(Stage::Serving);
        let life = Life::new(life);
        let metrics = Arc::new(Metrics::new(funnel));
        let context =
            parts.context(&config, certificates.as_deref(), kernel_tls, log.clone(), Arc::clone(&metrics));
        let context = Arc::new(context);
        for Door { listener, protocol } in &doors {
            parent.listen(listener.address())?;
            log.note(&format!("listening on {listener} ({protocol})"));
        }
        note_missing_roots(&context);
        let (mode, admin_hosts) = (mode(&config), config.admin_hosts().to_vec());
        let generation = Generation { context, doors, certificates, mode, admin_hosts };
        let (generations, now) = watch::channel(Arc::new(generation));
        let pulse = Pulse::new(machine.threads, machine.watchdog);
        let workers = Workers::start(&pulse, &now, &life)?;
        let prefixes =
            Arc::new(Prefixes::new(config.prefixes.clone(), standing, metrics, log.clone(), parent.clone()));
        if let Some(refresher) = refresher {
            // Connecting, as the relay does it, keeps to one thread.
            drop(spawn_local(Arc::clone(&prefixes).follow(refresher)));
        }
        let (reload, mut reloads) = mpsc::channel(1);
        let process = Process { since: clock::now(), file, last_reload: LastReload::default() };
        let last_reload = process.last_reload.clone();
        let own = Arc::clone(&prefixes);
        let status = Status {
            now: now.clone(),
            parent: parent.clone(),
            prefixes,
            interfaces: interfaces.clone(),
            reload,
            life,
            process,
        };
        let answering = admin.open(status, &parent, &log)?;
        let mut reloader =
            Reloader::new(config, machine, generations, answering, own, has_guard, parent.clone());
        parent.ready()?;
        let told = parent.clone();
        drop(spawn_local(async move { pulse.tell(|| told.alive()).await }));
        let over = loop {
            tokio::select! {
                order = orders.next() => match order? {
                    Order::Stop => break Stage::Draining,
                    Order::StepAside => {
                        // The other process answers there.
                        reloader.stop_answering();
                        break Stage::Replaced;
                    }
                    Order::Reload => {
                        last_reload.note(&reloader.reload_and_tell());
                        interfaces.ask(&parent, &log);
                    }
                    Order::AskForInterfaces => interfaces.ask(&parent, &log),
                    Order::ReadCertificates => reloader.read_certificates_again(),
                },
                // Whoever asked may have gone; the log has it too.
                Some(reply) = reloads.recv() => {
                    let outcome = reloader.reload_and_tell();
                    last_reload.note(&outcome);
                    interfaces.ask(&parent, &log);
                    drop(Reply::send(reply, outcome));
                }
            }
        };
        let limit = now.borrow().context.timeouts.drain;
        drop(now);
        log.note(&format!("draining: what is under way has {} s", limit.as_secs_f64()));
        reloader.close_doors();
        if let Err(error) = parent.stopping() {
            // What is under way is still worth its end.
            log.note(&error.to_string());
        }
        stage.send_replace(over);
        let mut finished = std::pin::pin!(workers.finished());
        let cut = tokio::select! {
            cut = &mut finished => cut,
            stopped = orders.stop() => { stopped?; stage.send_replace(Stage::Ending); finished.await }
            () = tokio::time::sleep(limit) => { stage.send_replace(Stage::Ending); finished.await }
        };
        let connections = if cut == 1 { "connection was" } else { "connections were" };
        log.note(&format!("drained; {cut} {connections} cut"));
        Ok(())
    }
}
