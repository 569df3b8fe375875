use hookgate_ebpf::abi::{self, Counters};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::maps::Maps;
use super::pins::Folder;
use super::{Error, Interface, link, support};
use crate::config::Mode;
use crate::prefixes::Network;

/// What the guard has counted since it was first attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    pub taken: Timestamp,
    pub mode: Mode,
    /// When counting began.
    pub since: Timestamp,
    pub interfaces: Vec<Interface>,
    /// Every prefix in force, IPv4 first, by address.
    pub prefixes: Vec<(Network, Counts)>,
    /// Sources outside of them all.
    pub other: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub packets: u64,
    /// Whole frames, as XDP sees them.
    pub bytes: u64,
    /// SYNs without ACK, retransmitted ones included.
    pub syns: u64,
    /// Exact to some milliseconds.
    pub last_seen: Option<Timestamp>,
}

impl Counts {
    fn at(clock: &Clock, counters: Counters) -> Self {
        let Counters { packets, bytes, syns, last_seen } = counters;
        Self { packets, bytes, syns, last_seen: clock.wall_time(last_seen) }
    }
}

/// Reads the pinned maps; whoever attached the guard may be long gone. `None`: it is attached to no interface.
///
/// Errors: no permission, or maps in another version's layout.
pub fn read(pin: &str) -> Result<Option<Stats>, Error> {
    let folder = Folder::named(pin)?;
    let mut interfaces = Vec::new();
    for interface in folder.links()? {
        if link::interface_index(&folder, &interface)?.is_some() {
            interfaces.push(interface);
        }
    }
    if interfaces.is_empty() {
        return Ok(None);
    }
    let maps = Maps::pinned(&folder)?;
    let settings = maps.settings()?;
    let mode = support::mode(settings.mode).ok_or(Error::OtherLayout { folder: folder.path().into() })?;
    let since = i64::try_from(settings.since).unwrap_or(i64::MAX);
    let clock = Clock::read();
    let by_prefix = maps.by_prefix()?.into_iter();
    Ok(Some(Stats {
        taken: clock.wall,
        mode,
        since: Timestamp::from_second(since).unwrap_or(Timestamp::MAX),
        interfaces,
        prefixes: by_prefix.map(|(network, counters)| (network, Counts::at(&clock, counters))).collect(),
        other: Counts::at(&clock, maps.count(abi::OTHER)?),
    }))
}
