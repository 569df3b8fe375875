//! Each event's record, in a ring: the oldest one that is settled gives way to the next.

use hashbrown::HashTable;

use super::layout::{Layout, Mapped, check};
use super::ring::{Place, Ring};
use super::rows::{Cell, Rows};
use crate::messages::{Key, Kind, Outcome};

/// How an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Delivered = 1,
    Outstanding = 2,
    Recovered = 3,
    Lost = 4,
    Unknown = 5,
}

impl State {
    const ALL: [Self; 5] = [Self::Delivered, Self::Outstanding, Self::Recovered, Self::Lost, Self::Unknown];

    fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| *state as u64 == number)
    }
}

/// One event. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Key,
    pub(super) seen: u32,
    /// Its first failure; 0: it has not failed.
    pub(super) failed: u32,
    pub(super) row: u16,
    pub(super) kind: Kind,
    pub(super) has_id: bool,
    pub(super) state: State,
}

pub(super) struct Events {
    layout: Layout,
    /// Slots by key.
    index: HashTable<u32>,
    pub(super) outstanding: usize,
}

impl Events {
    /// Reads all records.
    ///
    /// Errors: one of them is damaged.
    pub(super) fn read(words: &Mapped, layout: Layout) -> Result<Self, &'static str> {
        let mut events = Self { layout, index: HashTable::new(), outstanding: 0 };
        for slot in 0..Ring::of_events(layout).used(words) {
            let Some(record) = events.at(words, slot)? else { continue };
            events.outstanding += usize::from(record.state == State::Outstanding);
            events.insert(words, record.key, slot);
        }
        Ok(events)
    }

    /// Copies all records, oldest first, into a new file. An outstanding one without room is
    /// unknown.
    ///
    /// Errors: one of them is damaged.
    pub(super) fn import(
        to: &Mapped,
        layout: Layout,
        from: &Mapped,
        old: Layout,
        rows: &Rows,
    ) -> Result<(), &'static str> {
        let mut events = Self { layout, index: HashTable::new(), outstanding: 0 };
        for slot in Ring::of_events(old).oldest_first(from) {
            let Some(record) = at(from, old, slot)? else { continue };
            if let Some(gone) = events.append(to, record) {
                let place = rows.place_in(layout, gone.row, Cell::Outcome(gone.kind, Outcome::Unknown));
                to.add(place, 1);
            }
        }
        Ok(())
    }

    pub(super) fn find(&self, words: &Mapped, key: Key) -> Option<(usize, Record)> {
        let found = self.index.find(hash(key), |slot| self.key(words, *slot as usize) == key)?;
        let slot = *found as usize;
        Some((slot, self.at(words, slot).ok()??))
    }

    /// Appends a record, and gives back an outstanding one that had to go for it.
    pub(super) fn append(&mut self, words: &Mapped, record: Record) -> Option<Record> {
        let ring = Ring::of_events(self.layout);
        let at = |slot| self.at(words, slot).ok().flatten();
        let is_outstanding = |old: &Record| old.state == State::Outstanding;
        let Place { slot, gone, next } = ring.place(words, self.outstanding, at, is_outstanding);
        if let Some(gone) = &gone {
            self.remove(gone.key, slot);
            self.outstanding -= usize::from(gone.state == State::Outstanding);
        }
        self.write(words, slot, record, next);
        self.insert(words, record.key, slot);
        self.outstanding += usize::from(record.state == State::Outstanding);
        gone.filter(|gone| gone.state == State::Outstanding)
    }

    /// Replaces what changes of a record.
    pub(super) fn set(&mut self, words: &Mapped, slot: usize, old: &Record, state: State) {
        self.outstanding -= usize::from(old.state == State::Outstanding);
        self.outstanding += usize::from(state == State::Outstanding);
        let record = Record { state, ..*old };
        words.set(self.layout.event(slot) + 3, flags(&record));
    }

    /// Every record that is outstanding, with its slot.
    pub(super) fn all_outstanding<'w>(
        &self,
        words: &'w Mapped,
    ) -> impl Iterator<Item = (usize, Record)> + use<'w> {
        let layout = self.layout;
        let slots = if self.outstanding == 0 { 0 } else { Ring::of_events(layout).used(words) };
        (0..slots).filter_map(move |slot| {
            let record = at(words, layout, slot).ok()??;
            (record.state == State::Outstanding).then_some((slot, record))
        })
    }

    /// When the oldest event that is kept was seen first, those that are outstanding aside.
    pub(super) fn oldest(&self, words: &Mapped) -> Option<u32> {
        let slots = Ring::of_events(self.layout).oldest_first(words);
        let records = slots.filter_map(|slot| self.at(words, slot).ok()?);
        let mut settled = records.skip_while(|record| record.state == State::Outstanding);
        let oldest = settled.next().map(|record| record.seen);
        oldest.or_else(|| self.all_outstanding(words).map(|(_, record)| record.seen).min())
    }

    fn at(&self, words: &Mapped, slot: usize) -> Result<Option<Record>, &'static str> {
        at(words, self.layout, slot)
    }

    fn key(&self, words: &Mapped, slot: usize) -> Key {
        key(words, self.layout.event(slot))
    }

    fn write(&self, words: &Mapped, slot: usize, record: Record, next: u64) {
        let place = self.layout.event(slot);
        let [one, other] = halves(record.key);
        // A record without flags is none. Slots from the next one on are not looked at before the
        // ring is full: a new file's pages take no memory.
        words.set(place + 3, 0);
        words.set(place, one);
        words.set(place + 1, other);
        words.set(place + 2, u64::from(record.seen) << 32 | u64::from(record.failed));
        Ring::of_events(self.layout).set_next(words, next);
        words.set(place + 3, flags(&record));
    }

    fn insert(&mut self, words: &Mapped, key: Key, slot: usize) {
        let layout = self.layout;
        let Ok(slot) = u32::try_from(slot) else { return };
        let hash_of = |slot: &u32| hash(self::key(words, layout.event(*slot as usize)));
        self.index.insert_unique(hash(key), slot, hash_of);
    }

    fn remove(&mut self, key: Key, slot: usize) {
        if let Ok(entry) = self.index.find_entry(hash(key), |other| *other as usize == slot) {
            entry.remove();
        }
    }
}

fn at(words: &Mapped, layout: Layout, slot: usize) -> Result<Option<Record>, &'static str> {
    const DAMAGED: &str = "what it holds of an event is damaged";
    let place = layout.event(slot);
    let [times, word] = [2, 3].map(|at| words.get(place + at));
    if word == 0 {
        return Ok(None);
    }
    let kind = Kind::ALL.get((word >> 24 & 0xf) as usize).copied().ok_or(DAMAGED)?;
    let record = Record {
        key: key(words, place),
        seen: (times >> 32) as u32,
        failed: times as u32,
        row: word as u16,
        kind,
        has_id: word >> 28 & 1 == 1,
        state: State::of(word >> 16 & 0xff).ok_or(DAMAGED)?,
    };
    if flags(&record) == word { Ok(Some(record)) } else { Err(DAMAGED) }
}

/// Row (16 bits), state (8), kind (4), whether it has an id (4), nothing (16), check (16).
fn flags(record: &Record) -> u64 {
    let fixed = u64::from(record.row) | (record.kind as u64) << 24 | u64::from(record.has_id) << 28;
    let [one, other] = halves(record.key);
    let times = u64::from(record.seen) << 32 | u64::from(record.failed);
    check(&[one, other, times, fixed]) << 48 | (record.state as u64) << 16 | fixed
}

fn key(words: &Mapped, place: usize) -> Key {
    let (one, other) = (words.get(place), words.get(place + 1));
    Key((u128::from(one) | u128::from(other) << 64).to_le_bytes())
}

fn halves(key: Key) -> [u64; 2] {
    let number = u128::from_le_bytes(key.0);
    [number as u64, (number >> 64) as u64]
}

/// A key is a hash already.
fn hash(key: Key) -> u64 {
    halves(key)[0]
}
