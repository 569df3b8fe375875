use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::blocks::{self, Sender};
use super::error::Error;
use super::interface::Interface;
use super::kernel_drops::{self, KernelDrops};
use super::pins::Folder;
use super::reader::{Counts, DroppedBy, Reader};
use super::sampling::{self, Sampled};
use super::{attachment, policy};
use crate::config::{Mode, PinName};
use crate::prefixes::Network;

/// What the guard has counted since it was first attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    pub taken: Timestamp,
    pub mode: Mode,
    /// When counting began.
    pub since: Timestamp,
    pub interfaces: Vec<Interface>,
    /// Why handshakes are not counted, where they are not.
    pub handshakes_uncounted: Option<String>,
    /// Why failed handshakes are not classified, where they are counted and are not.
    pub answers_unseen: Option<String>,
    /// Why the kernel's drops are not counted, where they are not.
    pub drops_uncounted: Option<String>,
    /// The classes whose attempts are not all followed.
    pub sampled: Vec<Sampled>,
    /// Every prefix in force, IPv4 first, by address.
    pub prefixes: Vec<(Network, Counts)>,
    /// Packets to and from a prefix that the kernel dropped, where it dropped any. `None`: not
    /// counted.
    pub kernel_drops: Option<BTreeMap<Network, KernelDrops>>,
    /// Sources outside of them all.
    pub other: Counts,
    /// Why packets of `other` were dropped.
    pub dropped_by: DroppedBy,
    /// Meta's /24s and /48s from which something came, IPv4 first, by address; none unless asked
    /// for.
    pub seen: Vec<Sender>,
}

/// How much to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detail {
    Prefixes,
    /// What was seen beneath them, too: thousands of rows, after a flood.
    Blocks,
}

/// Reads the pinned maps; the process that attached the guard may have ended. `None`: it is
/// attached to no interface.
///
/// Errors: no permission, or maps in another version's layout.
pub fn read(pin: &PinName, detail: Detail) -> Result<Option<Stats>, Error> {
    let folder = Folder::named(pin);
    let interfaces = attachment::attached(&folder)?;
    if interfaces.is_empty() {
        return Ok(None);
    }
    let reader = Reader::open(&folder)?;
    let settings = reader.maps.settings()?;
    let mode = policy::mode(settings.mode).ok_or(Error::OtherLayout { folder: folder.path().into() })?;
    let drops_uncounted = kernel_drops::why_uncounted(&folder)?;
    let kernel_drops = drops_uncounted.is_none().then(|| reader.kernel_drops()).transpose()?;
    let since = i64::try_from(settings.since).unwrap_or(i64::MAX);
    Ok(Some(Stats {
        taken: reader.clock.wall,
        mode,
        since: Timestamp::from_second(since).unwrap_or(Timestamp::MAX),
        interfaces,
        prefixes: reader.by_prefix()?,
        other: reader.other()?,
        dropped_by: reader.dropped_by()?,
        handshakes_uncounted: reader.uncounted.as_ref().map(Error::in_a_line),
        drops_uncounted: drops_uncounted.as_ref().map(Error::in_a_line),
        kernel_drops,
        answers_unseen: reader.unseen.as_ref().map(Error::in_a_line),
        sampled: sampling::sampled(&reader)?,
        seen: match detail {
            Detail::Prefixes => Vec::new(),
            Detail::Blocks => blocks::seen(&reader)?,
        },
    }))
}
