use super::place::List;
use crate::messages::{Chain, Key, Kind, Number, Unscanned};

/// Updates of one body. Entries and changes have the same limit, since each is remembered until the
/// body has ended.
pub const MAX_UPDATES: usize = 4096;
/// Memory for more is given back before the next body.
pub const MAX_KEPT: usize = 1024;

/// An update as it was found. Whether it is an event depends on the product, which may come last.
#[derive(Clone, Debug)]
pub struct Update {
    pub list: List,
    /// Index of its entry.
    pub entry: usize,
    /// Index of its change; 0 outside of `changes[]`.
    pub change: usize,
    pub key: Option<Key>,
    pub kind: Kind,
    pub chain: Option<Chain>,
    pub happened: Option<i64>,
    pub without_number: bool,
    pub names_fwdproxy: bool,
    /// The number of updates before it.
    pub position: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub id: Option<Number>,
    pub sent: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// `messages` or standby, by its field.
    pub has_lag: bool,
    pub has_items: bool,
    pub phone_number_id: Option<Number>,
}

/// What a body has so far. A duplicate member discards what the earlier one had.
#[derive(Debug, Default)]
pub struct Found {
    pub updates: Vec<Update>,
    pub entries: Vec<Entry>,
    pub changes: Vec<Change>,
    /// Discarded ones count too, so that discarding takes bounded time.
    count: usize,
    /// Whether the open entry, or change, has updates of a list.
    has: [bool; List::Standby as usize + 1],
}

impl Found {
    pub fn clear(&mut self) {
        self.updates.clear();
        self.updates.shrink_to(MAX_KEPT);
        self.discard_entries();
        self.entries.shrink_to(MAX_KEPT);
        self.changes.shrink_to(MAX_KEPT);
        self.count = 0;
    }

    pub fn discard_entries(&mut self) {
        self.updates.clear();
        self.entries.clear();
        self.changes.clear();
    }

    pub fn begin_entry(&mut self) {
        self.has = Default::default();
    }

    pub fn begin_change(&mut self) {
        self.has[..List::Changes as usize].fill(false);
    }

    /// Of the open entry, or change.
    pub fn discard(&mut self, list: List) {
        if std::mem::take(&mut self.has[list as usize]) {
            let (entry, change) = (self.entries.len(), self.changes.len());
            self.updates.retain(|update| {
                let is_in_list = update.list == list && (list >= List::Changes || update.change == change);
                let is_in_change = list == List::Changes && update.list < list;
                update.entry != entry || !(is_in_list || is_in_change)
            });
        }
    }

    pub fn discard_items(&mut self) {
        [List::Messages, List::Statuses, List::Echoes].into_iter().for_each(|list| self.discard(list));
    }

    pub fn has_items(&self) -> bool {
        self.has[..List::Changes as usize].contains(&true)
    }

    pub fn push(&mut self, list: List, key: Option<Key>, kind: Kind) -> Result<&mut Update, Unscanned> {
        // The change that has no items is an update of itself; others are none.
        let is_counted = list != List::Changes || !self.has_items();
        self.count += usize::from(is_counted);
        if self.count > MAX_UPDATES {
            return Err(Unscanned::TooMany);
        }
        self.has[list as usize] = true;
        let update = Update {
            list,
            entry: self.entries.len(),
            change: if list <= List::Changes { self.changes.len() } else { 0 },
            key,
            kind,
            chain: None,
            happened: None,
            without_number: false,
            names_fwdproxy: false,
            position: self.updates.len(),
        };
        Ok(self.updates.push_mut(update))
    }

    pub fn end_change(&mut self, change: Change) -> Result<(), Unscanned> {
        self.changes.push(change);
        ensure_few(self.changes.len())
    }

    pub fn end_entry(&mut self, entry: Entry) -> Result<(), Unscanned> {
        self.entries.push(entry);
        ensure_few(self.entries.len())
    }

    /// In an order that does not depend on that of an object's members.
    pub fn sort(&mut self) {
        let key = |update: &Update| {
            // A change's lists are in `changes[]`.
            let of_entry = update.list.max(List::Changes);
            (update.entry, of_entry, update.change, update.list, update.position)
        };
        if !self.updates.is_sorted_by_key(key) {
            self.updates.sort_unstable_by_key(key);
        }
    }
}

fn ensure_few(count: usize) -> Result<(), Unscanned> {
    if count > MAX_UPDATES { Err(Unscanned::TooMany) } else { Ok(()) }
}
