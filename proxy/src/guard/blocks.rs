//! The /24s and /48s that were seen: Meta's, beneath its announced prefixes, and strangers', whom `strict` would drop.

use std::net::IpAddr;

use hookgate_ebpf::abi::{self, Seen, Stranger};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::packet::Address;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::maps::sum;
use super::pins::Folder;
use super::stats::Reader;
use super::{Counts, Error};
use crate::prefixes::{Network, Table};

/// A /24 or /48 of Meta's from which packets came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub network: Network,
    /// The prefix in force that holds it; `None` when that was withdrawn.
    pub prefix: Option<Network>,
    /// What the kernel counted.
    pub counts: Counts,
}

/// What `strict` would have dropped of what passed since counting began.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// Of all strangers, but for those in `allow`.
    pub counts: Counts,
    /// Who they were: the latest [`abi::STRANGERS_CAPACITY`] networks, most packets first.
    pub strangers: Vec<Passer>,
}

/// A stranger's /24 or /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passer {
    pub network: Network,
    pub packets: u64,
    pub syns: u64,
    pub last_seen: Option<Timestamp>,
}

/// Meta's senders of which anything was seen, IPv4 first, by address; the latest [`abi::SEEN_CAPACITY`].
pub(super) fn seen(reader: &Reader) -> Result<Vec<Sender>, Error> {
    let in_force = reader.maps.rows()?.into_iter().filter(|row| row.in_force);
    let prefixes: Table = in_force.map(|row| row.network).collect();
    let map = reader.maps.per_cpu_hash::<Block, Seen>(abi::SEEN)?;
    // One that gave way to another since its key was read is not there any more.
    let mut senders: Vec<Sender> = map
        .iter()
        .filter_map(Result::ok)
        .map(|(block, per_cpu)| {
            let network = network(block);
            let counters = sum(per_cpu.iter().map(|seen| &seen.counters));
            Sender {
                network,
                prefix: prefixes.longest_match(network.address()),
                counts: reader.counts(&counters),
            }
        })
        .collect();
    senders.sort_by_key(|sender| sender.network);
    Ok(senders)
}

/// Whom `strict` would have dropped.
///
/// Errors: as [`super::read`]; also when nothing is attached.
pub fn rehearsal(pin: &str) -> Result<Rehearsal, Error> {
    let reader = Reader::open(&Folder::named(pin)?)?;
    let map = reader.maps.per_cpu_hash::<Block, Stranger>(abi::STRANGERS)?;
    let mut strangers: Vec<Passer> = map
        .iter()
        .filter_map(Result::ok)
        .map(|(block, per_cpu)| Passer {
            network: network(block),
            packets: per_cpu.iter().map(|stranger| stranger.packets).sum(),
            syns: per_cpu.iter().map(|stranger| stranger.syns).sum(),
            last_seen: per_cpu
                .iter()
                .map(|stranger| stranger.last_seen)
                .max()
                .and_then(|last| reader.clock.wall_time(last)),
        })
        .collect();
    strangers.sort_by_key(|passer| (std::cmp::Reverse(passer.packets), passer.network));
    Ok(Rehearsal { counts: reader.at(abi::OTHER)?, strangers })
}

fn network(block: Block) -> Network {
    let address = match block.address() {
        Address::V4(address) => IpAddr::from(address),
        Address::V6(address) => IpAddr::from(address),
    };
    Network::around(address, block.length())
}
