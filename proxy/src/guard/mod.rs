//! The XDP guard's user side: loads the program, attaches it, keeps it pinned, and reads what it counted.
//!
//! Everything lives in pins under `/sys/fs/bpf/<pin>/`, nothing in this process: the guard goes on when it ends.

mod clock;
mod error;
mod holder;
pub mod keeper;
mod link;
mod maps;
mod netdev;
mod pins;
mod program;
mod rows;
mod stats;
mod support;

pub use error::Error;
pub use holder::{Holder, holder};
pub use link::Xdp;
pub use stats::{Counts, Stats, read};
pub use support::is_supported;

use serde::{Deserialize, Serialize};

use crate::config;
use crate::prefixes::Table;
use clock::Clock;
use maps::Maps;
use pins::Folder;
use program::Program;

/// What [`start`] has done.
#[derive(Debug)]
pub struct Attached {
    pub interfaces: Vec<Interface>,
    pub counters: Continuity,
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

/// Attaches the guard, or replaces the one that this pin folder holds: without a gap, and with its counters when
/// their layout is this version's.
///
/// Errors: whatever keeps the program from running on every one of the interfaces; then nothing is newly attached.
pub fn start(config: &config::Guard, prefixes: &Table) -> Result<Attached, Error> {
    let object = program::embedded()?;
    let mode = support::enforced(config.mode)?;
    is_supported()?;
    support::is_permitted()?;
    let folder = Folder::named(&config.pin)?;
    let _lock = pins::lock()?;

    let counters = maps::continuity(&folder)?;
    let mut program = Program::load(object, (counters == Continuity::Kept).then_some(&folder))?;
    let mut maps = Maps::of(&mut program)?;
    maps.set_ports(&config.ports)?;
    maps.set_prefixes(prefixes)?;
    if counters != Continuity::Kept {
        maps.begin(mode, Clock::read().wall)?;
    }

    let links = link::attach_all(&mut program, config, &folder)?;
    let interfaces = links.iter().map(|link| link.interface.clone()).collect();
    let is_first = !folder.exists()?;
    pin(&folder, counters, maps, &mut program, links).inspect_err(|_| {
        if is_first {
            // The first error is the one to tell. What stays behind is unfinished: the next start makes it anew.
            folder.remove().ok();
        }
    })?;
    Ok(Attached { interfaces, counters })
}

fn pin(
    folder: &Folder,
    counters: Continuity,
    maps: Maps,
    program: &mut Program,
    links: Vec<link::Attachment>,
) -> Result<(), Error> {
    folder.create()?;
    if counters != Continuity::Kept {
        maps.pin(folder)?;
    }
    program.pin(folder)?;
    link::pin_all(links, folder)
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
