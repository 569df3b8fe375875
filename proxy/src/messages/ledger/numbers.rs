//! Telephone numbers, pages and accounts: how many events are usual at this hour of the week, and
//! whether one has become quiet.

use std::collections::HashMap;

use super::layout::{Layout, MAX_NUMBERS, Mapped, signed};

const HOUR: i64 = 3600;
const WEEK_HOURS: i64 = 168;
/// How long a number must be known before its silence says anything.
const KNOWN_SECONDS: i64 = 14 * 24 * HOUR;
const MIN_SILENCE_SECONDS: i64 = 30 * 60;
const MIN_USUAL: f64 = 20.0;
const WEEKS: i64 = 4;

const MAX_ID_BYTES: usize = 64;
const ID: usize = 1;
const FIRST: usize = 9;
const LAST: usize = 10;
/// Hours since 1970 up to which all is summed up.
const SUMMED: usize = 11;
/// Events in the hour that is not summed up yet.
const NOW_EVENTS: usize = 12;
/// Two hours of the week a word: usual events times [`SCALE`], and the longest gap in minutes.
const HOURS: usize = 13;
/// How many usual events were counted as missed during the silence that goes on.
const MISSED: usize = HOURS + WEEK_HOURS as usize / 2;
const SCALE: f64 = 8.0;

/// One number. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    pub(super) id: Box<str>,
    pub(super) row: u16,
    pub(super) last: i64,
    pub(super) quiet: Option<Quiet>,
}

/// A number that nothing comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Quiet {
    pub(super) since: i64,
    /// How many events are usual for so long.
    pub(super) usual: f64,
}

pub(super) struct Numbers {
    layout: Layout,
    /// By row and id.
    by_id: HashMap<u16, HashMap<Box<str>, usize>>,
    count: usize,
}

impl Numbers {
    /// Errors: one of them is damaged.
    pub(super) fn read(words: &Mapped, layout: Layout) -> Result<Self, &'static str> {
        let mut numbers = Self { layout, by_id: HashMap::new(), count: 0 };
        for slot in 0..MAX_NUMBERS {
            let Some((row, id)) = name(words, layout.number(slot))? else { break };
            numbers.by_id.entry(row).or_default().insert(id, slot);
            numbers.count = slot + 1;
        }
        Ok(numbers)
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Events of a number. When it was seen first; `None`: there is no room for it.
    pub(super) fn add(&mut self, words: &Mapped, row: u16, id: &str, events: u64, now: i64) -> Option<i64> {
        let slot = match self.by_id.get(&row).and_then(|ids| ids.get(id)) {
            Some(slot) => *slot,
            None => self.insert(words, row, id, now)?,
        };
        let place = self.layout.number(slot);
        self.sum_up(words, place, now);
        let last = signed(words.get(place + LAST));
        self.add_gap(words, place, last, now);
        words.add(place + NOW_EVENTS, events);
        words.set(place + MISSED, 0);
        words.set(place + LAST, now.max(last).unsigned_abs());
        Some(signed(words.get(place + FIRST)))
    }

    /// Ends hours that are over. `served`: hookgate did so throughout.
    pub(super) fn pass(&self, words: &Mapped, now: i64, served: bool) {
        for slot in 0..self.count {
            let place = self.layout.number(slot);
            match served {
                true => self.sum_up(words, place, now),
                // What did not come then says nothing.
                false => {
                    words.set(place + NOW_EVENTS, 0);
                    words.set(place + SUMMED, now.div_euclid(HOUR).unsigned_abs());
                }
            }
        }
    }

    /// By row: events that are usual and did not come since this was called last, of numbers that
    /// are quiet while others had some within `going_on` seconds.
    pub(super) fn missed(&self, words: &Mapped, now: i64, going_on: i64) -> Vec<(u16, f64)> {
        let places = || self.slots().map(|(row, _, slot)| (row, self.layout.number(slot)));
        if !places().any(|(_, place)| now - signed(words.get(place + LAST)) < going_on) {
            return Vec::new();
        }
        let missed = places().filter_map(|(row, place)| {
            let usual = quiet(words, place, now)?.usual;
            let before = words.get(place + MISSED) as f64 / SCALE;
            words.set(place + MISSED, (usual * SCALE) as u64);
            Some((row, (usual - before).max(0.0)))
        });
        missed.collect()
    }

    pub(super) fn all(&self, words: &Mapped, now: i64) -> impl Iterator<Item = Number> {
        self.slots().map(move |(row, id, slot)| {
            let place = self.layout.number(slot);
            let last = signed(words.get(place + LAST));
            Number { id: id.into(), row, last, quiet: quiet(words, place, now) }
        })
    }

    /// Row, id and slot of each.
    fn slots(&self) -> impl Iterator<Item = (u16, &str, usize)> {
        let ids = self.by_id.iter();
        ids.flat_map(|(row, ids)| ids.iter().map(move |(id, slot)| (*row, &**id, *slot)))
    }

    fn insert(&mut self, words: &Mapped, row: u16, id: &str, now: i64) -> Option<usize> {
        let slot = self.count;
        if slot >= MAX_NUMBERS || id.is_empty() || id.len() > MAX_ID_BYTES {
            return None;
        }
        let place = self.layout.number(slot);
        words.set_bytes(place + ID, id.as_bytes());
        for at in [FIRST, LAST] {
            words.set(place + at, now.unsigned_abs());
        }
        words.set(place + SUMMED, now.div_euclid(HOUR).unsigned_abs());
        words.set(place, 1 | (id.len() as u64) << 8 | u64::from(row) << 16);
        self.by_id.entry(row).or_default().insert(id.into(), slot);
        self.count += 1;
        Some(slot)
    }

    /// Puts the hours that are over into the means.
    fn sum_up(&self, words: &Mapped, place: usize, now: i64) {
        let (summed, hour) = (signed(words.get(place + SUMMED)), now.div_euclid(HOUR));
        let mut events = words.get(place + NOW_EVENTS) as f64;
        for over in summed.max(hour - WEEK_HOURS)..hour {
            let weeks = (over - signed(words.get(place + FIRST)) / HOUR) / WEEK_HOURS;
            let (usual, gap) = hour_of_week(words, place, over);
            let usual = usual + (events - usual) / (weeks.clamp(0, WEEKS - 1) + 1) as f64;
            set_hour_of_week(words, place, over, usual, gap - gap / WEEKS);
            events = 0.0;
        }
        if hour > summed {
            words.set(place + NOW_EVENTS, 0);
            words.set(place + SUMMED, hour.unsigned_abs());
        }
    }

    fn add_gap(&self, words: &Mapped, place: usize, last: i64, now: i64) {
        let minutes = (now - last) / 60;
        if minutes <= 0 {
            return;
        }
        for hour in hours(last, now) {
            let (usual, gap) = hour_of_week(words, place, hour);
            if minutes > gap {
                set_hour_of_week(words, place, hour, usual, minutes);
            }
        }
    }
}

fn quiet(words: &Mapped, place: usize, now: i64) -> Option<Quiet> {
    let [first, last] = [FIRST, LAST].map(|at| signed(words.get(place + at)));
    let silent = now - last;
    if now - first < KNOWN_SECONDS || silent < MIN_SILENCE_SECONDS {
        return None;
    }
    let (mut usual, mut longest) = (0.0, 0);
    for hour in hours(last, now) {
        let within = ((hour + 1) * HOUR).min(now) - (hour * HOUR).max(last);
        let (of_hour, gap) = hour_of_week(words, place, hour);
        usual += of_hour * within as f64 / HOUR as f64;
        longest = longest.max(gap);
    }
    let is_quiet = usual >= MIN_USUAL && silent > 2 * longest * 60;
    is_quiet.then_some(Quiet { since: last, usual })
}

/// The hours that a span touches, a week at most, since 1970.
fn hours(from: i64, to: i64) -> std::ops::RangeInclusive<i64> {
    let last = to.div_euclid(HOUR);
    from.div_euclid(HOUR).max(last - WEEK_HOURS + 1)..=last
}

fn hour_of_week(words: &Mapped, place: usize, hour: i64) -> (f64, i64) {
    let (at, shift) = cell(place, hour);
    let cell = words.get(at) >> shift;
    ((cell & 0xffff) as f64 / SCALE, signed(cell >> 16 & 0xffff))
}

fn set_hour_of_week(words: &Mapped, place: usize, hour: i64, usual: f64, gap: i64) {
    let (at, shift) = cell(place, hour);
    let usual = (usual * SCALE).round().clamp(0.0, f64::from(u16::MAX)) as u64;
    let gap = gap.clamp(0, i64::from(u16::MAX)).unsigned_abs();
    let rest = words.get(at) & !(0xffff_ffff << shift);
    words.set(at, rest | (usual | gap << 16) << shift);
}

fn cell(place: usize, hour: i64) -> (usize, u32) {
    let of_week = hour.rem_euclid(WEEK_HOURS) as usize;
    (place + HOURS + of_week / 2, of_week as u32 % 2 * 32)
}

const _: () = assert!(MISSED < super::layout::NUMBER_WORDS);

fn name(words: &Mapped, place: usize) -> Result<Option<(u16, Box<str>)>, &'static str> {
    const DAMAGED: &str = "what it holds of a number is damaged";
    let head = words.get(place);
    if head == 0 {
        return Ok(None);
    }
    let length = (head >> 8 & 0xff) as usize;
    if head & 0xff != 1 || length > MAX_ID_BYTES || head >> 32 != 0 {
        return Err(DAMAGED);
    }
    let id = String::from_utf8(words.bytes(place + ID, length)).map_err(|_| DAMAGED)?;
    Ok(Some(((head >> 16) as u16, id.into_boxed_str())))
}
