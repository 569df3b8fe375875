//! What the guard dropped, saw fail or could not parse, event by event, while it is read.
//!
//! One reader at a time: it renews a lease in the pinned maps, without which the programs log
//! nothing. Each cause has a budget in the programs; what goes beyond it is counted, as everything
//! is.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use aya::maps::{Map, MapData, MapError, RingBuf};
use hookgate_ebpf::abi;
use hookgate_ebpf::event::{self, EventHead, Failure, Reader};
pub use hookgate_ebpf::event::{Cause, SNAP_BYTES};
use hookgate_ebpf::packet::{self, Address, Packet, Unparsed};
use hookgate_ebpf::verdict::Reason;
use jiff::Timestamp;

use super::clock::Clock;
use super::error::Error;
use super::maps::Maps;
use super::pins::{self, Folder};
use crate::config::PinName;
use crate::prefixes::{Network, Table};
use crate::sys::bpf;

/// How often a reader has to renew its lease.
pub const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
const CLAIM_INTERVAL: Duration = Duration::from_millis(50);

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry<'a> {
    pub time: Timestamp,
    pub cause: Cause,
    /// `None`: it could not be seen.
    pub source: Option<IpAddr>,
    /// The destination port. `None`: it could not be seen.
    pub port: Option<u16>,
    /// The prefix of Meta's that holds the source.
    pub prefix: Option<Network>,
    /// `None` where no packet is at hand.
    pub frame: Option<LoggedFrame<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedFrame<'a> {
    /// Of the whole frame.
    pub bytes: u32,
    /// The first [`SNAP_BYTES`] of it at most.
    pub start: &'a [u8],
}

/// `dropped`, `failed` or `unparsed`.
pub fn event_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Dropped(_) => "dropped",
        Cause::Failed(_) => "failed",
        Cause::Unparsed(_) => "unparsed",
    }
}

/// As `dropped_by` and `failed_by` of `hookgate stats --json`. Each name belongs to one event.
pub fn reason_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Dropped(Reason::Strict) => "strict",
        Cause::Dropped(Reason::Limited) => "limited",
        Cause::Dropped(Reason::Garbage) => "garbage",
        Cause::Dropped(Reason::Fragment) => "fragment",
        Cause::Dropped(Reason::Extensions) => "extensions",
        Cause::Failed(Failure::Reset) => "reset",
        Cause::Failed(Failure::Refused) => "refused",
        Cause::Failed(Failure::Uncompleted) => "uncompleted",
        Cause::Failed(Failure::Unheard) => "unheard",
        Cause::Failed(Failure::Silent) => "silent",
        Cause::Failed(Failure::NoSynAck) => "unanswered",
        Cause::Failed(Failure::Unclassified) => "unclassified",
        Cause::Unparsed(Unparsed::Truncated) => "truncated",
        Cause::Unparsed(Unparsed::Malformed) => "malformed",
        Cause::Unparsed(Unparsed::Vlan) => "vlan",
        Cause::Unparsed(Unparsed::LaterFragment) => "later_fragment",
        Cause::Unparsed(Unparsed::ShortFragment) => "short_fragment",
        Cause::Unparsed(Unparsed::LongChain) => "long_chain",
    }
}

/// Reads the log from the moment at which it is opened.
pub struct LogReader {
    folder: Folder,
    maps: Maps,
    ring: RingBuf<MapData>,
    /// The ring's, as the kernel numbers maps.
    ring_id: u32,
    lease: Reader,
    prefixes: PrefixTable,
    causes: Vec<CauseCounts>,
}

/// The prefixes in force, and the generations of the settings that they belong to.
struct PrefixTable {
    generations: (u32, u32),
    table: Table,
}

/// The first part of a frame.
struct Start<'f>(&'f [u8]);

impl Packet for Start<'_> {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn reaches(&self, _: usize) -> bool {
        false
    }
}

struct CauseCounts {
    cause: Cause,
    /// How many events had been counted when the log was opened.
    counted_before: u64,
    logged: u64,
}

impl LogReader {
    /// Errors: no permission, no guard of this version's layout, or another reader, which may be
    /// waited for a moment.
    pub fn open(pin: &PinName) -> Result<Self, Error> {
        let folder = Folder::named(pin);
        let maps = Maps::writable(&folder)?;
        let ring = open_ring(&folder)?;
        let ring_id = id(&ring)?;
        let ring = Map::from_map_data(ring).and_then(RingBuf::try_from).map_err(Error::map(event::LOG))?;
        let prefixes = PrefixTable::read(&maps)?;
        let process = std::process::id();
        let session = (Clock::read().monotonic_nanos() as u32 ^ process) | 1;
        let lease = Reader::new(process, session);
        let mut reader = Self { folder, maps, ring, ring_id, lease, prefixes, causes: Vec::new() };
        reader.claim()?;
        Ok(reader)
    }

    /// Waits until a reader that does not renew its lease has lost it.
    #[expect(clippy::disallowed_methods, reason = "this command has nothing else to do meanwhile")]
    fn claim(&mut self) -> Result<(), Error> {
        let former = self.reader()?;
        loop {
            {
                let _lock = pins::lock()?;
                let reader = self.reader()?;
                let is_over = reader.until <= Clock::read().monotonic_nanos();
                if !is_over && reader != former {
                    return Err(Error::LogRead { process: reader.process() });
                }
                if is_over {
                    // Before the first event can be logged: each of these is counted later.
                    self.causes = self.count_all()?;
                    return self.renew_lease();
                }
            }
            thread::sleep(CLAIM_INTERVAL);
        }
    }

    /// To be called each [`RENEWAL_INTERVAL`].
    ///
    /// Errors: another reader has it, after this one had not renewed it in time; or the guard is
    /// gone.
    pub fn renew(&mut self) -> Result<(), Error> {
        let reader = self.reader()?;
        if reader.session() != self.lease.session() {
            return Err(Error::LogRead { process: reader.process() });
        }
        self.renew_lease()?;
        match open_ring(&self.folder).and_then(|ring| id(&ring)) {
            Ok(id) if id == self.ring_id => {}
            _ => return Err(Error::LogGone),
        }
        self.prefixes.refresh(&self.maps)
    }

    fn renew_lease(&mut self) -> Result<(), Error> {
        self.lease.until = Clock::read().monotonic_nanos() + event::READER_LEASE;
        self.set_reader(self.lease)
    }

    /// From now on nothing more is logged.
    pub fn stop(&mut self) -> Result<(), Error> {
        if self.reader()?.session() == self.lease.session() {
            self.set_reader(Reader::default())
        } else {
            Ok(())
        }
    }

    /// Hands over what was logged since the last call.
    pub fn read(&mut self, mut entry: impl FnMut(&LogEntry<'_>)) {
        let clock = Clock::read();
        while let Some(record) = self.ring.next() {
            // A former reader's may be left.
            let Some((head, start)) = EventHead::parse(&record) else { continue };
            if head.session != self.lease.session() {
                continue;
            }
            let known = self.causes.iter_mut().find(|counts| counts.cause.number() == head.cause);
            let Some(counts) = known else { continue };
            counts.logged += 1;
            let source = match head.source {
                // The programs leave it to us where they could not follow the frame.
                [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] => packet::source(&Start(start)),
                mapped => Some(Address::V6(mapped)),
            };
            let source = source.map(|source| IpAddr::from(source.mapped()).to_canonical());
            entry(&LogEntry {
                time: clock.wall_time(head.time).unwrap_or(clock.wall),
                cause: counts.cause,
                source,
                port: (head.port != 0).then_some(head.port),
                prefix: source.and_then(|source| self.prefixes.table.longest_match(source)),
                frame: (head.bytes != 0).then_some(LoggedFrame { bytes: head.bytes, start }),
            });
        }
    }

    /// How many events were counted and not handed over, for each cause that occurred.
    pub fn suppressed(&self) -> Result<Vec<(Cause, u64)>, Error> {
        let mut suppressed = Vec::new();
        for CauseCounts { cause, counted_before, logged } in &self.causes {
            let counted = self.counted(*cause)?.saturating_sub(*counted_before);
            if counted > 0 {
                suppressed.push((*cause, counted.saturating_sub(*logged)));
            }
        }
        Ok(suppressed)
    }

    fn count_all(&self) -> Result<Vec<CauseCounts>, Error> {
        let counts = |cause| Ok(CauseCounts { cause, counted_before: self.counted(cause)?, logged: 0 });
        Cause::all().map(counts).collect()
    }

    /// How many events of a cause there were since the guard was attached.
    fn counted(&self, cause: Cause) -> Result<u64, Error> {
        if let Cause::Dropped(reason) = cause {
            let drops = self.maps.per_cpu_array::<u64>(abi::DROPS)?;
            return Ok(drops.get(&(reason as u32), 0).map_err(Error::map(abi::DROPS))?.iter().sum());
        }
        let events = self.maps.per_cpu_array::<[u64; 2]>(event::EVENTS)?;
        let per_cpu = events.get(&cause.number(), 0).map_err(Error::map(event::EVENTS))?;
        Ok(per_cpu.iter().map(|[counted, _]| counted).sum())
    }

    fn reader(&self) -> Result<Reader, Error> {
        self.maps.element::<[u64; 2]>(event::LOG_READER, 0).map(Reader::from)
    }

    fn set_reader(&mut self, reader: Reader) -> Result<(), Error> {
        let set = self.maps.array_mut::<[u64; 2]>(event::LOG_READER)?.set(0, reader.words(), 0);
        set.map_err(Error::map(event::LOG_READER))
    }
}

/// Whatever ends the reader: the next one need not wait.
impl Drop for LogReader {
    fn drop(&mut self) {
        self.stop().ok();
    }
}

impl PrefixTable {
    fn read(maps: &Maps) -> Result<Self, Error> {
        let generations = generations(maps)?;
        let table = maps.numbered()?.into_iter().map(|(network, _)| network).collect();
        Ok(Self { generations, table })
    }

    fn refresh(&mut self, maps: &Maps) -> Result<(), Error> {
        if self.generations != generations(maps)? {
            *self = Self::read(maps)?;
        }
        Ok(())
    }
}

fn generations(maps: &Maps) -> Result<(u32, u32), Error> {
    let settings = maps.settings()?;
    Ok((settings.generation_v4, settings.generation_v6))
}

fn open_ring(folder: &Folder) -> Result<MapData, Error> {
    let ring = bpf::open_map(&folder.map(event::LOG)).map_err(MapError::IoError);
    ring.and_then(MapData::from_fd).map_err(Error::map(event::LOG))
}

fn id(map: &MapData) -> Result<u32, Error> {
    Ok(map.info().map_err(Error::map(event::LOG))?.id())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_reason_belongs_to_one_event() {
        let names: Vec<_> = Cause::all().map(reason_name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    }
}
