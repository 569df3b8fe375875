//! A running proxy, as operators see it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::generation::Generation;
use super::insight::Insight;
use super::interfaces::Interfaces;
use super::ledger::LedgerKeeper;
use super::prefixes::Prefixes;
use crate::admin::status::Reload;
use crate::datapath::{Context, Lifecycle};
use crate::guard::Detail;
use crate::messages::Document as Messages;
use crate::observe::clock::{self, rfc3339};
use crate::server::ipc::{SupervisorClient, SupervisorError};
use crate::stats::{Document, HiddenSources};

/// How much is kept of what a reload said, in bytes.
const MAX_REPORT_BYTES: usize = 4096;

/// Sends the outcome of a reload to the client that asked for it.
pub(super) type Reply = oneshot::Sender<Result<String, String>>;

/// What operators may ask a running proxy for.
pub(super) struct RunningProxy {
    pub(super) now: watch::Receiver<Arc<Generation>>,
    /// Reads the guard's counters.
    pub(super) supervisor: SupervisorClient,
    pub(super) prefixes: Arc<Prefixes>,
    pub(super) interfaces: Interfaces,
    pub(super) insight: Arc<Insight>,
    /// `None`: bodies are not looked at.
    pub(super) ledger: Option<Arc<LedgerKeeper>>,
    pub(super) reload: mpsc::Sender<Reply>,
    pub(super) lifecycle: Lifecycle,
    pub(super) process: Process,
}

/// What does not change as long as the process lives.
pub(super) struct Process {
    pub(super) since: Timestamp,
    /// How many workers before this one have crashed.
    pub(super) restarts: u64,
    /// The configuration's.
    pub(super) file: PathBuf,
    pub(super) last_reload: LastReload,
}

/// The result of the last reload.
#[derive(Clone, Default)]
pub(super) struct LastReload(Arc<Mutex<Option<Reload>>>);

impl LastReload {
    pub(super) fn note(&self, outcome: &Result<String, String>) {
        let (done, text) = match outcome {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        let mut text = text.trim_end().to_owned();
        text.truncate(text.floor_char_boundary(MAX_REPORT_BYTES));
        let reload = Reload { time: rfc3339(clock::now()), done, text };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reload);
    }

    pub(super) fn get(&self) -> Option<Reload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl RunningProxy {
    pub(super) fn now(&self) -> Arc<Generation> {
        Arc::clone(&self.now.borrow())
    }

    pub(super) fn context(&self) -> Arc<Context> {
        Arc::clone(&self.now.borrow().context)
    }

    /// Errors: the supervisor, who reads what the guard has counted, does not answer.
    pub(super) fn stats_of(&self, now: &Generation, detail: Detail) -> Result<Document, SupervisorError> {
        let document = match self.supervisor.stats(detail) {
            Ok(Some(stats)) => {
                let (mut document, funnel) = (Document::attached(&stats), &now.context.metrics.funnel);
                // Attached since this process started, which counts elsewhere.
                if !funnel.is_in_guard() {
                    document.add_funnel(&funnel.counts(&now.context.classifier));
                }
                document
            }
            Ok(None) | Err(SupervisorError::Refused(_)) => Self::without_guard(now),
            Err(error @ SupervisorError::Gone(_)) => return Err(error),
        };
        let metrics = &now.context.metrics;
        let hidden = metrics.hidden_sources.seen();
        let hidden_sources = hidden.map(|(requests, source)| HiddenSources { requests, source });
        let kernel = self.supervisor.kernel_counters().ok();
        let groups = metrics.groups().map(|(group, count)| (group.to_owned(), count));
        Ok(Document { hidden_sources, tls_groups: Some(groups.collect()), kernel, ..document })
    }

    /// What messages tell; `None`: bodies are not looked at.
    ///
    /// Errors: the ledger is another process's at the moment.
    pub(super) fn messages_of(&self, upstream: Option<&str>) -> Result<Option<Messages>, String> {
        let Some(ledger) = &self.ledger else { return Ok(None) };
        let document = ledger.document(upstream, &self.context().metrics);
        document.map(Some).ok_or_else(|| "the ledger is another process's, as in a takeover, or can't be used (the log says why): try again in some seconds".into())
    }

    /// What the proxy alone has counted.
    pub(super) fn without_guard(now: &Generation) -> Document {
        let counts = now.context.metrics.funnel.counts(&now.context.classifier);
        let networks = counts.0.iter().map(|(network, _)| *network);
        let mut document = Document::without_guard(clock::now(), now.mode, networks);
        document.add_funnel(&counts);
        document
    }
}
