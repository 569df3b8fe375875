//! The file, before it is read: whose it is, and its key.

use std::collections::HashSet;
use std::fs::File;
use std::io;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};

use super::chains::Chains;
use super::events::Events;
use super::layout::{
    HEAD_ALIVE, HEAD_GAP_END, HEAD_KEY, HEAD_OWNER, HEAD_RELEASED, KEY_WORDS, Layout, Mapped, NUMBER_WORDS,
    ROW_WORDS, signed,
};
use super::numbers::Numbers;
use super::ring::Ring;
use super::rows::Rows;
use super::{Ledger, inbox};
use crate::messages::Report;
use crate::messages::figures::SharedFigures;
use crate::sys::Shared;

/// Its name in `[insight] state`.
pub const LEDGER_FILE: &str = "ledger";

/// An owner that was not seen for so long does not serve.
pub(super) const MAX_UNSEEN_SECONDS: i64 = 3;

/// The size of a file with room for that number of events.
pub const fn ledger_bytes(events: usize) -> u64 {
    Layout::new(events).bytes()
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("{0}")]
    Damaged(&'static str),
    /// It has room for another number of events.
    #[error("it has room for {0} events")]
    Resized(usize),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file that is mapped, of which nothing has been read but its key.
pub struct LedgerFile {
    pub(super) words: Mapped,
    pub(super) layout: Layout,
}

impl LedgerFile {
    /// `events`: for how many the file has room.
    pub fn open(file: &File, events: usize) -> Result<Self, LedgerError> {
        let room = Mapped::head(file)?.room().map_err(LedgerError::Damaged)?;
        if let Some(room) = room.filter(|room| *room != events) {
            return Err(LedgerError::Resized(room));
        }
        let layout = Layout::new(events);
        let words = Mapped::new(Shared::of_file(file, layout.words())?);
        if room.is_none() {
            words.begin(layout);
        }
        Ok(Self { words, layout })
    }

    /// Takes over, into a new file, all that another one holds, the newest events first where room
    /// is scarce.
    ///
    /// Errors: the other one is damaged.
    pub fn import(&self, other: &Self) -> Result<(), LedgerError> {
        let damaged = LedgerError::Damaged;
        other.read_records_ahead();
        let (to, from) = (&self.words, &other.words);
        let rows = Rows::read(from, other.layout).map_err(damaged)?;
        let numbers = Numbers::read(from, other.layout).map_err(damaged)?;
        for at in [HEAD_ALIVE, HEAD_GAP_END].into_iter().chain(HEAD_KEY..HEAD_KEY + KEY_WORDS) {
            to.copy(at, from, at, 1);
        }
        for row in 0..rows.used().len() {
            to.copy(self.layout.row(row), from, other.layout.row(row), ROW_WORDS);
        }
        for number in 0..numbers.count() {
            to.copy(self.layout.number(number), from, other.layout.number(number), NUMBER_WORDS);
        }
        Events::import(to, self.layout, from, other.layout, &rows).map_err(damaged)?;
        Chains::import(to, self.layout, from, other.layout).map_err(damaged)
    }

    /// What was reported to the owner of this file.
    pub fn read_reports(&self) -> Vec<Report> {
        inbox::read_all(&self.words, self.layout)
    }

    /// The key of the ids, made if there is none.
    ///
    /// Errors: no random numbers.
    pub fn key(&self) -> io::Result<[u8; KEY_WORDS * 8]> {
        let is_new = (0..KEY_WORDS).all(|at| self.words.get(HEAD_KEY + at) == 0);
        let mut key = [0; KEY_WORDS * 8];
        if is_new {
            SystemRandom::new().fill(&mut key).map_err(|_| io::Error::other("no random numbers"))?;
        }
        if is_new {
            self.set_key(&key);
        }
        for (at, bytes) in key.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&self.words.get(HEAD_KEY + at).to_le_bytes());
        }
        Ok(key)
    }

    /// Gives a new file the key of the one before.
    pub fn set_key(&self, key: &[u8; KEY_WORDS * 8]) {
        self.words.set_bytes(HEAD_KEY, key);
    }

    /// Takes the file, which no other process has, for `owner`.
    pub fn take(&self, owner: u64) {
        self.words.set(HEAD_OWNER, owner);
        self.words.set(HEAD_RELEASED, owner);
    }

    /// Says that the file is `owner`'s from now on. Whether it is: the one before has let it go, or
    /// is gone. Times are seconds since 1970.
    pub fn claim(&self, owner: u64, now: i64) -> bool {
        let before = self.words.get(HEAD_OWNER);
        let is_free = before == 0 || before == owner || self.is_ownerless(now);
        if self.words.get(HEAD_OWNER) != owner {
            self.words.set(HEAD_OWNER, owner);
            if !is_free {
                return false;
            }
            self.words.set(HEAD_RELEASED, owner);
        }
        self.words.get(HEAD_RELEASED) == owner || self.is_ownerless(now)
    }

    /// Whether no process was seen to own the file lately.
    pub fn is_ownerless(&self, now: i64) -> bool {
        (now - signed(self.words.get(HEAD_ALIVE))).abs() > MAX_UNSEEN_SECONDS
    }

    /// Reports to the process that owns the file.
    ///
    /// Errors: there is no room.
    pub fn report(&self, report: &Report) -> io::Result<()> {
        let text = serde_json::to_vec(report)?;
        inbox::write(&self.words, self.layout, &text).map_err(|()| io::ErrorKind::StorageFull.into())
    }

    /// There may be millions of them, one after the other.
    fn read_records_ahead(&self) {
        let Self { words, layout } = self;
        let [events, chains] =
            [Ring::of_events(*layout), Ring::of_chains(*layout)].map(|ring| ring.used(words));
        words.read_ahead(layout.event(0)..layout.event(events));
        words.read_ahead(layout.chain(0)..layout.chain(chains));
    }

    /// Reads all of it. Times are seconds since 1970.
    pub fn read(self, owner: u64, now: i64) -> Result<Ledger, LedgerError> {
        self.read_records_ahead();
        let Self { words, layout } = self;
        let damaged = LedgerError::Damaged;
        let mut ledger = Ledger {
            owner,
            events: Events::read(&words, layout).map_err(damaged)?,
            chains: Chains::read(&words, layout).map_err(damaged)?,
            rows: Rows::read(&words, layout).map_err(damaged)?,
            numbers: Numbers::read(&words, layout).map_err(damaged)?,
            outstanding: Vec::new(),
            figures: Vec::new(),
            changes: Vec::new(),
            shared: SharedFigures::default(),
            minute: now.div_euclid(60),
            once: HashSet::new(),
            words,
            layout,
        };
        ledger.outstanding = vec![0; ledger.rows.used().len()];
        for (_, record) in ledger.events.all_outstanding(&ledger.words) {
            if let Some(count) = ledger.outstanding.get_mut(usize::from(record.row)) {
                *count += 1;
            }
        }
        let alive = signed(ledger.words.get(HEAD_ALIVE));
        // Before the first start nothing could fail here.
        if alive > 0 && (now - alive).abs() > MAX_UNSEEN_SECONDS {
            ledger.words.set(HEAD_GAP_END, now.unsigned_abs());
            ledger.numbers.pass(&ledger.words, now, false);
        }
        ledger.words.set(HEAD_ALIVE, now.unsigned_abs());
        Ok(ledger)
    }
}
