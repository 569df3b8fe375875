//! Keeps the ledger: takes what has ended from the threads that relay, and answers for it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use crate::config::Config;
use crate::messages::{
    Changes, Document, IdKey, Intake, Ledger, LedgerError, LedgerFile, Report, Scan, SharedFigures,
    UpstreamFigures,
};
use crate::observe::{Log, Metrics, clock};
use crate::server::ipc::SupervisorClient;

/// How long what has ended waits at most.
const TURN: Duration = Duration::from_millis(500);
/// The same while the process before this one may still write to the file.
const SHORT_TURN: Duration = Duration::from_millis(50);
/// How long this process's end waits for that.
const MAX_TURNS_AT_END: usize = 80;

/// The ledger of this process.
pub(super) struct LedgerKeeper {
    intake: Arc<Intake>,
    key: [u8; 32],
    /// Says that the file is this process's.
    owner: u64,
    events: usize,
    held: Mutex<Held>,
    supervisor: SupervisorClient,
    log: Log,
}

/// The file, and how far it is this process's.
struct Held {
    state: State,
    /// Memory for what has ended.
    reports: Vec<Report>,
    scan: Scan,
}

enum State {
    /// The process before this one may still write to it, or to one of another size, of which this
    /// one takes over everything.
    Unread(LedgerFile, Option<LedgerFile>),
    /// With the one of another size, to which the process before may still report.
    Owned(Box<Ledger>, Option<LedgerFile>),
    /// It is another process's now.
    Released(LedgerFile),
    /// It could not be read, nor replaced.
    Gone,
}

/// A file, and what belongs to it.
struct Opened {
    file: LedgerFile,
    /// The one of another size.
    previous: Option<LedgerFile>,
    key: [u8; 32],
    owner: u64,
    without_disk: Option<String>,
}

/// What it says at a moment.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) upstreams: BTreeMap<Box<str>, UpstreamFigures>,
    pub(super) shared: SharedFigures,
}

/// What has changed, and what stands.
pub(super) struct AllChanges {
    pub(super) upstreams: HashMap<Box<str>, Changes>,
    pub(super) outstanding: u64,
    /// How many numbers, pages and accounts are quiet.
    pub(super) quiet: u64,
    pub(super) numbers: u64,
    pub(super) doubts_clock: bool,
}

impl LedgerKeeper {
    /// `None`: bodies are not looked at, or there is no memory.
    pub(super) fn open(config: &Config, supervisor: &SupervisorClient, log: &Log) -> Option<Arc<Self>> {
        if !config.insight.messages {
            return None;
        }
        let (events, supervisor, log) = (config.insight.ledger, supervisor.clone(), log.clone());
        match Self::open_file(events, &supervisor, &log) {
            Ok(Opened { file, previous, key, owner, without_disk }) => {
                if let Some(why) = &without_disk {
                    log.note(&format!(
                        "insight: events are kept in memory alone, and are gone when hookgate ends: {why}"
                    ));
                }
                let held = Mutex::new(Held {
                    state: State::Unread(file, previous),
                    reports: Vec::new(),
                    scan: Scan::new(),
                });
                let intake = Arc::new(Intake::new(IdKey::new(&key)));
                Some(Arc::new(Self { intake, key, owner, events, held, supervisor, log }))
            }
            Err(error) => {
                log.note(&format!("insight: bodies are not scanned: {error}"));
                None
            }
        }
    }

    fn open_file(events: usize, supervisor: &SupervisorClient, log: &Log) -> io::Result<Opened> {
        let (without_disk, is_shared, file) = supervisor.ledger()?;
        let (file, previous) = match LedgerFile::open(&file, events) {
            Ok(file) => (file, None),
            Err(LedgerError::Resized(room)) => match LedgerFile::open(&file, room) {
                Ok(previous) => {
                    supervisor.set_ledger_aside()?;
                    let (_, _, file) = supervisor.ledger()?;
                    (LedgerFile::open(&file, events).map_err(io::Error::other)?, Some(previous))
                }
                Err(error) => (replace(events, supervisor, log, &error)?, None),
            },
            Err(error) => (replace(events, supervisor, log, &error)?, None),
        };
        let mut owner = [0; 8];
        SystemRandom::new().fill(&mut owner).map_err(|_| io::Error::other("no random numbers"))?;
        let current = previous.as_ref().unwrap_or(&file);
        let (key, owner) = (current.key()?, u64::from_le_bytes(owner) | 1);
        if !is_shared {
            current.take(owner);
        }
        Ok(Opened { file, previous, key, owner, without_disk })
    }

    /// Where what bodies tell goes.
    pub(super) fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.intake)
    }

    /// Writes down what has ended, for ever, in a thread of its own.
    ///
    /// Errors: no thread.
    pub(super) fn start(self: &Arc<Self>, metrics: Arc<Metrics>) -> io::Result<()> {
        let keeper = Arc::clone(self);
        let work = move || {
            loop {
                keeper.write(&metrics);
                keeper.intake.wait(if keeper.is_unread() { SHORT_TURN } else { TURN });
            }
        };
        thread::Builder::new().name("ledger".into()).spawn(work).map(drop)
    }

    /// Writes down what has ended, for the last time.
    pub(super) async fn close(&self, metrics: &Metrics) {
        for _ in 0..MAX_TURNS_AT_END {
            self.write(metrics);
            if !self.is_unread() {
                break;
            }
            tokio::time::sleep(SHORT_TURN).await;
        }
        let mut held = self.lock();
        held.state = match std::mem::replace(&mut held.state, State::Gone) {
            State::Owned(ledger, _) if ledger.is_owned() => {
                ledger.close();
                State::Gone
            }
            state => state,
        };
    }

    fn is_unread(&self) -> bool {
        matches!(self.lock().state, State::Unread(..))
    }

    /// Writes down what has ended by now.
    pub(super) fn write(&self, metrics: &Metrics) {
        let mut held = self.lock();
        let now = clock::now().as_second();
        held.state = match std::mem::replace(&mut held.state, State::Gone) {
            State::Unread(file, previous) => self.read_if_free(file, previous, now),
            State::Owned(mut ledger, _) if !ledger.is_owned() => {
                let Held { reports, scan, .. } = &mut *held;
                self.add_waiting(reports, scan, metrics, |report| {
                    ledger.add(report, metrics.losses.latest());
                    true
                });
                State::Released(ledger.release(now))
            }
            // Its owner has gone without another one.
            State::Released(file) if file.is_ownerless(now) => self.read_if_free(file, None, now),
            state => state,
        };
        let Held { state, reports, scan } = &mut *held;
        match state {
            State::Owned(ledger, previous) => {
                let has_missed = self.add_waiting(reports, scan, metrics, |report| {
                    ledger.add(report, metrics.losses.latest());
                    true
                });
                if has_missed {
                    ledger.gap(now);
                }
                let to_previous = previous.iter().flat_map(LedgerFile::read_reports);
                for report in ledger.read_reports().into_iter().chain(to_previous) {
                    ledger.add(&report, metrics.losses.latest());
                }
                ledger.pass(now);
            }
            State::Released(file) => {
                let has_missed =
                    self.add_waiting(reports, scan, metrics, |report| file.report(report).is_ok());
                if has_missed {
                    self.log
                        .note("insight: some events that ended here did not reach the next process's ledger");
                }
            }
            State::Unread(..) => {}
            State::Gone => {
                self.add_waiting(reports, scan, metrics, |_| true);
            }
        }
    }

    /// What `hookgate messages` prints; `None`: the file is another process's.
    pub(super) fn document(&self, upstream: Option<&str>, metrics: &Metrics) -> Option<Document> {
        self.write(metrics);
        match &self.lock().state {
            State::Owned(ledger, _) => Some(ledger.document(upstream, clock::now())),
            State::Unread(..) | State::Released(_) | State::Gone => None,
        }
    }

    pub(super) fn figures(&self, metrics: &Metrics) -> Option<Figures> {
        self.write(metrics);
        let held = self.lock();
        let State::Owned(ledger, _) = &held.state else { return None };
        let (upstreams, shared) = (ledger.by_upstream(), ledger.shared_figures().clone());
        Some(Figures { upstreams, shared })
    }

    /// What has changed since this was called last.
    pub(super) fn take_changes(&self, metrics: &Metrics) -> Option<AllChanges> {
        self.write(metrics);
        let mut held = self.lock();
        let State::Owned(ledger, _) = &mut held.state else { return None };
        let [outstanding, quiet, numbers] = ledger.gauges(clock::now().as_second());
        let (upstreams, doubts_clock) = (ledger.take_changes(), ledger.doubts_clock());
        Some(AllChanges { upstreams, outstanding, quiet, numbers, doubts_clock })
    }

    /// Passes what waits to `add`. Whether anything was missed.
    fn add_waiting(
        &self,
        reports: &mut Vec<Report>,
        scan: &mut Scan,
        metrics: &Metrics,
        mut add: impl FnMut(&Report) -> bool,
    ) -> bool {
        let mut has_missed = self.intake.take(reports);
        for report in &mut *reports {
            report.scan(scan, self.intake.key());
            metrics.losses.failed_posts.note(report);
            has_missed |= !add(report);
        }
        self.intake.give_back(reports);
        has_missed
    }

    fn read_if_free(&self, file: LedgerFile, previous: Option<LedgerFile>, now: i64) -> State {
        if !previous.as_ref().unwrap_or(&file).claim(self.owner, now) {
            return State::Unread(file, previous);
        }
        let imported = previous.as_ref().map_or(Ok(()), |previous| self.import(&file, previous));
        let ledger = imported.and_then(|()| file.read(self.owner, now));
        match ledger.or_else(|error| self.begin_anew(&error, now)) {
            Ok(ledger) => State::Owned(Box::new(ledger), previous),
            Err(error) => {
                self.log.note(&format!("insight: events are not kept: {error}"));
                State::Gone
            }
        }
    }

    fn import(&self, file: &LedgerFile, previous: &LedgerFile) -> Result<(), LedgerError> {
        file.take(self.owner);
        file.import(previous)?;
        self.supervisor.remove_ledger_aside().map_err(io::Error::from)?;
        Ok(())
    }

    fn begin_anew(&self, error: &LedgerError, now: i64) -> Result<Ledger, LedgerError> {
        let file = replace(self.events, &self.supervisor, &self.log, error)?;
        file.set_key(&self.key);
        file.claim(self.owner, now);
        file.read(self.owner, now)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sets a ledger aside that cannot be used, and begins a new one.
fn replace(
    events: usize,
    supervisor: &SupervisorClient,
    log: &Log,
    error: &LedgerError,
) -> io::Result<LedgerFile> {
    let aside = supervisor.set_ledger_aside()?;
    log.note(&format!("insight: the ledger begins anew, the old one is {}: {error}", aside.display()));
    let (_, _, file) = supervisor.ledger()?;
    LedgerFile::open(&file, events).map_err(io::Error::other)
}
