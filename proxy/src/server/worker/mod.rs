//! The worker: it parses everything that comes from the network, serves, and may do nothing else.
//! What it needs besides, its supervisor does for it.

mod admin;
mod certificates;
mod confine;
mod generation;
mod insight;
mod interfaces;
mod ledger;
mod ledger_metrics;
mod pages;
mod prefixes;
mod readiness;
mod reload;
mod running;
mod status;
mod threads;
mod watchdog;

use std::env;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{getppid, set_parent_process_death_signal};
use rustix::thread::set_name;
use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::{LocalSet, spawn_local};

pub use certificates::CertificatesError;
pub use confine::{Confinement, ConfinementError};
pub use generation::log_format;

use super::ipc::{
    Command, CommandReceiver, Startup, SupervisorClient, SupervisorError, WorkerEvent, socket_on_stdin,
};
use super::listen::Listener;
use super::{Machine, StartError, privileges};
use crate::access::Access;
use crate::config::{Config, Confine, Guard};
use crate::datapath::{Lifecycle, Stage};
use crate::net::KernelTls;
use crate::observe::{Funnel, Log, Metrics, clock};
use crate::prefixes::{Classifier, PrefixState};
use crate::registry::Refresher;
use crate::sys::Shared;
use admin::Admin;
use certificates::Certificates;
use generation::{BoundListener, Generation, Parts, kernel_tls, mode, note_missing_roots, protocols};
use insight::Insight;
use interfaces::Interfaces;
use ledger::LedgerKeeper;
use prefixes::Prefixes;
use reload::Reloader;
use running::{LastReload, Process, Reply, RunningProxy};
use threads::WorkerThreads;
use watchdog::Watchdog;

/// Everything that a configuration needs, read and checked; nothing listens yet.
pub struct Prepared {
    parts: Parts,
    classifier: Classifier,
    certificates: Option<Certificates>,
    refresher: Option<Refresher>,
}

impl Prepared {
    /// `standing`: the prefixes whose connections go before others'. `access`: how the files that
    /// `config` names are reached.
    pub fn new(
        config: &Config,
        standing: &PrefixState,
        machine: &Machine,
        log: &Log,
        access: &Arc<dyn Access>,
    ) -> Result<Self, StartError> {
        let allowed = config.guard.as_ref().map(|guard| guard.allow.clone()).unwrap_or_default();
        Ok(Self {
            certificates: Certificates::load(config, log, access)?,
            parts: Parts::new(config, machine, &**access)?,
            classifier: Classifier::new(standing.table(), allowed),
            refresher: Refresher::new(config, log.clone(), &**access)?,
        })
    }
}

/// Tells this process that it is a worker, and its standard input the socket to its supervisor.
pub(super) const VARIABLE: &str = "HOOKGATE_WORKER";

/// Whether this process was started as a worker.
pub fn is_worker() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Serves until a command ends it, with no more privileges than that takes.
///
/// Errors: it does not start, or the supervisor has ended.
pub fn run_worker() -> Result<(), StartError> {
    // It would be that of /proc/self/exe.
    set_name(c"hookgate").map_err(io::Error::from)?;
    privileges::keep_memory_private()?;
    leave_signals_to_supervisor()?;
    let supervisor = SupervisorClient::new(socket_on_stdin()?)?;
    let (startup, commands) = supervisor.begin()?;
    let machine = Machine::measure(startup.watchdog);
    privileges::give_up(startup.user.as_ref())?;
    end_with(startup.supervisor)?;
    let config = supervisor.configuration()?;
    let log = Log::new(log_format(config.log.format), config.log.access);
    let confinement = Confinement::enter();
    if config.process.confine == Confine::Required {
        confinement.ensure_required()?;
    }
    for gap in confinement.gaps() {
        log.note(&gap);
    }
    serve(startup, config, machine, supervisor, commands, log)
}

/// The same in a process that keeps its privileges.
///
/// Errors: as [`run_worker`].
pub(super) fn run_unconfined(supervisor: SupervisorClient, log: Log) -> Result<(), StartError> {
    let (startup, commands) = supervisor.begin()?;
    let (config, machine) = (supervisor.configuration()?, Machine::measure(startup.watchdog));
    serve(startup, config, machine, supervisor, commands, log)
}

/// Signals to every process of this name or terminal are meant for the supervisor, and must be
/// heard once.
fn leave_signals_to_supervisor() -> io::Result<()> {
    let all = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR2];
    Ok(all.into_iter().collect::<SigSet>().thread_block()?)
}

/// From now on this process ends with its supervisor, if that may signal it; if not, its commands
/// end. The kernel forgets this when the process's user changes, so call it afterwards.
///
/// Errors: the supervisor has ended already.
fn end_with(supervisor: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    match getppid() {
        Some(parent) if parent.as_raw_nonzero().get().cast_unsigned() == supervisor => Ok(()),
        _ => Err(io::Error::other("the supervisor has ended")),
    }
}

/// Errors: it does not start, or the supervisor has ended.
fn serve(
    startup: Startup,
    config: Config,
    machine: Machine,
    supervisor: SupervisorClient,
    commands: UnixStream,
    log: Log,
) -> Result<(), StartError> {
    let Startup { file, standing, restarts, .. } = startup;
    let access: Arc<dyn Access> = Arc::new(supervisor.clone());
    let Prepared { parts, classifier, certificates, refresher } =
        Prepared::new(&config, &standing, &machine, &log, &access)?;
    let certificates = certificates.map(Arc::new);
    if let Some(certificates) = &certificates {
        certificates.prepare()?;
    }
    let bind = |(address, protocol)| {
        let listener = Listener::new(supervisor.bind(address)?, address);
        Ok(BoundListener { listener: listener.into(), protocol })
    };
    let protocols = protocols(&config, certificates.as_deref(), &access, &machine, &log);
    let listeners = protocols.into_iter().map(bind).collect::<Result<_, SupervisorError>>()?;
    let admin = Admin::new(&config, &supervisor)?;
    // Before the first connection can come in, so that none goes uncounted.
    let wants_guard = config.guard.as_ref().is_some_and(Guard::is_attached);
    let mut funnel = Funnel::new()?;
    let has_guard = wants_guard && start_guard(&mut funnel, &classifier, &supervisor, &log);
    let interfaces = Interfaces::default();
    if wants_guard {
        interfaces.refresh(&supervisor, &log);
    }
    let kernel_tls = kernel_tls(config.ktls, &machine, &log);
    let control = runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Server {
        config,
        parts,
        funnel,
        classifier: Arc::new(classifier),
        machine,
        log,
        file,
        standing,
        refresher,
        certificates,
        kernel_tls,
        listeners,
        admin,
        has_guard,
        interfaces,
        restarts,
    };
    LocalSet::new().block_on(&control, server.run(supervisor, commands))
}

/// Whether the guard is attached; that it cannot be never stops the proxy.
fn start_guard(
    funnel: &mut Funnel,
    classifier: &Classifier,
    supervisor: &SupervisorClient,
    log: &Log,
) -> bool {
    let attached = supervisor.start_guard().map_err(io::Error::from).and_then(|(attached, map)| {
        funnel.move_to(Shared::map(map.as_fd(), Funnel::CELLS)?);
        classifier.set_numbered(attached.rows);
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
    classifier: Arc<Classifier>,
    machine: Machine,
    log: Log,
    /// The configuration's.
    file: PathBuf,
    standing: PrefixState,
    refresher: Option<Refresher>,
    certificates: Option<Arc<Certificates>>,
    kernel_tls: Option<KernelTls>,
    listeners: Vec<BoundListener>,
    admin: Admin,
    has_guard: bool,
    interfaces: Interfaces,
    /// How many workers before this one have crashed.
    restarts: u64,
}

impl Server {
    async fn run(self, supervisor: SupervisorClient, commands: UnixStream) -> Result<(), StartError> {
        let Self { config, parts, funnel, classifier, machine, log, file, standing, refresher, .. } = self;
        let Self { certificates, kernel_tls, listeners, admin, has_guard, interfaces, restarts, .. } = self;
        let mut commands = CommandReceiver::new(commands)?;
        let (stage, lifecycle) = watch::channel(Stage::Serving);
        let lifecycle = Lifecycle::new(lifecycle);
        let ledger = LedgerKeeper::open(&config, &supervisor, &log);
        let mut metrics = Metrics::new(funnel, ledger.as_ref().map(|ledger| ledger.intake()))?;
        let interrupted = insight::count_open_posts(&mut metrics, &supervisor, &log);
        let metrics = Arc::new(metrics);
        if let Some(ledger) = &ledger {
            ledger.start(Arc::clone(&metrics))?;
        }
        let asked = supervisor.clone();
        // An error: there is no guard of this version.
        metrics.tracer.set_handshakes(move |client| asked.handshake(client).ok().flatten());
        let counted = Arc::clone(&metrics);
        let context = parts.context(
            &config,
            certificates.as_deref(),
            kernel_tls,
            log.clone(),
            metrics,
            Arc::clone(&classifier),
        );
        let context = Arc::new(context);
        for BoundListener { listener, protocol } in &listeners {
            supervisor.listen(listener.address())?;
            log.note(&format!("listening on {listener} ({protocol})"));
        }
        note_missing_roots(&context);
        let (mode, admin_hosts) = (mode(&config), config.admin_hosts().to_vec());
        let generation = Generation { context, listeners, certificates, mode, admin_hosts };
        let (generations, now) = watch::channel(Arc::new(generation));
        let watchdog = Watchdog::new(machine.threads, machine.watchdog);
        let threads = WorkerThreads::start(&watchdog, &now, &lifecycle)?;
        let prefixes =
            Prefixes::new(config.prefixes.clone(), standing, classifier, log.clone(), supervisor.clone());
        let prefixes = Arc::new(prefixes);
        if let Some(refresher) = refresher {
            // Connecting, as the relay does it, keeps to one thread.
            drop(spawn_local(Arc::clone(&prefixes).follow(refresher)));
        }
        let insight =
            Insight::open(now.clone(), supervisor.clone(), ledger.clone(), &interrupted, log.clone());
        let insight = Arc::new(insight);
        drop(spawn_local(Arc::clone(&insight).run()));
        let (reload, mut reloads) = mpsc::channel(1);
        let process = Process { since: clock::now(), restarts, file, last_reload: LastReload::default() };
        let last_reload = process.last_reload.clone();
        let status = RunningProxy {
            now: now.clone(),
            supervisor: supervisor.clone(),
            prefixes: Arc::clone(&prefixes),
            interfaces: interfaces.clone(),
            insight: Arc::clone(&insight),
            ledger: ledger.clone(),
            reload,
            lifecycle,
            process,
        };
        let admin_server = admin.open(status, &supervisor, &log)?;
        let mut reloader = Reloader::new(
            config,
            machine,
            generations,
            admin_server,
            prefixes,
            has_guard,
            supervisor.clone(),
        );
        supervisor.notify(WorkerEvent::Ready)?;
        let notified = supervisor.clone();
        drop(spawn_local(async move { watchdog.run(|| notified.notify(WorkerEvent::Alive)).await }));
        let last_stage = loop {
            tokio::select! {
                command = commands.next() => match command? {
                    Command::Stop => break Stage::Draining,
                    Command::Retire => {
                        // The other process answers operators.
                        reloader.close_admin();
                        break Stage::Replaced;
                    }
                    Command::Reload => {
                        last_reload.note(&reloader.reload_and_report());
                        interfaces.refresh(&supervisor, &log);
                    }
                    Command::RefreshInterfaces => interfaces.refresh(&supervisor, &log),
                    Command::ReadCertificates => reloader.read_certificates_again(),
                },
                Some(reply) = reloads.recv() => {
                    let outcome = reloader.reload_and_report();
                    last_reload.note(&outcome);
                    interfaces.refresh(&supervisor, &log);
                    // An error: the client has gone. The log has the outcome too.
                    drop(Reply::send(reply, outcome));
                }
            }
        };
        let limit = now.borrow().context.timeouts.drain;
        drop(now);
        log.note(&format!("draining: what is under way has {} s", limit.as_secs_f64()));
        reloader.close_listeners();
        if let Err(error) = supervisor.notify(WorkerEvent::Stopping) {
            // Requests under way are still worth finishing.
            log.note(&error.to_string());
        }
        stage.send_replace(last_stage);
        if let Some(ledger) = &ledger {
            // The next process may wait for the file.
            ledger.write(&insight.metrics());
        }
        let mut finished = std::pin::pin!(threads.finished());
        let cut = tokio::select! {
            cut = &mut finished => cut,
            stopped = commands.stop() => { stopped?; stage.send_replace(Stage::Ending); finished.await }
            () = tokio::time::sleep(limit) => { stage.send_replace(Stage::Ending); finished.await }
        };
        insight.sample();
        if let Some(ledger) = &ledger {
            ledger.close(&counted).await;
        }
        counted.losses.open_posts.close();
        let connections = if cut == 1 { "connection was" } else { "connections were" };
        log.note(&format!("drained; {cut} {connections} cut"));
        Ok(())
    }
}
