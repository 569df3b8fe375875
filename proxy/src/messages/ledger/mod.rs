//! Which events have come, and how they ended: in a file of fixed size that is mapped, so that what
//! was written stays when the process is killed.

mod chains;
mod events;
mod file;
mod inbox;
mod layout;
mod numbers;
mod products;
mod ring;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

pub use self::file::{LEDGER_FILE, LedgerError, LedgerFile, ledger_bytes};

use self::chains::Chains;
use self::events::{Events, Record, State};
use self::layout::{HEAD_ALIVE, HEAD_GAP_END, HEAD_OWNER, HEAD_RELEASED, Layout, Mapped, signed};
use self::numbers::Numbers;
use self::rows::{Cell, Delay, Rows};
use super::document::{Document, NumberRow, UpstreamRow};
use super::figures::{Changes, SharedFigures, UpstreamFigures};
use super::{Chain, ChainEnd, Event, Key, Kind, Outcome, Product, Report, Unscanned};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// How long Meta sends a WhatsApp message again.
const WHATSAPP_RETRIES: i64 = 7 * DAY;
/// The same for all else.
const RETRIES: i64 = 36 * HOUR;
/// How long a `sent` is waited for.
const CHAIN_SECONDS: i64 = 2 * HOUR;
/// A lag above is Meta's, or of the way from it; one for longer than Meta sends anything again is a
/// replay's.
const LATE_MILLISECONDS: std::ops::RangeInclusive<i64> = 300_001..=WHATSAPP_RETRIES * 1000;
/// Clocks differ by so much; what lies further in the future says nothing.
const CLOCKS_MILLISECONDS: i64 = 2_000;
/// Others go on when something of theirs came within so long.
const GOING_ON_SECONDS: i64 = 30 * 60;

/// A ledger of this process.
pub struct Ledger {
    words: Mapped,
    layout: Layout,
    /// What says that the file is this process's.
    owner: u64,
    events: Events,
    chains: Chains,
    rows: Rows,
    numbers: Numbers,
    /// By row.
    outstanding: Vec<u64>,
    /// By row.
    figures: Vec<UpstreamFigures>,
    /// By row; `None`: nothing has changed.
    changes: Vec<Option<Changes>>,
    shared: SharedFigures,
    /// The minute that is over.
    minute: i64,
    /// Of the body that is looked at.
    once: HashSet<Key>,
}

impl Ledger {
    /// Whether the file is still this process's.
    pub fn is_owned(&self) -> bool {
        self.words.get(HEAD_OWNER) == self.owner
    }

    /// The process ends: the next one need not wait.
    pub fn close(self) {
        self.words.set(HEAD_OWNER, 0);
    }

    /// Lets the file go: who has claimed it may write to it from now on.
    pub fn release(self, now: i64) -> LedgerFile {
        let Self { words, layout, .. } = self;
        words.set(HEAD_ALIVE, now.unsigned_abs());
        words.set(HEAD_RELEASED, words.get(HEAD_OWNER));
        LedgerFile { words, layout }
    }

    /// What the process before this one still had under way.
    pub fn read_reports(&self) -> Vec<Report> {
        inbox::read_all(&self.words, self.layout)
    }

    /// Something was not written down: nothing that is missing says anything about the time before.
    pub fn gap(&self, now: i64) {
        self.words.set(HEAD_GAP_END, now.unsigned_abs());
    }

    /// One POST that has ended. `failed`: when anything of Meta's failed here last, in seconds
    /// since 1970.
    pub fn add(&mut self, report: &Report, failed: i64) {
        let now = report.ended.div_euclid(1000);
        if let Some(reason) = report.unscanned {
            self.shared.unscanned[reason as usize] += 1;
            for row in self.rows.of_upstream(&report.upstream) {
                self.rows.set(&self.words, row, Cell::Unscanned, now.unsigned_abs());
            }
            return;
        }
        let observation = &report.observation;
        for sent in &observation.sent {
            let wire = report.arrived - sent;
            match wire < -CLOCKS_MILLISECONDS {
                true => self.shared.negative += 1,
                false => self.shared.wire[observation.product as usize].add(wire),
            }
        }
        if observation.events.is_empty() {
            return;
        }
        let Some(row) = self.rows.find(&self.words, &report.upstream, observation.product) else { return };
        if self.outstanding.len() <= usize::from(row) {
            self.outstanding.resize(usize::from(row) + 1, 0);
        }
        let ages = self.add_numbers(report, row, now);
        if observation.events.len() > 1 {
            self.rows.add(&self.words, row, Cell::Batches, 1);
            self.changes(row).batches += 1;
        }
        if observation.names_fwdproxy {
            self.rows.add(&self.words, row, Cell::Fwdproxy, 1);
        }
        self.once.clear();
        for event in &observation.events {
            // What a body holds twice came once.
            if observation.events.len() > 1 && !self.once.insert(event.key) {
                continue;
            }
            self.add_event(report, row, event, failed, now);
            if let Some(chain) = event.chain {
                let age = event.number.and_then(|number| ages.get(number).copied().flatten());
                self.add_chain(chain, row, now, age.is_none_or(|age| age < CHAIN_SECONDS));
            }
        }
    }

    /// Once a second at least, and whenever figures are asked for. Times are seconds since 1970.
    pub fn pass(&mut self, now: i64) {
        self.words.set(HEAD_ALIVE, now.unsigned_abs());
        let minute = now.div_euclid(60);
        if minute == self.minute {
            return;
        }
        self.minute = minute;
        self.end_events(now);
        self.end_chains(now);
        self.numbers.pass(&self.words, now, true);
        for (row, usual) in self.numbers.missed(&self.words, now, GOING_ON_SECONDS) {
            self.changes(row).quiet += usual;
        }
    }

    pub fn shared_figures(&self) -> &SharedFigures {
        &self.shared
    }

    /// Whether too many times are in the future for a lag to say anything.
    pub fn doubts_clock(&self) -> bool {
        self.shared.doubts_clock(self.figures.iter().map(|figures| figures.lag.count()).sum())
    }

    /// By upstream, since the process started, and how many events are outstanding.
    pub fn by_upstream(&self) -> BTreeMap<Box<str>, UpstreamFigures> {
        let mut all: BTreeMap<Box<str>, UpstreamFigures> = BTreeMap::new();
        let outstanding = self.outstanding.iter().chain(std::iter::repeat(&0));
        let nothing = UpstreamFigures::default();
        let figures = self.figures.iter().chain(std::iter::repeat(&nothing));
        for (((name, _), figures), outstanding) in self.rows.used().iter().zip(figures).zip(outstanding) {
            if *outstanding > 0 || *figures != nothing {
                let sum = all.entry(name.clone()).or_default();
                sum.add(figures);
                sum.outstanding += outstanding;
            }
        }
        all
    }

    /// By upstream, since this was called last.
    pub fn take_changes(&mut self) -> HashMap<Box<str>, Changes> {
        let mut all: HashMap<Box<str>, Changes> = HashMap::new();
        for ((name, _), changes) in self.rows.used().iter().zip(&mut self.changes) {
            if let Some(changes) = changes.take() {
                all.entry(name.clone()).or_default().add(&changes);
            }
        }
        all
    }

    /// How many events are outstanding, numbers are quiet, and numbers there are.
    pub fn gauges(&self, now: i64) -> [u64; 3] {
        let numbers: Vec<_> = self.numbers.all(&self.words, now).collect();
        let quiet = numbers.iter().filter(|number| number.quiet.is_some()).count();
        [self.events.outstanding, quiet, numbers.len()].map(|count| count as u64)
    }

    /// What `hookgate messages` prints. `upstream`: only of that one.
    pub fn document(&self, upstream: Option<&str>, now: jiff::Timestamp) -> Document {
        let seconds = now.as_second();
        let mut numbers: HashMap<u16, Vec<NumberRow>> = HashMap::new();
        for number in self.numbers.all(&self.words, seconds) {
            let row = NumberRow::new(&number.id, number.last, number.quiet.map(|quiet| quiet.since));
            numbers.entry(number.row).or_default().push(row);
        }
        let rows = self.rows.used().iter().zip(0u16..);
        let rows = rows.filter(|((name, _), _)| upstream.is_none_or(|only| only == &**name));
        let upstreams = rows.map(|((name, product), row)| {
            let mut numbers = numbers.remove(&row).unwrap_or_default();
            numbers.sort_by(|one, other| one.id.cmp(&other.id));
            self.upstream_row(name, *product, row, numbers, seconds)
        });
        let mut upstreams: Vec<_> = upstreams.collect();
        upstreams.sort_by(|one, other| (&one.upstream, &one.product).cmp(&(&other.upstream, &other.product)));
        let oldest = self.events.oldest(&self.words).map_or(seconds, i64::from);
        let unscanned = Unscanned::ALL.iter().zip(self.shared.unscanned);
        Document {
            version: 1,
            taken: jiff::Timestamp::from_second(seconds).unwrap_or(now),
            horizon_seconds: (seconds - oldest).max(0),
            unscanned: unscanned.map(|(reason, count)| (reason.name().to_owned(), count)).collect(),
            upstreams,
            products: products::products(&self.rows, &self.words, &self.outstanding, upstream, seconds),
        }
    }

    fn upstream_row(
        &self,
        name: &str,
        product: Product,
        row: u16,
        numbers: Vec<NumberRow>,
        now: i64,
    ) -> UpstreamRow {
        let cell = |cell| self.rows.get(&self.words, row, cell);
        let sum = products::sum(&self.rows, &self.words, &self.outstanding, product, &[row], now);
        UpstreamRow {
            upstream: name.to_owned(),
            product: sum.product,
            outcomes: sum.outcomes,
            outstanding: sum.outstanding,
            batches: cell(Cell::Batches),
            without_number: cell(Cell::WithoutNumber),
            recovered_seconds: sum.recovered_seconds,
            lag_seconds: sum.lag_seconds,
            chains: sum.chains,
            numbers,
        }
    }

    /// How long each number is known.
    fn add_numbers(&mut self, report: &Report, row: u16, now: i64) -> Vec<Option<i64>> {
        let observation = &report.observation;
        let numbers = observation.numbers.iter().enumerate().map(|(number, id)| {
            let of_number = observation.events.iter().filter(|event| event.number == Some(number));
            let first = self.numbers.add(&self.words, row, id.as_str(), of_number.count() as u64, now)?;
            Some(now - first)
        });
        numbers.collect()
    }

    fn add_event(&mut self, report: &Report, row: u16, event: &Event, failed: i64, now: i64) {
        let Some((slot, record)) = self.events.find(&self.words, event.key) else {
            return self.add_new_event(report, row, event, failed, now);
        };
        match (record.state, report.is_delivered) {
            (State::Outstanding, true) => {
                self.settle(slot, &record, State::Recovered, Outcome::Recovered);
                let milliseconds = report.ended - i64::from(record.failed) * 1000;
                self.rows.delay(&self.words, record.row, Delay::Recovery, milliseconds, now);
            }
            (State::Delivered | State::Recovered, _) => self.count(row, event.kind, Outcome::Duplicate),
            // What was given up is not counted once more.
            (State::Outstanding, false) | (State::Lost | State::Unknown, _) => {}
        }
    }

    fn add_new_event(&mut self, report: &Report, row: u16, event: &Event, failed: i64, now: i64) {
        self.add_lag(report, row, event, failed);
        if event.without_number {
            self.rows.add(&self.words, row, Cell::WithoutNumber, 1);
        }
        let seconds = u32::try_from(now).unwrap_or(0);
        let (state, failed) = match report.is_delivered {
            true => (State::Delivered, 0),
            false => (State::Outstanding, seconds),
        };
        match report.is_delivered {
            true => self.count(row, event.kind, Outcome::Delivered),
            false => self.outstanding[usize::from(row)] += 1,
        }
        let Event { key, kind, has_id, .. } = *event;
        let record = Record { key, seen: seconds, failed, row, kind, has_id, state };
        if let Some(gone) = self.events.append(&self.words, record) {
            self.no_longer_outstanding(gone.row);
            self.count(gone.row, gone.kind, Outcome::Unknown);
        }
    }

    fn add_lag(&mut self, report: &Report, row: u16, event: &Event, failed: i64) {
        self.changes(row).seen += 1;
        let Some(happened) = event.happened else { return };
        if let Some(sent) = event.sent {
            self.shared.queue[report.observation.product as usize].add(sent - happened);
        }
        let lag = report.arrived - happened;
        if lag < -CLOCKS_MILLISECONDS {
            self.shared.negative += 1;
            return;
        }
        let lag = lag.max(0);
        self.rows.delay(&self.words, row, Delay::Lag, lag, report.ended.div_euclid(1000));
        self.figures(row).lag.add(lag);
        let gap_end = signed(self.words.get(HEAD_GAP_END));
        let is_late = LATE_MILLISECONDS.contains(&lag) && failed.max(gap_end) < happened.div_euclid(1000);
        let changes = self.changes(row);
        changes.lagged += 1;
        changes.lag_milliseconds += lag.unsigned_abs();
        changes.late += u64::from(is_late);
    }

    fn add_chain(&mut self, chain: Chain, row: u16, now: i64, is_young: bool) {
        let seconds = u32::try_from(now).unwrap_or(0);
        let ended = self.chains.add(&self.words, chain.key, chain.step, row, seconds, is_young);
        for ended in ended.into_iter().flatten() {
            self.count_chain(ended.row, ended.state);
        }
    }

    /// Gives up what Meta does not send again.
    fn end_events(&mut self, now: i64) {
        let gap_end = signed(self.words.get(HEAD_GAP_END));
        let over: Vec<_> = self.events.all_outstanding(&self.words).collect();
        for (slot, record) in over {
            let product = self.rows.used().get(usize::from(record.row)).map(|(_, product)| *product);
            let retries = if product == Some(Product::WhatsApp) { WHATSAPP_RETRIES } else { RETRIES };
            let failed = i64::from(record.failed);
            if now - failed < retries {
                continue;
            }
            match record.has_id && gap_end <= failed {
                true => self.settle(slot, &record, State::Lost, Outcome::Lost),
                false => self.settle(slot, &record, State::Unknown, Outcome::Unknown),
            }
        }
    }

    fn end_chains(&mut self, now: i64) {
        let gap_end = signed(self.words.get(HEAD_GAP_END));
        let waiting: Vec<_> = self.chains.all_waiting(&self.words).collect();
        for (slot, record) in waiting {
            let seen = i64::from(record.seen);
            if now - seen < CHAIN_SECONDS {
                continue;
            }
            let unscanned = signed(self.rows.get(&self.words, record.row, Cell::Unscanned));
            // Its `sent` may have come shortly before, too.
            let unclear = gap_end.max(unscanned) > seen - CHAIN_SECONDS;
            let state = match record.is_young || unclear {
                true => chains::State::Unknown,
                false => chains::State::Missing,
            };
            self.chains.set(&self.words, slot, &record, state);
            self.count_chain(record.row, state);
        }
    }

    /// An event that is outstanding no more.
    fn settle(&mut self, slot: usize, record: &Record, state: State, outcome: Outcome) {
        self.no_longer_outstanding(record.row);
        self.count(record.row, record.kind, outcome);
        self.events.set(&self.words, slot, record, state);
    }

    fn no_longer_outstanding(&mut self, row: u16) {
        if let Some(count) = self.outstanding.get_mut(usize::from(row)) {
            *count = count.saturating_sub(1);
        }
    }

    fn count(&mut self, row: u16, kind: Kind, outcome: Outcome) {
        self.rows.add(&self.words, row, Cell::Outcome(kind, outcome), 1);
        self.figures(row).outcomes[kind as usize][outcome as usize] += 1;
        self.changes(row).outcomes[outcome as usize] += 1;
    }

    fn count_chain(&mut self, row: u16, state: chains::State) {
        let end = match state {
            chains::State::Complete => ChainEnd::Complete,
            chains::State::Missing => ChainEnd::SentMissing,
            chains::State::Unknown => ChainEnd::Unknown,
            chains::State::Sent | chains::State::Later => return,
        };
        self.rows.add(&self.words, row, Cell::Chain(end), 1);
        self.figures(row).chains[end as usize] += 1;
        self.changes(row).chains[end as usize] += 1;
    }

    fn figures(&mut self, row: u16) -> &mut UpstreamFigures {
        of_row(&mut self.figures, row)
    }

    fn changes(&mut self, row: u16) -> &mut Changes {
        of_row(&mut self.changes, row).get_or_insert_default()
    }
}

fn of_row<T: Default + Clone>(all: &mut Vec<T>, row: u16) -> &mut T {
    let row = usize::from(row);
    if all.len() <= row {
        all.resize(row + 1, T::default());
    }
    &mut all[row]
}
