//! The history's file: a slot a minute and a slot an hour, in rings. Its length never changes, so
//! that a full disk costs nothing later; what a slot says of its length is checked against its
//! room. The worker writes it: who reads it believes nothing.

use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt as _;

use serde::de::DeserializeOwned;

use super::minute::{HOUR, MINUTE};
use super::period::Period;
use super::query::Query;
use super::sample::Baseline;

/// Its name in `[insight] state`.
pub const FILE: &str = "history";

const MAGIC: [u8; 16] = *b"hookgate history";
const VERSION: u32 = 1;

/// A place for one period, or for the baseline.
#[derive(Clone, Copy)]
struct Ring {
    offset: u64,
    slots: u64,
    slot_bytes: u64,
    /// Of a period, in seconds.
    seconds: i64,
}

/// 48 hours.
const MINUTES: Ring = Ring { offset: 4096, slots: 48 * 60, slot_bytes: 3072, seconds: MINUTE };
/// 60 days.
const HOURS: Ring = Ring { offset: MINUTES.end(), slots: 60 * 24, slot_bytes: 3584, seconds: HOUR };
const BASELINE: Ring = Ring { offset: HOURS.end(), slots: 1, slot_bytes: 512 << 10, seconds: i64::MAX };
pub const HISTORY_BYTES: u64 = BASELINE.end();
const _: () = assert!(HISTORY_BYTES <= 16 << 20);

/// Period, length, nothing, and checksum, little-endian.
const SLOT_HEAD: usize = 24;

impl Ring {
    const fn end(self) -> u64 {
        self.offset + self.slots * self.slot_bytes
    }

    fn place(self, start: i64) -> u64 {
        let number = start.div_euclid(self.seconds).unsigned_abs() % self.slots;
        self.offset + number * self.slot_bytes
    }

    fn room(self) -> usize {
        usize::try_from(self.slot_bytes).unwrap_or(0).saturating_sub(SLOT_HEAD)
    }
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("it has {0} bytes, and not {HISTORY_BYTES}")]
    Length(u64),
    #[error("it is not a history of this version")]
    Version,
    #[error("what it holds of {0} is damaged")]
    Slot(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub struct History {
    file: File,
}

impl History {
    /// A file that is whole, or new: of the right length and empty.
    pub fn open(file: File) -> Result<Self, Damage> {
        let length = file.metadata()?.len();
        if length != HISTORY_BYTES {
            return Err(Damage::Length(length));
        }
        let mut head = [0; MAGIC.len() + size_of::<u32>()];
        file.read_exact_at(&mut head, 0)?;
        let mut expected = MAGIC.to_vec();
        expected.extend(VERSION.to_le_bytes());
        if head.iter().all(|byte| *byte == 0) {
            file.write_all_at(&expected, 0)?;
            return Ok(Self { file });
        }
        if head[..] != expected[..] {
            return Err(Damage::Version);
        }
        let history = Self { file };
        history.ensure_whole(MINUTES, "minutes")?;
        history.ensure_whole(HOURS, "hours")?;
        history.ensure_whole(BASELINE, "the last counts")?;
        Ok(history)
    }

    /// To read alone: as [`History::open`], but slots that are damaged are left out.
    pub fn open_to_read(file: File) -> Result<Self, Damage> {
        let length = file.metadata()?.len();
        if length != HISTORY_BYTES {
            return Err(Damage::Length(length));
        }
        let mut head = [0; MAGIC.len() + size_of::<u32>()];
        file.read_exact_at(&mut head, 0)?;
        let version = &head[MAGIC.len()..];
        if head[..MAGIC.len()] != MAGIC || version != VERSION.to_le_bytes() {
            return Err(Damage::Version);
        }
        Ok(Self { file })
    }

    fn ensure_whole(&self, ring: Ring, what: &'static str) -> Result<(), Damage> {
        let mut slot = vec![0; ring.room() + SLOT_HEAD];
        for number in 0..ring.slots {
            self.file.read_exact_at(&mut slot, ring.offset + number * ring.slot_bytes)?;
            if content(&slot).is_err() {
                return Err(Damage::Slot(what));
            }
        }
        Ok(())
    }

    /// Adds to a minute, and to its hour. Nothing to those that have given way to a later one.
    pub fn add(&self, minute: i64, more: &Period) -> io::Result<()> {
        for ring in [MINUTES, HOURS] {
            let start = minute.div_euclid(ring.seconds) * ring.seconds;
            let mut period = match parse::<Period>(&self.slot(ring, start)?) {
                Some(period) if period.start > start => continue,
                Some(period) if period.start == start => period,
                _ => Period::starting(start),
            };
            period.add(more);
            let text = period.encode(ring.room()).ok_or_else(|| io::Error::other("a period has no room"))?;
            self.write(ring, start, &text)?;
        }
        Ok(())
    }

    /// Those minutes of a range that there are figures of. Of what is damaged there are none.
    pub fn minutes(&self, range: RangeInclusive<i64>) -> io::Result<Vec<Period>> {
        self.periods(MINUTES, range)
    }

    pub fn hours(&self, range: RangeInclusive<i64>) -> io::Result<Vec<Period>> {
        self.periods(HOURS, range)
    }

    fn periods(&self, ring: Ring, range: RangeInclusive<i64>) -> io::Result<Vec<Period>> {
        let first = range.start().div_euclid(ring.seconds);
        let last = range.end().div_euclid(ring.seconds);
        let most = i64::try_from(ring.slots).unwrap_or(i64::MAX);
        let first = first.max(last.saturating_sub(most - 1));
        let periods = (first..=last).map(|number| self.read(ring, number * ring.seconds));
        periods.filter_map(Result::transpose).collect()
    }

    /// All periods up to now, oldest first, as far as a query needs them: minutes for as long as
    /// there are any, hours before.
    pub fn before(&self, query: &Query, now: i64) -> io::Result<Vec<Period>> {
        self.with_hours(self.minutes(0..=now)?, query, now)
    }

    /// The same without what came before the query's window.
    pub fn within(&self, query: &Query, now: i64) -> io::Result<Vec<Period>> {
        self.with_hours(self.minutes(query.from(now)..=now)?, query, now)
    }

    /// Puts hours before the minutes that there are.
    fn with_hours(&self, minutes: Vec<Period>, query: &Query, now: i64) -> io::Result<Vec<Period>> {
        let from = query.from(now);
        let first = minutes.first().map_or(now, |minute| minute.start.div_euclid(HOUR) * HOUR);
        if from >= first {
            return Ok(minutes);
        }
        let mut periods = self.hours(from..=first - 1)?;
        // An hour that begins before the window is not all of it.
        periods.retain(|hour| hour.start >= from);
        periods.extend(minutes);
        Ok(periods)
    }

    /// What was counted when the last sample was taken.
    pub fn baseline(&self) -> io::Result<Baseline> {
        let slot = self.slot(BASELINE, 0)?;
        Ok(parse::<Baseline>(&slot).unwrap_or_default())
    }

    /// Errors: also more prefixes than there is room for.
    pub fn set_baseline(&self, baseline: &Baseline) -> io::Result<()> {
        let text = serde_json::to_vec(baseline)?;
        if text.len() > BASELINE.room() {
            return Err(io::Error::other("the counts have no room"));
        }
        self.write(BASELINE, 1, &text)
    }

    fn read(&self, ring: Ring, start: i64) -> io::Result<Option<Period>> {
        let slot = self.slot(ring, start)?;
        Ok(parse::<Period>(&slot).filter(|period| period.start == start))
    }

    fn slot(&self, ring: Ring, start: i64) -> io::Result<Vec<u8>> {
        let mut slot = vec![0; ring.room() + SLOT_HEAD];
        self.file.read_exact_at(&mut slot, ring.place(start))?;
        Ok(slot)
    }

    fn write(&self, ring: Ring, start: i64, text: &[u8]) -> io::Result<()> {
        let length = u64::try_from(text.len()).map_err(io::Error::other)?;
        let mut slot = Vec::with_capacity(SLOT_HEAD + text.len());
        for number in [start.unsigned_abs(), length, checksum(text)] {
            slot.extend(number.to_le_bytes());
        }
        slot.extend(text);
        self.file.write_all_at(&slot, if ring.slots == 1 { ring.offset } else { ring.place(start) })
    }
}

struct BadSlot;

/// What a slot holds; `None`: it was never written.
fn content(slot: &[u8]) -> Result<Option<&[u8]>, BadSlot> {
    let (head, rest) = slot.split_at_checked(SLOT_HEAD).ok_or(BadSlot)?;
    let number = |at: usize| {
        let bytes = head.get(at * 8..at * 8 + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_le_bytes).ok_or(BadSlot)
    };
    let (start, length, sum) = (number(0)?, number(1)?, number(2)?);
    if (start, length, sum) == (0, 0, 0) {
        return Ok(None);
    }
    let text = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(BadSlot)?;
    if checksum(text) == sum { Ok(Some(text)) } else { Err(BadSlot) }
}

fn parse<T: DeserializeOwned>(slot: &[u8]) -> Option<T> {
    serde_json::from_slice(content(slot).ok()??).ok()
}

/// FNV-1a, 64 bits: against what a crash leaves half written, not against an attacker.
fn checksum(text: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    text.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::path::PathBuf;

    use super::*;
    use crate::insight::Field;

    struct TestFile(PathBuf);

    impl TestFile {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hookgate-history-{name}-{}", std::process::id()));
            let file = File::create(&path).unwrap();
            file.set_len(HISTORY_BYTES).unwrap();
            Self(path)
        }

        fn open(&self) -> Result<History, Damage> {
            History::open(self.file())
        }

        fn file(&self) -> File {
            OpenOptions::new().read(true).write(true).open(&self.0).unwrap()
        }
    }

    impl Drop for TestFile {
        fn drop(&mut self) {
            std::fs::remove_file(&self.0).ok();
        }
    }

    fn with_syns(count: u64) -> Period {
        let mut period = Period::default();
        period.meta.row[Field::Syns] = count;
        period
    }

    #[test]
    fn minutes_add_up_and_outlive_the_process() {
        let file = TestFile::new("minutes");
        let start = 1_800_000_000 / HOUR * HOUR;
        let history = file.open().unwrap();
        history.add(start, &with_syns(2)).unwrap();
        history.add(start, &with_syns(3)).unwrap();
        history.add(start + MINUTE, &with_syns(4)).unwrap();
        drop(history);
        let history = file.open().unwrap();
        let minutes = history.minutes(start - HOUR..=start + HOUR).unwrap();
        let syns: Vec<_> =
            minutes.iter().map(|period| (period.start - start, period.meta.row[Field::Syns])).collect();
        assert_eq!(syns, [(0, 5), (60, 4)]);
        let hours = history.hours(start..=start).unwrap();
        assert_eq!(hours[0].meta.row[Field::Syns], 9);
    }

    #[test]
    fn the_oldest_minute_gives_way() {
        let file = TestFile::new("ring");
        let history = file.open().unwrap();
        let start = 1_800_000_000 / MINUTE * MINUTE;
        let later = start + 48 * HOUR;
        history.add(start, &with_syns(1)).unwrap();
        history.add(later, &with_syns(2)).unwrap();
        let minutes = history.minutes(0..=later).unwrap();
        assert_eq!(minutes.len(), 1);
        assert_eq!(minutes[0].start, later);
        assert_eq!(history.hours(0..=later).unwrap().len(), 2);
        history.add(start, &with_syns(3)).unwrap();
        assert_eq!(history.minutes(0..=later).unwrap(), minutes, "it does not come back");
        assert_eq!(history.hours(0..=start).unwrap()[0].meta.row[Field::Syns], 4);
    }

    #[test]
    fn damage_is_noticed_and_no_length_is_believed() {
        let file = TestFile::new("damage");
        let start = 1_800_000_000 / MINUTE * MINUTE;
        let history = file.open().unwrap();
        history.add(start, &with_syns(1)).unwrap();
        let place = MINUTES.place(start);
        file.file().write_all_at(&u64::MAX.to_le_bytes(), place + 8).unwrap();
        assert!(history.minutes(start..=start).unwrap().is_empty());
        assert!(matches!(file.open(), Err(Damage::Slot("minutes"))));

        let file = TestFile::new("version");
        file.open().unwrap();
        file.file().write_all_at(&7u32.to_le_bytes(), 16).unwrap();
        assert!(matches!(file.open(), Err(Damage::Version)));
        file.file().set_len(77).unwrap();
        assert!(matches!(file.open(), Err(Damage::Length(77))));
    }
}
