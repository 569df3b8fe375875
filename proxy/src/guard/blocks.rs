//! The /24s and /48s that were seen: Meta's, beneath its announced prefixes, and strangers', which
//! `strict` would drop.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hookgate_ebpf::abi::{self, Counters, Seen, Stranger};
use hookgate_ebpf::block::Block;
use hookgate_ebpf::packet::Address;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::pins::Folder;
use super::reader::{Counts, Reader};
use crate::config::PinName;
use crate::prefixes::{Network, Table};

/// A /24 or /48 of Meta's from which packets came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    pub network: Network,
    /// The prefix in force that holds it; `None` when that was withdrawn.
    pub prefix: Option<Network>,
    /// Whether a handshake was completed from there. Those of which that is not known give way in a
    /// flood.
    pub is_proven: bool,
    /// What the kernel counted.
    pub counts: Counts,
}

/// What `strict` would have dropped of what passed since counting began.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// Of all strangers, without those in `allow`.
    pub counts: Counts,
    /// Who they were: the latest [`abi::STRANGERS_CAPACITY`] networks, most packets first.
    pub strangers: Vec<StrangerNetwork>,
}

/// A stranger's /24 or /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrangerNetwork {
    pub network: Network,
    pub packets: u64,
    pub syns: u64,
    pub last_seen: Option<Timestamp>,
}

/// Meta's senders of which anything was seen, IPv4 first, by address: all that have completed a
/// handshake, up to [`abi::PROVEN_CAPACITY`], and the latest [`abi::SEEN_CAPACITY`] others.
pub(super) fn seen(reader: &Reader) -> Result<Vec<Sender>, Error> {
    let in_force = reader.maps.rows()?.into_iter().filter(|row| row.in_force);
    let prefixes: Table = in_force.map(|row| row.network).collect();
    let entries = |name, is_proven| -> Result<_, Error> {
        let entries = reader.maps.entries::<Block, Seen>(name)?;
        Ok(entries.into_iter().map(move |(block, seen)| (block, seen.counters, is_proven)))
    };
    // One that has just proved itself is in both.
    let mut blocks = BTreeMap::<Block, (Counters, bool)>::new();
    for (block, more, is_proven) in entries(abi::SEEN, false)?.chain(entries(abi::PROVEN, true)?) {
        let (counters, was_proven) = blocks.entry(block).or_default();
        counters.add(&more);
        *was_proven |= is_proven;
    }
    let senders = blocks.into_iter().filter(|(_, (counters, is_proven))| *is_proven || counters.packets > 0);
    let mut senders: Vec<Sender> = senders
        .map(|(block, (counters, is_proven))| {
            let network = network(block);
            Sender {
                network,
                prefix: prefixes.longest_match(network.address()),
                is_proven,
                counts: reader.counts(&counters),
            }
        })
        .collect();
    senders.sort_by_key(|sender| sender.network);
    Ok(senders)
}

/// The senders that `strict` would have dropped.
///
/// Errors: as [`super::read`]; also when nothing is attached.
pub fn rehearsal(pin: &PinName) -> Result<Rehearsal, Error> {
    let reader = Reader::open(&Folder::named(pin))?;
    let strangers = reader.maps.entries::<Block, Stranger>(abi::STRANGERS)?.into_iter();
    let mut strangers: Vec<StrangerNetwork> = strangers
        .map(|(block, stranger)| StrangerNetwork {
            network: network(block),
            packets: stranger.packets,
            syns: stranger.syns,
            last_seen: reader.clock.wall_time(stranger.last_seen),
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
