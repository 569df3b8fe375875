//! The counts in the pinned maps.

use std::collections::BTreeMap;
use std::time::Duration;

use hookgate_ebpf::abi::{self, Counters, Requests};
use hookgate_ebpf::transport::Transport;
use hookgate_ebpf::verdict::Reason;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::delays::Delays;
use super::error::Error;
use super::kernel_drops::{self, KernelDrops};
use super::maps::{Maps, leave_elsewhere};
use super::pins::Folder;
use super::{answers, attachment, handshakes};
use crate::observe::FunnelCounts;
use crate::prefixes::Network;

const SWEEPS_STALLED: Duration = Duration::from_nanos(abi::SWEEPS_STALLED);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub packets: u64,
    /// Whole frames.
    pub bytes: u64,
    /// SYNs without ACK, retransmitted ones included.
    pub syns: u64,
    /// SYNs of a handshake under way. `None`: none can be followed.
    pub syns_retransmitted: Option<u64>,
    /// Completed, as the kernel's TCP sees it. `None`: not counted.
    pub handshakes: Option<u64>,
    /// Reset before that, or not completed 10 s after the last SYN. `None`: not counted.
    pub handshakes_failed: Option<u64>,
    /// The same, by the first reason that applies. `None`: what leaves was not seen for each.
    pub failed_by: Option<FailedBy>,
    /// Of these, those that prove nothing. `None` with `failed_by`.
    pub unproven: Option<Unproven>,
    /// Of these, those that are probably forged. `None` with `failed_by`.
    pub suspect: Option<Suspect>,
    /// Those of `handshakes` whose SYN came more than once. `None` with `failed_by`.
    pub late_by: Option<LateBy>,
    /// From the SYN-ACK to the ACK. `None`: as `failed_by`, or not counted in such a row.
    pub round_trip: Option<Delays>,
    /// From the first SYN to the completed handshake. `None`: not counted.
    pub established: Option<Delays>,
    /// What this machine's TCP sent again. `None`: not counted.
    pub segments_retransmitted: Option<u64>,
    /// Its retransmission timeouts. `None`: not counted.
    pub timeouts: Option<u64>,
    /// SYNs with an unknown outcome: more handshakes were under way than can be followed.
    pub untracked: u64,
    pub fins: u64,
    pub rsts: u64,
    pub dropped: u64,
    /// Exact to some milliseconds.
    pub last_seen: Option<Timestamp>,
    /// User space's part.
    pub funnel: FunnelCounts,
}

/// Failed handshakes, by the first reason that applies: [`abi::FailedBy`] where all are classified.
/// As in `hookgate stats --json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedBy {
    /// By the peer.
    pub reset: u64,
    /// A RST was this machine's answer.
    pub refused: u64,
    /// The peer's last segment of the handshake came, and the kernel did not take it.
    pub uncompleted: u64,
    /// The SYN came again after the SYN-ACK had left.
    pub unheard: u64,
    /// Nothing came after the SYN-ACK.
    pub silent: u64,
    /// No SYN-ACK left.
    pub unanswered: u64,
}

/// Failed handshakes of one SYN each, from a /24 or /48 without a completed one in the last 48 h:
/// their addresses may be forged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    pub silent: u64,
    pub unanswered: u64,
}

/// Failed handshakes of one SYN each, from a /24 or /48 with a completed one in the last 48 h; the
/// SYN looks unlike those that completed one, so their addresses are probably forged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    pub silent: u64,
    pub unanswered: u64,
}

/// Completed handshakes whose SYN came again, by the fate of the first SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateBy {
    pub unanswered: u64,
    pub unheard: u64,
}

impl FailedBy {
    pub fn plus(self, more: Self) -> Self {
        Self {
            reset: self.reset + more.reset,
            refused: self.refused + more.refused,
            uncompleted: self.uncompleted + more.uncompleted,
            unheard: self.unheard + more.unheard,
            silent: self.silent + more.silent,
            unanswered: self.unanswered + more.unanswered,
        }
    }
}

/// Packets dropped, by reason. As in `hookgate stats --json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedBy {
    pub strict: u64,
    pub limited: u64,
    pub garbage: u64,
    pub fragment: u64,
    pub extensions: u64,
}

/// The pinned maps, with what it takes to make sense of them.
pub struct Reader {
    pub maps: Maps,
    pub clock: Clock,
    /// Why handshakes are not counted, where they are not.
    pub uncounted: Option<Error>,
    /// Why failed ones are not classified, where they are counted and are not.
    pub unseen: Option<Error>,
    /// Whether attempts end, without which none begins.
    is_swept: bool,
}

impl Reader {
    pub fn open(folder: &Folder) -> Result<Self, Error> {
        let (maps, clock) = (Maps::read_only(folder)?, Clock::read());
        let is_swept = clock.age(maps.last_sweep()?).is_some_and(|age| age < SWEEPS_STALLED);
        let uncounted = match handshakes::why_uncounted(folder)? {
            None if !is_swept => Some(Error::NotSwept),
            why => why,
        };
        let mut reader = Self { maps, clock, uncounted, unseen: None, is_swept };
        if reader.uncounted.is_none() {
            reader.unseen = reader.why_unseen(folder)?;
        }
        Ok(reader)
    }

    fn why_unseen(&self, folder: &Folder) -> Result<Option<Error>, Error> {
        if self.maps.settings()?.sees_answers == 0 {
            return Ok(Some(Error::HandshakesRefused));
        }
        let home = answers::Home::new(folder.path());
        let guarded = attachment::pinned(folder)?.into_iter().filter_map(|pinned| pinned.index());
        if !guarded.into_iter().all(|interface| home.is_on(interface)) {
            return Ok(Some(Error::AnswersGone));
        }
        self.maps.why_unclassified()
    }

    /// `None` where some are not classified, or wrongly.
    fn failed_by(&self, counters: &Counters) -> Option<FailedBy> {
        let abi::FailedBy { reset, refused, uncompleted, unheard, silent, unanswered, unclassified } =
            counters.failed_by;
        let failed_by = FailedBy { reset, refused, uncompleted, unheard, silent, unanswered };
        (unclassified == 0 && self.sees_answers(counters)).then_some(failed_by)
    }

    /// Whether what leaves is seen: always from now on, and of this row's handshakes so far.
    fn sees_answers(&self, counters: &Counters) -> bool {
        let is_told = match self.unseen {
            None | Some(Error::AnswersUnseenBefore { .. }) => self.uncounted.is_none(),
            Some(_) => false,
        };
        is_told && !leave_elsewhere(counters)
    }

    pub fn by_prefix(&self) -> Result<Vec<(Network, Counts)>, Error> {
        let rows = (abi::FIRST_PREFIX..).zip(self.maps.rows()?).filter(|(_, row)| row.in_force);
        let counts = rows.map(|(index, row)| Ok((row.network, self.at(index)?)));
        let mut counts = counts.collect::<Result<Vec<_>, Error>>()?;
        counts.sort_by_key(|(network, _)| *network);
        Ok(counts)
    }

    /// What the kernel dropped of each prefix in force.
    pub fn kernel_drops(&self) -> Result<BTreeMap<Network, KernelDrops>, Error> {
        let mut by_index = kernel_drops::read(&self.maps)?;
        let rows = self.maps.numbered()?.into_iter();
        Ok(rows.filter_map(|(network, index)| Some((network, by_index.remove(&index)?))).collect())
    }

    /// The allowed networks count under `other`, too.
    pub fn other(&self) -> Result<Counts, Error> {
        let mut counters = self.maps.counters(abi::OTHER)?;
        counters.add(&self.maps.counters(abi::ALLOWED)?);
        let (mut funnel, allowed) = (self.funnel(abi::OTHER)?, self.funnel(abi::ALLOWED)?);
        funnel.iter_mut().zip(allowed).for_each(|(sum, more)| *sum += more);
        let transports = [self.transport(abi::OTHER)?, self.transport(abi::ALLOWED)?];
        Ok(Counts { funnel, ..self.with_transport(&counters, &transports) })
    }

    pub fn dropped_by(&self) -> Result<DroppedBy, Error> {
        let drops = self.maps.per_cpu_array::<u64>(abi::DROPS)?;
        let of = |reason: Reason| {
            let per_cpu = drops.get(&(reason as u32), 0).map_err(Error::map(abi::DROPS))?;
            Ok::<u64, Error>(per_cpu.iter().sum())
        };
        Ok(DroppedBy {
            strict: of(Reason::Strict)?,
            limited: of(Reason::Limited)?,
            garbage: of(Reason::Garbage)?,
            fragment: of(Reason::Fragment)?,
            extensions: of(Reason::Extensions)?,
        })
    }

    /// What was counted at an index.
    pub fn at(&self, index: u32) -> Result<Counts, Error> {
        let counters = self.maps.counters(index)?;
        let transport = self.transport(index)?;
        Ok(Counts { funnel: self.funnel(index)?, ..self.with_transport(&counters, &[transport]) })
    }

    fn transport(&self, index: u32) -> Result<Transport, Error> {
        self.maps.element(abi::TRANSPORT, index)
    }

    fn with_transport(&self, counters: &Counters, transports: &[Transport]) -> Counts {
        let is_told = self.uncounted.is_none();
        let sum = |of: fn(&Transport) -> u64| is_told.then(|| transports.iter().map(of).sum());
        let delays = |of: fn(&Transport) -> Delays| transports.iter().map(of).sum();
        Counts {
            round_trip: self.sees_answers(counters).then(|| delays(|of| of.round_trip.into())),
            established: is_told.then(|| delays(|of| of.established.into())),
            segments_retransmitted: sum(|of| of.segments_retransmitted),
            timeouts: sum(|of| of.timeouts),
            ..self.counts(counters)
        }
    }

    /// What XDP and the sweep counted, all CPUs together.
    pub fn counts(&self, counters: &Counters) -> Counts {
        let told = |count| self.uncounted.is_none().then_some(count);
        let failed_by = self.failed_by(counters);
        Counts {
            packets: counters.packets,
            bytes: counters.bytes,
            syns: counters.syns,
            syns_retransmitted: self.is_swept.then_some(counters.syns_retransmitted),
            handshakes: told(counters.handshakes),
            handshakes_failed: told(counters.failed_by.sum()),
            failed_by,
            unproven: failed_by.map(|_| {
                let abi::Unproven { silent, unanswered } = counters.unproven;
                Unproven { silent, unanswered }
            }),
            suspect: failed_by.map(|_| {
                let abi::Suspect { silent, unanswered } = counters.suspect;
                Suspect { silent, unanswered }
            }),
            late_by: failed_by.map(|_| {
                let abi::LateBy { unanswered, unheard } = counters.late_by;
                LateBy { unanswered, unheard }
            }),
            // Taken back on one CPU before it is counted on another, for a moment.
            untracked: u64::try_from(counters.untracked.cast_signed()).unwrap_or(0),
            fins: counters.fins,
            rsts: counters.rsts,
            dropped: counters.dropped,
            last_seen: self.clock.wall_time(counters.last_seen),
            funnel: FunnelCounts::default(),
            ..Counts::default()
        }
    }

    fn funnel(&self, index: u32) -> Result<FunnelCounts, Error> {
        let Requests { accepted, tls, tls_failed, requests, delivered, refused, failed, reserved: _ } =
            self.maps.element(abi::REQUESTS, index)?;
        Ok([accepted, tls, tls_failed, requests, delivered, refused, failed])
    }
}
