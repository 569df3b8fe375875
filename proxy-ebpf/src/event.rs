//! What the guard tells a reader of its log: packets that it dropped or could not parse, attempts
//! that failed.

use crate::limit::Limit;
use crate::packet::Unparsed;
use crate::verdict::Reason;

/// [`Cause::number`] → [`Events`], one a CPU.
pub const EVENTS: &str = "EVENTS";
/// One [`Reader`].
pub const LOG_READER: &str = "LOG_READER";
/// A ring buffer of [`Event`]s.
pub const LOG: &str = "LOG";

/// How many causes there is room for.
pub const CAUSES: u32 = 24;
pub const LOG_BYTES: u32 = 1 << 18;
/// How much of a frame is logged.
pub const SNAP_BYTES: usize = 128;

/// For how long a reader is believed to be there, in nanoseconds: it may die at any time.
pub const READER_LEASE: u64 = 3_000_000_000;

const SECOND: u64 = 1_000_000_000;
const BURST: u64 = 200;
const INTERVAL: u64 = SECOND / 100;
/// How many events one CPU logs of one cause.
pub const EVENT_LIMIT: Limit = Limit { interval: INTERVAL, tolerance: INTERVAL * (BURST - 1) };

/// What happened, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A packet was dropped.
    Dropped(Reason),
    /// An attempt to connect failed.
    Failed(Failure),
    /// A packet passed that could not be parsed as far as its TCP header.
    Unparsed(Unparsed),
}

/// As [`crate::abi::FailedBy`] counts them.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Reset = 0,
    Refused = 1,
    Uncompleted = 2,
    Unheard = 3,
    Silent = 4,
    NoSynAck = 5,
    Unclassified = 6,
}

impl Failure {
    pub const ALL: [Self; 7] = [
        Self::Reset,
        Self::Refused,
        Self::Uncompleted,
        Self::Unheard,
        Self::Silent,
        Self::NoSynAck,
        Self::Unclassified,
    ];
}

impl Cause {
    const FAILED: u32 = 8;
    const UNPARSED: u32 = 16;

    /// An index, less than [`CAUSES`].
    #[inline(always)]
    pub const fn number(self) -> u32 {
        match self {
            Self::Dropped(reason) => reason as u32,
            Self::Failed(failure) => Self::FAILED + failure as u32,
            Self::Unparsed(unparsed) => Self::UNPARSED + unparsed as u32,
        }
    }

    pub fn all() -> impl Iterator<Item = Self> {
        let dropped = Reason::ALL.into_iter().map(Self::Dropped);
        let failed = Failure::ALL.into_iter().map(Self::Failed);
        dropped.chain(failed).chain(Unparsed::ALL.into_iter().map(Self::Unparsed))
    }
}

/// Who reads the log; in its map as [`Reader::words`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// Until when it is there, in nanoseconds of CLOCK_MONOTONIC.
    pub until: u64,
    /// Its process, and in the lower half what tells its events from those of another reader: not
    /// 0.
    pub identity: u64,
}
const _: () = assert!(size_of::<Reader>() == 16);

impl Reader {
    pub fn new(process: u32, session: u32) -> Self {
        Self { until: 0, identity: u64::from(process) << 32 | u64::from(session) }
    }

    #[inline(always)]
    pub fn session(&self) -> u32 {
        self.identity as u32
    }

    pub fn process(&self) -> u32 {
        (self.identity >> 32) as u32
    }

    pub fn words(self) -> [u64; 2] {
        [self.until, self.identity]
    }
}

impl From<[u64; 2]> for Reader {
    fn from([until, identity]: [u64; 2]) -> Self {
        Self { until, identity }
    }
}

/// The events of one cause on one CPU; two words for user space.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// All of them, logged or not; of what is dropped [`crate::abi::DROPS`] counts.
    pub counted: u64,
    /// The bucket of [`EVENT_LIMIT`].
    pub full_at: u64,
}
const _: () = assert!(size_of::<Events>() == 16);

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub head: EventHead,
    /// The frame's first [`EventHead::captured`] bytes; what follows them has no meaning.
    pub frame: [u8; SNAP_BYTES],
}
const _: () = assert!(size_of::<Event>() == 168);

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventHead {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// [`Reader::session`].
    pub session: u32,
    /// [`Cause::number`].
    pub cause: u32,
    /// As [`crate::packet::Address::mapped`]; zeros: it is not known.
    pub source: [u8; 16],
    /// The destination port; 0: it is not known.
    pub port: u16,
    pub captured: u16,
    /// The frame's own length; 0: there is none.
    pub bytes: u32,
}
const _: () = assert!(size_of::<EventHead>() == 40);

impl EventHead {
    /// The head of a record, and as much of the frame as was logged. `None`: it is none of this
    /// version's.
    pub fn parse(record: &[u8]) -> Option<(Self, &[u8])> {
        let (time, rest) = record.split_first_chunk()?;
        let (session, rest) = rest.split_first_chunk()?;
        let (cause, rest) = rest.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (port, rest) = rest.split_first_chunk()?;
        let (captured, rest) = rest.split_first_chunk()?;
        let (bytes, rest) = rest.split_first_chunk()?;
        let head = Self {
            time: u64::from_ne_bytes(*time),
            session: u32::from_ne_bytes(*session),
            cause: u32::from_ne_bytes(*cause),
            source: *source,
            port: u16::from_ne_bytes(*port),
            captured: u16::from_ne_bytes(*captured),
            bytes: u32::from_ne_bytes(*bytes),
        };
        Some((head, rest.get(..usize::from(head.captured))?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn each_cause_has_a_number_of_its_own() {
        let numbers: Vec<u32> = Cause::all().map(Cause::number).collect();
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
        assert!(numbers.iter().all(|number| *number < CAUSES), "{numbers:?}");
    }

    #[test]
    fn a_record_is_parsed_as_it_is_laid_out() {
        let head = [&7u64.to_ne_bytes()[..], &8u32.to_ne_bytes(), &9u32.to_ne_bytes(), &[10; 16]].concat();
        let rest = [&11u16.to_ne_bytes()[..], &2u16.to_ne_bytes(), &13u32.to_ne_bytes(), &[14; 4]].concat();
        let record = [head, rest].concat();
        let expected =
            EventHead { time: 7, session: 8, cause: 9, source: [10; 16], port: 11, captured: 2, bytes: 13 };
        assert_eq!(EventHead::parse(&record), Some((expected, &[14; 2][..])));
        assert_eq!(EventHead::parse(&record[..41]), None, "it says more than there is");
    }
}
