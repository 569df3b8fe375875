//! Another configuration while the process runs: everything that can change does, without a request
//! that fails for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::getppid;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use super::admin::AdminServer;
use super::certificates::{Certificates, CertificatesError, NewFiles};
use super::generation::{
    BoundListener, Generation, Parts, kernel_tls, log_format, mode, note_what_is_missing, protocols,
};
use super::prefixes::Prefixes;
use crate::access::Access;
use crate::acme::Renewal;
use crate::config::{self, Config, PrefixSource};
use crate::observe::Log;
use crate::prefixes::Classifier;
use crate::server::ipc::{SupervisorClient, SupervisorError, WorkerEvent};
use crate::server::listen::Listener;
use crate::server::{Machine, StartError};
use crate::sys::give_back_free_memory;
use crate::tls::Fingerprint;

const NOTHING_CHANGED: &str = "nothing changed";
const NOT_RELOADED: &str = "not reloaded, what was in force stays";

/// The configuration in force, and how it gives way to the next.
pub(super) struct Reloader {
    /// Without its upstreams.
    config: Config,
    /// What stays as it was at the start, whatever the configuration says.
    startup: StartupSettings,
    machine: Machine,
    generations: watch::Sender<Arc<Generation>>,
    /// `None`: another process serves operators.
    admin_server: Option<AdminServer>,
    renewal_task: Option<RenewalTask>,
    prefixes: Arc<Prefixes>,
    /// The certificate files as last reported; they are also read when they change by themselves.
    reported: Vec<(String, Fingerprint)>,
    /// It was attached at the start.
    has_guard: bool,
    /// What the last configuration says of it was refused, and may have left it other than it was.
    is_guard_refused: bool,
    supervisor: SupervisorClient,
    access: Arc<dyn Access>,
}

impl Report {
    fn change(&mut self, line: &str) {
        self.changed += line;
        self.changed.push('\n');
    }

    /// `why` may have several lines.
    fn refuse(&mut self, why: &str) {
        self.refused += "refused: ";
        self.refused += why;
        self.refused.push('\n');
    }

    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.refused.is_empty()
    }

    fn log(&self, log: &Log) {
        if self.is_empty() {
            log.note(&format!("reloaded: {NOTHING_CHANGED}"));
        }
        self.changed.lines().for_each(|line| log.note(&format!("reloaded: {line}")));
        self.refused.lines().for_each(|line| log.note(&format!("not reloaded: {line}")));
    }

    /// For who has asked.
    fn into_outcome(self) -> Result<String, String> {
        match (self.is_empty(), self.refused.is_empty()) {
            (true, _) => Ok(format!("{NOTHING_CHANGED}\n")),
            (false, true) => Ok(self.changed),
            (false, false) => Err(self.changed + &self.refused),
        }
    }
}

/// Renews certificates.
struct RenewalTask {
    renewal: Arc<Renewal>,
    task: JoinHandle<()>,
}

/// What a reload has changed, and what of it was refused, in lines.
#[derive(Default)]
struct Report {
    changed: String,
    refused: String,
}

/// Why the configuration that was in force still is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
}

impl Reloader {
    pub(super) fn new(
        config: Config,
        machine: Machine,
        generations: watch::Sender<Arc<Generation>>,
        admin_server: AdminServer,
        prefixes: Arc<Prefixes>,
        has_guard: bool,
        supervisor: SupervisorClient,
    ) -> Self {
        let access: Arc<dyn Access> = Arc::new(supervisor.clone());
        let (startup, admin_server) = (StartupSettings::of(&config, has_guard), Some(admin_server));
        let reported = files(&generations.borrow());
        let mut reloader = Self {
            config: without_upstreams(config),
            startup,
            machine,
            generations,
            admin_server,
            renewal_task: None,
            prefixes,
            reported,
            has_guard,
            is_guard_refused: false,
            supervisor,
            access,
        };
        reloader.renew();
        reloader
    }

    /// Closes the listeners: once the threads have, too, new clients are refused.
    pub(super) fn close_listeners(&self) {
        self.generations.send_modify(|now| Arc::make_mut(now).listeners.clear());
    }

    /// Leaves operators to another process.
    pub(super) fn close_admin(&mut self) {
        self.admin_server = None;
    }

    /// Reloads and logs the result.
    ///
    /// Errors: what was refused, and what has changed all the same.
    pub(super) fn reload_and_report(&mut self) -> Result<String, String> {
        let supervisor = self.supervisor.clone();
        let notify = |event| supervisor.notify(event).map_err(|error| error.to_string());
        notify(WorkerEvent::Reloading)?;
        let outcome = self.reload();
        // Tens of MiB with many upstreams: what was read, and what was in force.
        give_back_free_memory();
        let log = self.generations.borrow().context.log.clone();
        notify(WorkerEvent::Ready)?;
        match outcome {
            Err(error) => {
                let why = error.to_string();
                why.lines().for_each(|line| log.note(&format!("{NOT_RELOADED}: {line}")));
                Err(format!("{NOT_RELOADED}: {why}"))
            }
            Ok(report) => {
                report.log(&log);
                report.into_outcome()
            }
        }
    }

    /// Reads the file and puts it in force. What has changed, what was refused, and what only a
    /// restart can change.
    ///
    /// Errors: why nothing has changed.
    fn reload(&mut self) -> Result<Report, Refused> {
        let mut config = self.supervisor.read_configuration()?;
        let before = Arc::clone(&self.generations.borrow());
        let (certificates, new_files) = self.certificates(&config, &before)?;
        let list = self.prefixes.read_list()?;
        let access = &*self.access;
        let parts = Parts::renewed(&before.context, &config, &self.machine, access)?;
        let log = before.context.log.with(log_format(config.log.format), config.log.access);
        let listeners = self.listeners(&config, certificates.as_deref(), &before, &log)?;
        let endpoint = self
            .admin_server
            .as_ref()
            .map(|admin_server| admin_server.endpoint(&config, &self.supervisor, &log));
        let endpoint = endpoint.transpose()?;
        let kernel_tls = match self.config.ktls == config.ktls {
            true => before.context.kernel_tls,
            false => kernel_tls(config.ktls, &self.machine, &log),
        };
        let metrics = Arc::clone(&before.context.metrics);
        let classifier = Arc::clone(&before.context.classifier);
        let context = parts.context(&config, certificates.as_deref(), kernel_tls, log, metrics, classifier);
        let context = Arc::new(context);
        // Also when only the machine's own file names others.
        let has_other_dns = !Arc::ptr_eq(&before.context.dns, &context.dns);
        let hosts = context.directory.changed_hosts(&before.context.directory);
        let changed = changes(&self.config, &config, hosts, &self.startup, has_other_dns);
        let mut report = Report { changed, refused: String::new() };
        for line in context.directory.changed_files(&before.context.directory) {
            report.change(&line);
        }
        if let Some(changes) = list {
            self.take_list(&config.prefixes.source, &changes, &mut report);
        }
        if self.has_guard && (self.is_guard_refused || self.config.guard != config.guard) {
            self.reload_guard(&context.classifier, &mut config, &mut report);
        } else if self.has_guard {
            self.attach_missing(&mut report);
        } else if let Some(guard) = config.guard.as_ref().filter(|guard| !guard.is_attached()) {
            context.classifier.set_allowed(guard.allow.clone());
        }
        note_what_is_missing(&context);
        let (mode, admin_hosts) = (mode(&config), config.admin_hosts().to_vec());
        if let Some((certificates, new_files)) = certificates.as_ref().zip(new_files) {
            certificates.put_in_force(new_files);
        }
        let generation = Generation { context, listeners, certificates, mode, admin_hosts };
        self.report_changed_files(&generation, &mut report);
        self.generations.send_replace(Arc::new(generation));
        if let (Some(admin_server), Some(endpoint)) = (&mut self.admin_server, endpoint) {
            admin_server.move_to(endpoint);
        }
        self.config = without_upstreams(config);
        self.supervisor.activate_configuration()?;
        self.renew();
        Ok(report)
    }

    fn take_list(&self, source: &PrefixSource, changes: &str, report: &mut Report) {
        match self.prefixes.take_list() {
            Ok(()) => report.change(&format!("[guard] prefixes: {source}: {changes}")),
            Err(error) => report.refuse(&format!("[guard] prefixes: {source}: {error}")),
        }
    }

    /// A line for each certificate file that is named as before and holds something else.
    fn report_changed_files(&mut self, next: &Generation, report: &mut Report) {
        let files = files(next);
        for (file, fingerprint) in &files {
            if self.reported.iter().any(|(reported, former)| reported == file && former != fingerprint) {
                report.change(&format!("{file} changed"));
            }
        }
        self.reported = files;
    }

    /// The certificates in force and what their files hold now; or others, if the settings changed.
    fn certificates(
        &self,
        config: &Config,
        before: &Generation,
    ) -> Result<(Option<Arc<Certificates>>, Option<NewFiles>), Refused> {
        if let Some(certificates) = &before.certificates
            && certificates.serve(config).map_err(CertificatesError::from)?
        {
            return Ok((Some(Arc::clone(certificates)), Some(certificates.read_again()?)));
        }
        let certificates = Certificates::load(config, &before.context.log, &self.access)?;
        if let Some(certificates) = &certificates {
            certificates.prepare()?;
        }
        Ok((certificates.map(Arc::new), None))
    }

    /// Addresses that stay keep their sockets, and with them who waits there.
    fn listeners(
        &self,
        config: &Config,
        certificates: Option<&Certificates>,
        before: &Generation,
        log: &Log,
    ) -> Result<Vec<BoundListener>, StartError> {
        let door = |(address, protocol)| {
            let former = before.listeners.iter().find(|door| door.listener.address() == address);
            let listener = match former {
                Some(door) => Arc::clone(&door.listener),
                None => {
                    let listener = Listener::new(self.supervisor.bind(address)?, address);
                    self.supervisor.listen(address)?;
                    Arc::new(listener)
                }
            };
            Ok(BoundListener { listener, protocol })
        };
        let protocols = protocols(config, certificates, &self.access, &self.machine, log);
        protocols.into_iter().map(door).collect()
    }

    /// A section that is refused stays out of `config`.
    fn reload_guard(&mut self, classifier: &Classifier, config: &mut Config, report: &mut Report) {
        let Some(guard) = &config.guard else {
            return report
                .change("[guard] is gone, and the guard stays: `hookgate guard detach` takes it off");
        };
        let outcome = self.supervisor.start_guard();
        self.is_guard_refused = outcome.is_err();
        match outcome {
            Ok((attached, _)) => {
                classifier.set_numbered(attached.rows);
                classifier.set_allowed(guard.allow.clone());
                report.change(&format!("guard: {}", attached.words));
            }
            Err(error) => {
                report.refuse(&format!("[guard]: {error}"));
                config.guard.clone_from(&self.config.guard);
            }
        }
    }

    /// Attaches the guard to interfaces that have come since.
    fn attach_missing(&self, report: &mut Report) {
        match self.supervisor.attach_missing() {
            Ok(changes) => changes.iter().for_each(|change| report.change(&format!("guard: {change}"))),
            Err(error) => report.refuse(&format!("[guard]: {error}")),
        }
    }

    /// Reads the certificates' files, which have changed; those that do not work leave the old ones
    /// in force.
    pub(super) fn read_certificates_again(&self) {
        let now = self.generations.borrow();
        let Some(certificates) = &now.certificates else { return };
        let new_files = certificates.read_again();
        now.context.log.note(&match new_files.map(|new_files| certificates.put_in_force(new_files)) {
            Ok(()) => "the certificate files have changed: the new certificates are in force".to_owned(),
            Err(error) => format!(
                "the certificate files have changed and cannot be used: {error}; the old certificates stay in force"
            ),
        });
    }

    /// Sees to the certificate that an authority gives.
    fn renew(&mut self) {
        let now = self.generations.borrow();
        let log: Log = now.context.log.clone();
        let renewal = now.certificates.as_ref().and_then(|certificates| certificates.renewal());
        match (&self.renewal_task, renewal) {
            (Some(renewal_task), Some(renewal)) if Arc::ptr_eq(&renewal_task.renewal, renewal) => {
                renewal.wake(log)
            }
            _ => {
                if let Some(renewal_task) = self.renewal_task.take() {
                    renewal_task.task.abort();
                }
                self.renewal_task = now.certificates.as_ref().zip(renewal).map(|(certificates, renewal)| {
                    let task = spawn_local(Arc::clone(renewal).run(certificates.resolver()));
                    RenewalTask { renewal: Arc::clone(renewal), task }
                });
            }
        }
    }
}

/// The supervisor has no capabilities for a guard that was not configured, nor has a process that
/// it starts.
const NEEDS_FULL_RESTART: &str = "[guard] changed, and needs a restart from outside (`systemctl restart hookgate`): \
                                  this process has given up the capabilities for it\n";

/// The directory has them.
fn without_upstreams(config: Config) -> Config {
    Config { upstreams: Vec::new(), ..config }
}

/// What only a restart can change.
struct StartupSettings {
    admin_socket: Option<PathBuf>,
    user: Option<String>,
    confine: config::Confine,
    insight: config::Insight,
    /// Without the list of prefixes, which a reload reads again.
    prefixes: config::Prefixes,
    /// Where none is attached, that it is not wanted.
    guard: Option<Option<config::Guard>>,
}

impl StartupSettings {
    fn of(config: &Config, has_guard: bool) -> Self {
        Self {
            admin_socket: config.admin_socket().map(Path::to_owned),
            user: config.process.user.clone(),
            confine: config.process.confine,
            insight: config.insight.clone(),
            prefixes: config.prefixes.clone(),
            guard: (!has_guard).then(|| wanted_guard(config).cloned()),
        }
    }

    fn asks_others_than(&self, prefixes: &config::Prefixes) -> bool {
        let source = self.prefixes.source.clone();
        self.prefixes != config::Prefixes { source, ..prefixes.clone() }
    }
}

/// A line for each section that differs.
fn changes(
    before: &Config,
    after: &Config,
    upstreams: Option<String>,
    startup: &StartupSettings,
    has_other_dns: bool,
) -> String {
    let mut lines = String::new();
    let mut line = |text: String| lines += &(text + "\n");
    let admin = |config: &Config| (config.admin_listen(), config.admin_hosts().to_vec());
    // Without `..`, so that a new section can't be forgotten.
    let Config {
        listen,
        tls,
        ktls,
        acme,
        dns: _,
        upstreams: _,
        relay,
        prefixes,
        guard: _,
        insight,
        admin: _,
        process: config::Process { user, watch, confine },
        timeouts,
        limits,
        log,
    } = after;
    let sections = [
        ("listen", before.listen != *listen),
        ("tls", before.tls != *tls || before.ktls != *ktls),
        ("acme", before.acme != *acme),
        // The machine's own file may name other servers.
        ("dns", has_other_dns),
        ("relay", before.relay != *relay),
        ("timeouts", before.timeouts != *timeouts),
        ("limits", before.limits != *limits),
        ("process", before.process.watch != *watch),
        ("admin", admin(before) != admin(after)),
        ("log", before.log != *log),
    ];
    for (section, _) in sections.into_iter().filter(|(_, differs)| *differs) {
        line(format!("[{section}] changed"));
    }
    upstreams.into_iter().for_each(&mut line);
    let needs_restart = [
        ("[admin] socket", startup.admin_socket.as_deref() != after.admin_socket()),
        ("[process] user", startup.user != *user),
        ("[process] confine", startup.confine != *confine),
        ("[insight]", startup.insight != *insight),
        (
            "[guard]",
            startup
                .guard
                .as_ref()
                .is_some_and(|guard| guard.is_some() && guard.as_ref() != wanted_guard(after)),
        ),
        ("[guard] refresh, registry or state", startup.asks_others_than(prefixes)),
    ];
    for (what, _) in needs_restart.iter().filter(|(_, differs)| *differs) {
        line(format!("{what} changed, and needs a restart"));
    }
    if let (true, Some(supervisor)) = (needs_restart.iter().any(|(_, differs)| *differs), getppid()) {
        line(format!("`kill -USR2 {}` restarts it, and refuses no connection", supervisor.as_raw_nonzero()));
    }
    if startup.guard == Some(None) && wanted_guard(after).is_some() {
        lines += NEEDS_FULL_RESTART;
    }
    lines
}

/// Where no interface is named, only prefixes and `allow` count.
fn wanted_guard(config: &Config) -> Option<&config::Guard> {
    config.guard.as_ref().filter(|guard| guard.is_attached())
}

fn files(generation: &Generation) -> Vec<(String, Fingerprint)> {
    generation.certificates.as_ref().map(|certificates| certificates.files()).unwrap_or_default()
}
