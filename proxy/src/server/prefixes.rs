//! Meta's prefixes while the proxy runs: asked for from time to time, put in force without a restart.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config;
use crate::guard::keeper::{Keeper, KeeperError};
use crate::observe::{Log, Metrics};
use crate::prefixes::{BadState, FileError, Standing, Table};
use crate::registry::{Refreshed, Refresher};

/// The prefixes in force.
pub(super) struct Prefixes {
    settings: config::Prefixes,
    standing: Mutex<Standing>,
    metrics: Arc<Metrics>,
    log: Log,
    /// Whoever changes the guard's tables, where it is attached.
    keeper: Option<Arc<Keeper>>,
}

/// Why other prefixes are not in force; those that were still are.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotInForce {
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    #[error(transparent)]
    State(#[from] BadState),
    #[error(transparent)]
    File(#[from] FileError),
}

impl Prefixes {
    pub(super) fn new(
        settings: config::Prefixes,
        standing: Standing,
        metrics: Arc<Metrics>,
        log: Log,
        keeper: Option<Arc<Keeper>>,
    ) -> Self {
        Self { settings, standing: Mutex::new(standing), metrics, log, keeper }
    }

    /// Asks the registry for ever, as often as `refresher` says.
    pub(super) async fn follow(self: Arc<Self>, mut refresher: Refresher) {
        loop {
            let refreshed = refresher.next(|| self.standing()).await;
            let own = Arc::clone(&self);
            // The keeper is a process that may be busy.
            let taken = tokio::task::spawn_blocking(move || own.take(refreshed)).await;
            match taken {
                Ok(Ok(message)) => self.note(&message),
                Ok(Err(error)) => {
                    self.note(&format!("not refreshed, what is in force stays: {error}"));
                    refresher.failed();
                }
                // It has panicked, and the panic was reported.
                Err(_) => refresher.failed(),
            }
        }
    }

    /// Puts in force what `hookgate prefixes update` has stored. How many there are then.
    pub(super) fn take_stored(&self) -> Result<usize, NotInForce> {
        let (standing, bad) = self.settings.load()?;
        if let Some(bad) = bad {
            return Err(bad.into());
        }
        match &self.keeper {
            Some(keeper) => self.metrics.funnel.set_rows(keeper.stored()?),
            None => self.metrics.funnel.set_table(standing.table()),
        }
        Ok(self.put_in_force(standing).len())
    }

    fn take(&self, refreshed: Refreshed) -> Result<String, NotInForce> {
        let Refreshed { standing, changes, registered, .. } = refreshed;
        match &self.keeper {
            Some(keeper) => self.metrics.funnel.set_rows(keeper.refreshed(&registered)?),
            None => {
                if let Some(refresh) = &standing.refresh {
                    refresh.store(&self.settings.state)?;
                }
                self.metrics.funnel.set_table(standing.table());
            }
        }
        let in_force = self.put_in_force(standing).len();
        Ok(format!(
            "{} has {} of Meta's own: {} added, {} removed, {in_force} in force",
            self.settings.registry,
            registered.len(),
            changes.added.len(),
            changes.removed.len(),
        ))
    }

    fn put_in_force(&self, standing: Standing) -> Table {
        let table = standing.table();
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        table
    }

    fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, message: &str) {
        self.log.note(&format!("prefixes: {message}"));
    }
}
