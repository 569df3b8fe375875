//! The XDP guard's user side: loads the program, attaches it, keeps it pinned, and reads what it counted.
//!
//! Everything lives in pins under `/sys/fs/bpf/<pin>/`, nothing in this process: the guard goes on when it ends.

mod blocks;
mod cgroup;
mod clock;
mod error;
mod handshakes;
mod holder;
mod link;
mod maps;
mod netdev;
mod pins;
mod policy;
mod program;
mod rows;
mod stats;
mod support;

pub use blocks::{Passer, Rehearsal, Sender, rehearsal};
pub use error::Error;
pub use holder::{Holder, holder};
pub use link::Xdp;
pub use stats::{Counts, Detail, DroppedBy, Stats, read};
pub use support::{is_supported, locks_nobody_out, probe};

use std::fmt;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::prefixes::{Network, Table};
use crate::sys;
use clock::Clock;
use maps::Maps;
use pins::Folder;
use program::Program;

/// What [`start`] has done.
#[derive(Debug)]
pub struct Attached {
    /// The map in which the proxy counts how far connections and requests got.
    pub funnel: OwnedFd,
    /// Whose counts are where in it.
    pub rows: Vec<(Network, u32)>,
    pub interfaces: Vec<Interface>,
    pub counters: Continuity,
    /// Why handshakes are not counted, where they are not.
    pub handshakes_uncounted: Option<String>,
}

/// An interface, and the mode in which the program sits on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    pub name: String,
    pub xdp: Xdp,
}

/// Whether counting went on from an earlier start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    New,
    Kept,
    /// There were counters, in a layout of another version; they are gone.
    Discarded,
}

/// To what, and what it counts.
impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attached to {}", in_words(&self.interfaces))?;
        f.write_str(match self.counters {
            Continuity::New => "",
            Continuity::Kept => ", with the counters it had",
            Continuity::Discarded => "; the counters of another version's layout are gone",
        })?;
        match &self.handshakes_uncounted {
            Some(why) => write!(f, "; handshakes are not counted: {why}"),
            None => Ok(()),
        }
    }
}

/// `eth0 (native), eth1 (generic)`
pub fn in_words(interfaces: &[Interface]) -> String {
    let named = interfaces.iter().map(|interface| format!("{} ({})", interface.name, interface.xdp));
    named.collect::<Vec<_>>().join(", ")
}

/// Attaches the guard, or replaces the one that this pin folder holds: without a gap, and with its counters when
/// their layout is this version's. Whether the configuration may lock somebody out ([`locks_nobody_out`]) is the
/// caller's to ask.
///
/// Errors: whatever keeps the program from running on every one of the interfaces; then nothing is newly attached.
pub fn start(config: &config::Guard, prefixes: &Table) -> Result<Attached, Error> {
    let object = program::embedded()?;
    is_supported()?;
    support::is_permitted()?;
    let folder = Folder::named(&config.pin)?;
    let _lock = pins::lock()?;

    let counters = maps::continuity(&folder)?;
    let reuse = (counters == Continuity::Kept).then_some(&folder);
    let mut program = Program::load(object, reuse, maps::counters_capacity(prefixes.len())?)?;
    let mut maps = Maps::of(&mut program)?;
    maps.set(config, prefixes)?;
    if counters != Continuity::Kept {
        maps.begin(Clock::read().wall)?;
    }

    // Before the first SYN can come in: one that is followed must not complete unnoticed.
    let netns = sys::netns_cookie().map_err(Error::Netns)?;
    let handshakes = handshakes::attach(&mut program, &folder);
    maps.set_netns(handshakes.is_ok().then_some(netns))?;
    let links = link::attach_all(&mut program, config, &folder)?;
    let interfaces = links.iter().map(|link| link.interface.clone()).collect();
    let (funnel, rows) = (maps.funnel()?, maps.numbered()?);
    let is_first = !folder.exists()?;
    let handshakes = pin(&folder, counters, &maps, &mut program, links, handshakes).inspect_err(|_| {
        if is_first {
            // The first error is the one to tell. What stays behind is unfinished: the next start makes it anew.
            folder.remove().ok();
        }
    })?;
    Ok(Attached {
        funnel,
        rows,
        interfaces,
        counters,
        handshakes_uncounted: handshakes.err().map(|error| error.in_a_line()),
    })
}

fn pin(
    folder: &Folder,
    counters: Continuity,
    maps: &Maps,
    program: &mut Program,
    links: Vec<link::Attachment>,
    handshakes: Result<handshakes::Attachment, Error>,
) -> Result<Result<(), Error>, Error> {
    folder.create()?;
    if counters != Continuity::Kept {
        maps.pin(folder)?;
    }
    program.pin(folder)?;
    link::pin_all(links, folder)?;
    if handshakes.is_err() {
        folder.unlink(&folder.handshakes())?; // whatever it holds tells of nothing any more
    }
    Ok(handshakes.and_then(|attachment| attachment.pin(folder)))
}

/// Puts other prefixes in force in a guard that is pinned: without losing a count, and without a moment in which an
/// address that stays is a stranger's. Whose counts are where from now on.
///
/// Errors: no permission, or maps in another version's layout.
pub fn set_prefixes(pin: &str, prefixes: &Table) -> Result<Vec<(Network, u32)>, Error> {
    let folder = Folder::named(pin)?;
    let _lock = pins::lock()?;
    let mut maps = Maps::writable(&folder)?;
    maps.set_prefixes(prefixes)?;
    maps.numbered()
}

/// Whether a guard is pinned there, attached or not.
///
/// Errors: no permission to look.
pub fn is_pinned(pin: &str) -> Result<bool, Error> {
    Folder::named(pin)?.exists()
}

/// How much of the kernel's memory the maps of a guard take, in bytes, attached or not. `None`: there is none.
///
/// Errors: no permission, or maps in another version's layout.
pub fn memory(pin: &str) -> Result<Option<u64>, Error> {
    let folder = Folder::named(pin)?;
    if !folder.exists()? {
        return Ok(None);
    }
    Maps::read_only(&folder)?.memory().map(Some)
}

/// Detaches the program from every interface and removes the pin folder with all counters. The names of the interfaces
/// that were let go; none when there was nothing to detach.
///
/// Errors: no permission, or a file in the folder that hookgate did not put there.
pub fn detach(pin: &str) -> Result<Vec<String>, Error> {
    let folder = Folder::named(pin)?;
    if !folder.exists()? {
        return Ok(Vec::new());
    }
    let _lock = pins::lock()?;
    folder.remove()
}
