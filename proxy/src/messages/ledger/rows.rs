//! What is counted for ever, by upstream and product.

use std::collections::HashMap;

use super::layout::{Layout, MAX_ROWS, Mapped};
use crate::messages::buckets::{BUCKETS, bucket};
use crate::messages::{ChainEnd, Kind, Outcome, Product};

/// A number of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Outcome(Kind, Outcome),
    Chain(ChainEnd),
    Batches,
    WithoutNumber,
    /// Errors that name Meta's forward proxy.
    Fwdproxy,
    /// When a POST of the upstream was not scanned last, in seconds since 1970.
    Unscanned,
}

/// What percentiles are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delay {
    Lag = 0,
    Recovery = 1,
}

const MAX_NAME_BYTES: usize = 264;
const NAME: usize = 1;
const CELLS: usize = NAME + MAX_NAME_BYTES / 8;
const SPANS: usize = 64;
/// The current one, and those of the 24 hours before.
const SPAN_COUNT: usize = 7;
const SPAN_SECONDS: i64 = 4 * 3600;
const SPAN_WORDS: usize = 1 + 2 * BUCKETS;

pub(super) struct Rows {
    layout: Layout,
    /// By product.
    by_name: [HashMap<Box<str>, u16>; Product::ALL.len()],
    used: Vec<(Box<str>, Product)>,
}

impl Rows {
    /// Errors: one of them is damaged.
    pub(super) fn read(words: &Mapped, layout: Layout) -> Result<Self, &'static str> {
        let mut rows = Self { layout, by_name: Default::default(), used: Vec::new() };
        for slot in 0..MAX_ROWS {
            match name(words, layout.row(slot))? {
                Some((name, product)) => rows.insert(name, product),
                None => break,
            }
        }
        Ok(rows)
    }

    /// The row of an upstream and product, made if need be; `None`: there is no room.
    pub(super) fn find(&mut self, words: &Mapped, upstream: &str, product: Product) -> Option<u16> {
        if let Some(row) = self.by_name[product as usize].get(upstream) {
            return Some(*row);
        }
        let slot = self.used.len();
        if slot >= MAX_ROWS || upstream.len() > MAX_NAME_BYTES {
            return None;
        }
        let place = self.layout.row(slot);
        words.set_bytes(place + NAME, upstream.as_bytes());
        words.set(place, 1 | (product as u64) << 8 | (upstream.len() as u64) << 16);
        self.insert(upstream.into(), product);
        u16::try_from(slot).ok()
    }

    pub(super) fn used(&self) -> &[(Box<str>, Product)] {
        &self.used
    }

    /// The rows of an upstream.
    pub(super) fn of_upstream(&self, upstream: &str) -> impl Iterator<Item = u16> {
        self.by_name.iter().filter_map(move |rows| rows.get(upstream).copied())
    }

    pub(super) fn get(&self, words: &Mapped, row: u16, cell: Cell) -> u64 {
        words.get(self.place(row, cell))
    }

    pub(super) fn add(&self, words: &Mapped, row: u16, cell: Cell, more: u64) {
        words.add(self.place(row, cell), more);
    }

    pub(super) fn set(&self, words: &Mapped, row: u16, cell: Cell, value: u64) {
        words.set(self.place(row, cell), value);
    }

    pub(super) fn delay(&self, words: &Mapped, row: u16, delay: Delay, milliseconds: i64, now: i64) {
        let span = self.span(row, now);
        let stamp = now.div_euclid(SPAN_SECONDS).unsigned_abs();
        if words.get(span) != stamp {
            words.set(span, 0);
            (1..SPAN_WORDS).for_each(|at| words.set(span + at, 0));
            words.set(span, stamp);
        }
        words.add(span + 1 + delay as usize * BUCKETS + bucket(milliseconds), 1);
    }

    /// Of the last 24 hours.
    pub(super) fn delays(&self, words: &Mapped, row: u16, delay: Delay, now: i64) -> [u64; BUCKETS] {
        let mut counts = [0; BUCKETS];
        for age in 0..SPAN_COUNT as i64 {
            let then = now - age * SPAN_SECONDS;
            let span = self.span(row, then);
            if words.get(span) != then.div_euclid(SPAN_SECONDS).unsigned_abs() {
                continue;
            }
            for (bucket, count) in counts.iter_mut().enumerate() {
                *count += words.get(span + 1 + delay as usize * BUCKETS + bucket);
            }
        }
        counts
    }

    fn insert(&mut self, name: Box<str>, product: Product) {
        let Ok(row) = u16::try_from(self.used.len()) else { return };
        self.by_name[product as usize].insert(name.clone(), row);
        self.used.push((name, product));
    }

    fn place(&self, row: u16, cell: Cell) -> usize {
        self.place_in(self.layout, row, cell)
    }

    /// The same in another file.
    pub(super) fn place_in(&self, layout: Layout, row: u16, cell: Cell) -> usize {
        const CHAINS: usize = Kind::ALL.len() * Outcome::ALL.len();
        const REST: usize = CHAINS + ChainEnd::ALL.len();
        let at = match cell {
            Cell::Outcome(kind, outcome) => kind as usize * Outcome::ALL.len() + outcome as usize,
            Cell::Chain(end) => CHAINS + end as usize,
            Cell::Batches => REST,
            Cell::WithoutNumber => REST + 1,
            Cell::Fwdproxy => REST + 2,
            Cell::Unscanned => REST + 3,
        };
        layout.row(usize::from(row)) + CELLS + at
    }

    fn span(&self, row: u16, now: i64) -> usize {
        let number = now.div_euclid(SPAN_SECONDS).unsigned_abs() % SPAN_COUNT as u64;
        self.layout.row(usize::from(row)) + SPANS + number as usize * SPAN_WORDS
    }
}

const _: () = assert!(CELLS + Kind::ALL.len() * Outcome::ALL.len() + ChainEnd::ALL.len() + 4 <= SPANS);
const _: () = assert!(SPANS + SPAN_COUNT * SPAN_WORDS <= super::layout::ROW_WORDS);

fn name(words: &Mapped, place: usize) -> Result<Option<(Box<str>, Product)>, &'static str> {
    const DAMAGED: &str = "what it holds of an upstream is damaged";
    let head = words.get(place);
    if head == 0 {
        return Ok(None);
    }
    let length = (head >> 16) as usize;
    let product = Product::ALL.get((head >> 8 & 0xff) as usize).copied().ok_or(DAMAGED)?;
    if head & 0xff != 1 || length > MAX_NAME_BYTES {
        return Err(DAMAGED);
    }
    let name = String::from_utf8(words.bytes(place + NAME, length)).map_err(|_| DAMAGED)?;
    Ok(Some((name.into_boxed_str(), product)))
}
