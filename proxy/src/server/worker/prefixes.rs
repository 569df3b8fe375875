//! Meta's prefixes while the proxy runs: refreshed from the registry, and put in force without a
//! restart.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config;
use crate::observe::Log;
use crate::prefixes::{Changes, Classifier, PrefixState};
use crate::registry::{Refreshed, Refresher};
use crate::server::ipc::{ActivePrefixes, SupervisorClient, SupervisorError};

/// The prefixes in force.
pub(super) struct Prefixes {
    settings: config::Prefixes,
    standing: Mutex<PrefixState>,
    classifier: Arc<Classifier>,
    log: Log,
    supervisor: SupervisorClient,
}

impl Prefixes {
    pub(super) fn new(
        settings: config::Prefixes,
        standing: PrefixState,
        classifier: Arc<Classifier>,
        log: Log,
        supervisor: SupervisorClient,
    ) -> Self {
        Self { settings, standing: Mutex::new(standing), classifier, log, supervisor }
    }

    /// Asks the registry for ever, as often as `refresher` says.
    pub(super) async fn follow(self: Arc<Self>, mut refresher: Refresher) {
        loop {
            let refreshed = refresher.next(|| self.standing()).await;
            let own = Arc::clone(&self);
            // The supervisor may be busy for a while.
            let taken = tokio::task::spawn_blocking(move || own.take(&refreshed)).await;
            match taken {
                Ok(Ok(message)) => self.note(&message),
                Ok(Err(error)) => {
                    self.note(&format!("not refreshed, what is in force stays: {error}"));
                    refresher.failed();
                }
                // The blocking task panicked; tokio has already reported it.
                Err(_) => refresher.failed(),
            }
        }
    }

    /// Puts in force what `hookgate prefixes update` has stored. How many there are then.
    pub(super) fn take_stored(&self) -> Result<usize, SupervisorError> {
        Ok(self.put_in_force(self.supervisor.activate_stored()?))
    }

    /// Reads the configured list again and says what it changes; `None` if it is the same.
    ///
    /// Errors: the list cannot be used.
    pub(super) fn read_list(&self) -> Result<Option<String>, SupervisorError> {
        let (before, next) = (self.standing(), self.supervisor.read_prefix_list()?);
        let (old, new) = (before.table(), next.table());
        let Changes { added, removed } = old.changes_to(&new);
        Ok((before.configured != next.configured)
            .then(|| format!("{} added, {} removed, {} in force", added.len(), removed.len(), new.len())))
    }

    /// Puts in force what [`Prefixes::read_list`] has read.
    pub(super) fn take_list(&self) -> Result<(), SupervisorError> {
        self.put_in_force(self.supervisor.activate_prefix_list()?);
        Ok(())
    }

    fn take(&self, refreshed: &Refreshed) -> Result<String, SupervisorError> {
        let Refreshed { changes, registered, .. } = refreshed;
        let in_force = self.put_in_force(self.supervisor.activate_refresh(registered)?);
        Ok(format!(
            "{} has {} of Meta's own: {} added, {} removed, {in_force} in force",
            self.settings.registry,
            registered.len(),
            changes.added.len(),
            changes.removed.len(),
        ))
    }

    fn put_in_force(&self, ActivePrefixes { standing, rows }: ActivePrefixes) -> usize {
        let table = standing.table();
        let count = table.len();
        match rows {
            Some(rows) => self.classifier.set_numbered(rows),
            None => self.classifier.set_table(table),
        }
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        count
    }

    fn standing(&self) -> PrefixState {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, message: &str) {
        self.log.note(&format!("prefixes: {message}"));
    }
}
