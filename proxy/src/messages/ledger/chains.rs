//! Messages that upstreams have sent, by their statuses: a later status without a `sent` is a
//! webhook that was lost before this machine.

use hashbrown::HashTable;

use super::layout::{Layout, Mapped, check};
use super::ring::{Place, Ring};
use crate::messages::{ChainStep, Key};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Only `sent` has come.
    Sent = 1,
    /// Only a later status has.
    Later = 2,
    Complete = 3,
    Missing = 4,
    Unknown = 5,
}

impl State {
    const ALL: [Self; 5] = [Self::Sent, Self::Later, Self::Complete, Self::Missing, Self::Unknown];
}

/// One message's statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Half of its key.
    key: u64,
    /// When its first status came, in seconds since 1970.
    pub(super) seen: u32,
    pub(super) row: u16,
    pub(super) state: State,
    /// Its number is too new here for a conclusion.
    pub(super) is_young: bool,
}

pub(super) struct Chains {
    layout: Layout,
    index: HashTable<u32>,
    /// How many are in [`State::Later`].
    waiting: usize,
}

/// A chain whose end is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) row: u16,
    pub(super) state: State,
}

impl Chains {
    /// Reads all records.
    ///
    /// Errors: one of them is damaged.
    pub(super) fn read(words: &Mapped, layout: Layout) -> Result<Self, &'static str> {
        let mut chains = Self { layout, index: HashTable::new(), waiting: 0 };
        for slot in 0..Ring::of_chains(layout).used(words) {
            let Some(record) = at(words, layout, slot)? else { continue };
            chains.waiting += usize::from(record.state == State::Later);
            chains.insert(words, record.key, slot);
        }
        Ok(chains)
    }

    /// Copies all records, oldest first, into a new file, as far as it has room.
    ///
    /// Errors: one of them is damaged.
    pub(super) fn import(
        to: &Mapped,
        layout: Layout,
        from: &Mapped,
        old: Layout,
    ) -> Result<(), &'static str> {
        let mut chains = Self { layout, index: HashTable::new(), waiting: 0 };
        for slot in Ring::of_chains(old).oldest_first(from) {
            if let Some(record) = at(from, old, slot)? {
                chains.append(to, record);
            }
        }
        Ok(())
    }

    /// One status of a message. What has ended by it, and what had to go for it.
    pub(super) fn add(
        &mut self,
        words: &Mapped,
        key: Key,
        step: ChainStep,
        row: u16,
        now: u32,
        is_young: bool,
    ) -> [Option<Ended>; 2] {
        let key = half(key);
        let layout = self.layout;
        let found = self.index.find(key, |slot| words.get(layout.chain(*slot as usize)) == key).copied();
        if let Some(slot) = found.map(|slot| slot as usize) {
            let Some(old) = at(words, layout, slot).ok().flatten() else { return [None; 2] };
            let completes = matches!(
                (old.state, step),
                (State::Sent, ChainStep::Later) | (State::Later, ChainStep::Sent)
            );
            if !completes {
                return [None; 2];
            }
            self.set(words, slot, &old, State::Complete);
            return [Some(Ended { row: old.row, state: State::Complete }), None];
        }
        let state = match step {
            ChainStep::Sent => State::Sent,
            ChainStep::Later => State::Later,
        };
        let gone = self.append(words, Record { key, seen: now, row, state, is_young });
        [None, gone.map(|gone| Ended { row: gone.row, state: State::Unknown })]
    }

    /// Every one that waits for its `sent`, with its slot.
    pub(super) fn all_waiting<'w>(
        &self,
        words: &'w Mapped,
    ) -> impl Iterator<Item = (usize, Record)> + use<'w> {
        let layout = self.layout;
        let slots = if self.waiting == 0 { 0 } else { Ring::of_chains(layout).used(words) };
        (0..slots).filter_map(move |slot| {
            let record = at(words, layout, slot).ok()??;
            (record.state == State::Later).then_some((slot, record))
        })
    }

    pub(super) fn set(&mut self, words: &Mapped, slot: usize, old: &Record, state: State) {
        self.waiting -= usize::from(old.state == State::Later);
        self.waiting += usize::from(state == State::Later);
        words.set(self.layout.chain(slot) + 1, rest(&Record { state, ..*old }));
    }

    /// Appends a record, and gives back one that waited and had to go for it.
    fn append(&mut self, words: &Mapped, record: Record) -> Option<Record> {
        let ring = Ring::of_chains(self.layout);
        let at = |slot| at(words, self.layout, slot).ok().flatten();
        let waits = |old: &Record| old.state == State::Later;
        let Place { slot, gone, next } = ring.place(words, self.waiting, at, waits);
        if let Some(gone) = &gone {
            if let Ok(entry) = self.index.find_entry(gone.key, |other| *other as usize == slot) {
                entry.remove();
            }
            self.waiting -= usize::from(gone.state == State::Later);
        }
        let place = self.layout.chain(slot);
        words.set(place + 1, 0);
        words.set(place, record.key);
        ring.set_next(words, next);
        words.set(place + 1, rest(&record));
        self.insert(words, record.key, slot);
        self.waiting += usize::from(record.state == State::Later);
        gone.filter(|gone| gone.state == State::Later)
    }

    fn insert(&mut self, words: &Mapped, key: u64, slot: usize) {
        let layout = self.layout;
        let Ok(slot) = u32::try_from(slot) else { return };
        self.index.insert_unique(key, slot, |slot| words.get(layout.chain(*slot as usize)));
    }
}

fn at(words: &Mapped, layout: Layout, slot: usize) -> Result<Option<Record>, &'static str> {
    const DAMAGED: &str = "what it holds of a message's statuses is damaged";
    let place = layout.chain(slot);
    let [key, word] = [0, 1].map(|at| words.get(place + at));
    if word == 0 {
        return Ok(None);
    }
    let number = word >> 28 & 7;
    let state = State::ALL.into_iter().find(|state| *state as u64 == number).ok_or(DAMAGED)?;
    let (seen, row, is_young) = ((word >> 32) as u32, (word & 0xfff) as u16, word >> 31 & 1 == 1);
    let record = Record { key, seen, row, state, is_young };
    if rest(&record) == word { Ok(Some(record)) } else { Err(DAMAGED) }
}

/// Row (12 bits), check (16), state (3), whether it is young (1), seen (32).
fn rest(record: &Record) -> u64 {
    let fixed =
        u64::from(record.row & 0xfff) | u64::from(record.seen) << 32 | u64::from(record.is_young) << 31;
    fixed | check(&[record.key, fixed]) << 12 | (record.state as u64) << 28
}

/// Half of a hash is enough to tell a million apart.
fn half(key: Key) -> u64 {
    u128::from_le_bytes(key.0) as u64
}
