//! Another configuration while the process runs: everything that can change does, without a request that fails for it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use super::StartError;
use super::certificates::{BadCertificates, Certificates};
use super::generation::{
    Door, Generation, Parts, kernel_tls, log_format, mode, note_what_is_missing, protocols,
};
use super::listen::Listener;
use super::systemd;
use crate::acme::Renewal;
use crate::config::{self, Config, ConfigError};
use crate::guard::keeper::{Keeper, KeeperError};
use crate::observe::{Funnel, Log};
use crate::sys::give_back_free_memory;

/// The configuration in force, and how it gives way to the next.
pub(super) struct Reloader {
    file: PathBuf,
    config: Config,
    generations: watch::Sender<Arc<Generation>>,
    /// Follows the certificates' files.
    follower: Option<JoinHandle<()>>,
    renewing: Option<Renewing>,
    keeper: Option<Arc<Keeper>>,
}

/// Gets certificates.
struct Renewing {
    renewal: Arc<Renewal>,
    task: JoinHandle<()>,
}

/// Why the configuration that was in force still is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Certificates(#[from] BadCertificates),
}

impl Reloader {
    pub(super) fn new(
        file: PathBuf,
        config: Config,
        generations: watch::Sender<Arc<Generation>>,
        keeper: Option<Arc<Keeper>>,
    ) -> Self {
        let mut reloader = Self { file, config, generations, follower: None, renewing: None, keeper };
        reloader.follow();
        reloader
    }

    /// Lets go of the listeners' sockets: once the workers have too, new clients are refused.
    pub(super) fn close_doors(&self) {
        self.generations.send_modify(|now| {
            let Generation { context, certificates, mode, .. } = &**now;
            *now = Arc::new(Generation {
                context: Arc::clone(context),
                doors: Vec::new(),
                certificates: certificates.clone(),
                mode: *mode,
            });
        });
    }

    /// Reloads and logs what came of it.
    pub(super) fn reload_and_tell(&mut self) -> Result<String, String> {
        systemd::reloading(&self.generations.borrow().context.log);
        let outcome = self.reload().map_err(|error| error.to_string());
        // Tens of MiB with many upstreams: what was read, and what was in force.
        give_back_free_memory();
        let log = self.generations.borrow().context.log.clone();
        systemd::ready(&log);
        let (said, text) = match &outcome {
            Ok(report) => ("reloaded", report),
            Err(error) => ("not reloaded, what was in force stays", error),
        };
        for line in text.lines() {
            log.note(&format!("{said}: {line}"));
        }
        outcome
    }

    /// Reads the file and puts it in force. What has changed, and what only a restart can change.
    ///
    /// Errors: why nothing has changed.
    pub(super) fn reload(&mut self) -> Result<String, Refused> {
        let config = Config::load(&self.file)?;
        let before = Arc::clone(&self.generations.borrow());
        let certificates = self.certificates(&config, &before)?;
        let parts = Parts::renewed(&before.context, &self.config, &config)?;
        let doors = doors(&config, certificates.as_deref(), &before)?;
        let log = before.context.log.with(log_format(config.log.format), config.log.access);
        let kernel_tls = match self.config.ktls == config.ktls {
            true => before.context.kernel_tls,
            false => kernel_tls(config.ktls, &log),
        };
        let context = parts.context(&config, kernel_tls, log, Arc::clone(&before.context.metrics));
        let context = Arc::new(context);
        let mut report = changes(&self.config, &config, self.keeper.is_some());
        if self.config.guard != config.guard
            && let Some(keeper) = &self.keeper
        {
            self.reload_guard(keeper, &context.metrics.funnel, &config, &mut report);
        }
        note_what_is_missing(&context);
        let mode = mode(&config);
        self.generations.send_replace(Arc::new(Generation { context, doors, certificates, mode }));
        self.config = config;
        self.follow();
        Ok(report)
    }

    /// Those in force where nothing about them has changed; their files are read again all the same.
    fn certificates(
        &self,
        config: &Config,
        before: &Generation,
    ) -> Result<Option<Arc<Certificates>>, Refused> {
        if let Some(same) = before.certificates.as_ref().filter(|certificates| certificates.serve(config)) {
            same.read_again().map_err(BadCertificates::from)?;
            return Ok(Some(Arc::clone(same)));
        }
        let certificates = Certificates::load(config, &before.context.log)?;
        if let Some(certificates) = &certificates {
            certificates.prepare(None)?;
        }
        Ok(certificates.map(Arc::new))
    }

    fn reload_guard(&self, keeper: &Keeper, funnel: &Funnel, config: &Config, report: &mut String) {
        let allowed = config.guard.as_ref().map(|guard| guard.allow.clone()).unwrap_or_default();
        // Writing to a String does not fail.
        let _ = match keeper.reload() {
            Ok((rows, attached)) => {
                funnel.set_rows(rows);
                funnel.set_allowed(allowed);
                writeln!(report, "guard: {attached}")
            }
            Err(KeeperError::Refused(why)) => writeln!(report, "guard: it stays as it was: {why}"),
            Err(error) => writeln!(report, "guard: it stays as it was: {error}"),
        };
    }

    fn follow(&mut self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
        let now = self.generations.borrow();
        let log: Log = now.context.log.clone();
        self.follower =
            now.certificates.as_ref().map(|certificates| tokio::spawn(certificates.follow(log.clone())));
        let renewal = now.certificates.as_ref().and_then(|certificates| certificates.renewal());
        match (&self.renewing, renewal) {
            (Some(renewing), Some(renewal)) if Arc::ptr_eq(&renewing.renewal, renewal) => renewal.wake(log),
            _ => {
                if let Some(renewing) = self.renewing.take() {
                    renewing.task.abort();
                }
                self.renewing = now.certificates.as_ref().zip(renewal).map(|(certificates, renewal)| {
                    let task = spawn_local(Arc::clone(renewal).run(certificates.resolver()));
                    Renewing { renewal: Arc::clone(renewal), task }
                });
            }
        }
    }
}

/// Addresses that stay keep their sockets, and with them who waits there.
fn doors(
    config: &Config,
    certificates: Option<&Certificates>,
    before: &Generation,
) -> Result<Vec<Door>, StartError> {
    let door = |(address, protocol)| {
        let former = before.doors.iter().find(|door| door.listener.address() == address);
        let listener = match former {
            Some(door) => Arc::clone(&door.listener),
            None => {
                let listener = Listener::bind(address)?;
                listener.open()?;
                Arc::new(listener)
            }
        };
        Ok(Door { listener, protocol })
    };
    protocols(config, certificates).into_iter().map(door).collect()
}

/// A line for each section that differs.
fn changes(before: &Config, after: &Config, has_keeper: bool) -> String {
    let mut lines = String::new();
    let mut line = |text: String| lines += &(text + "\n");
    let sections = [
        ("listen", before.listen != after.listen),
        ("tls", before.tls != after.tls || before.ktls != after.ktls),
        ("acme", before.acme != after.acme),
        ("dns", before.dns != after.dns),
        ("relay", before.relay != after.relay),
        ("timeouts", before.timeouts != after.timeouts),
        ("limits", before.limits != after.limits),
        ("log", before.log != after.log),
    ];
    for (section, _) in sections.into_iter().filter(|(_, differs)| *differs) {
        line(format!("[{section}] changed"));
    }
    if let Some(text) = upstreams(before, after) {
        line(text);
    }
    let needs_restart = [
        ("admin", before.admin != after.admin),
        ("process", before.process != after.process),
        ("guard", before.guard != after.guard && !has_keeper),
        ("guard's prefixes, refresh, registry and state", before.prefixes != after.prefixes),
    ];
    for (section, _) in needs_restart.into_iter().filter(|(_, differs)| *differs) {
        line(format!("[{section}] changed, and needs a restart"));
    }
    if lines.is_empty() { "nothing changed\n".into() } else { lines }
}

fn upstreams(before: &Config, after: &Config) -> Option<String> {
    let (old, new) = (by_name(before), by_name(after));
    let added = new.keys().filter(|name| !old.contains_key(*name)).count();
    let removed = old.keys().filter(|name| !new.contains_key(*name)).count();
    let changed = new.iter().filter(|(name, upstream)| old.get(*name).is_some_and(|old| old != *upstream));
    let changed = changed.count();
    (added + removed + changed > 0).then(|| {
        format!("[upstreams] {added} added, {removed} removed, {changed} changed, {} now", new.len())
    })
}

fn by_name(config: &Config) -> HashMap<&str, &config::Upstream> {
    config.upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream)).collect()
}
