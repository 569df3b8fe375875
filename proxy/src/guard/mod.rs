//! The XDP guard's user side: loads the program, attaches it, keeps it pinned, and reads what it
//! counted.
//!
//! Everything lives in pins under `/sys/fs/bpf/<pin>/`, nothing in this process: the guard goes on
//! when it ends.

mod blocks;
mod cgroup;
mod clock;
mod error;
mod fdinfo;
mod handshakes;
mod holder;
mod interface;
mod link;
mod maps;
mod netdev;
mod netlink;
mod occupant;
mod pins;
mod policy;
mod program;
mod reader;
mod reason;
mod rows;
mod stats;
mod support;
mod targets;
mod watch;

pub use blocks::{Rehearsal, Sender, StrangerNetwork, rehearsal};
pub use error::Error;
pub use holder::Holder;
pub use interface::{Interface, InterfaceState, Reason, Xdp, in_words, interface_in_words};
pub use maps::Continuity;
pub use occupant::holder;
pub use reader::{Counts, DroppedBy};
pub use stats::{Detail, Stats, read};
pub use support::{ensure_none_locked_out, ensure_supported, probe};
pub use targets::{Absence, configured, stacked};
pub use watch::Watch;

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::config::{self, PinName};
use crate::prefixes::{Network, Table};
use crate::sys::{self, bpf};
use clock::Clock;
use link::Links;
use maps::Maps;
use pins::Folder;
use program::Program;
use targets::Targets;

/// What [`start`] has done.
#[derive(Debug)]
pub struct Attached {
    /// The map in which the proxy counts how far connections and requests got.
    pub funnel: OwnedFd,
    /// Whose counts are where in it.
    pub rows: Vec<(Network, u32)>,
    pub interfaces: Vec<Interface>,
    /// The configured interfaces that are not guarded, and why.
    pub left_out: Vec<(String, Reason)>,
    pub counters: Continuity,
    /// Why handshakes are not counted, where they are not.
    pub handshakes_uncounted: Option<String>,
}

/// To what, and what it counts.
impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interfaces[..] {
            [] => f.write_str("attached to no interface yet")?,
            interfaces => write!(f, "attached to {}", in_words(interfaces))?,
        }
        f.write_str(match self.counters {
            Continuity::New => "",
            Continuity::Kept => ", with the counters it had",
            Continuity::Discarded => "; the counters of another version's layout are gone",
        })?;
        for (name, reason) in &self.left_out {
            write!(f, "; not to {name}: {reason}")?;
        }
        match &self.handshakes_uncounted {
            Some(why) => write!(f, "; handshakes are not counted: {why}"),
            None => Ok(()),
        }
    }
}

/// Attaches the guard, or replaces the one that this pin folder holds: without a gap, and with its
/// counters when their layout is this version's. The caller asks whether the configuration may lock
/// the operator or Meta out ([`ensure_none_locked_out`]).
///
/// Errors: whatever keeps the program from running on every one of the interfaces that are there;
/// then interfaces, modes, ports and tables are as they were.
pub fn start(config: &config::Guard, prefixes: &Table, absence: Absence) -> Result<Attached, Error> {
    let object = program::embedded()?;
    ensure_supported()?;
    support::ensure_permitted()?;
    let folder = Folder::named(&config.pin);
    let _lock = pins::lock()?;
    let targets = Targets::of(&config.interfaces)?;
    targets.ensure_attachable(absence)?;

    let counters = maps::continuity(&folder)?;
    let is_kept = counters == Continuity::Kept;
    let rows = maps::counters_capacity(prefixes.len())?;
    let mut program = Program::load(object, is_kept.then_some(&folder), rows)?;
    let mut maps = Maps::of(&mut program)?;
    maps.ensure_room(config, prefixes)?;
    let netns = sys::netns_cookie().map_err(Error::Netns)?;
    let mut links = Links::new(&folder, &targets.machine)?;
    // Before the first SYN can come in: one that is followed must not complete unnoticed.
    let handshakes = handshakes::attach(&mut program, &folder, counters);
    let netns = handshakes.is_ok().then_some(netns);
    let set_policy = |maps: &mut Maps| {
        maps.set_netns(netns)?;
        maps.set(config, prefixes)
    };
    if !is_kept {
        set_policy(&mut maps)?;
        maps.begin(Clock::read().wall)?;
    }

    let is_first = !folder.exists()?;
    let attached = attach(&mut links, &mut program, config, &targets).and_then(|()| {
        folder.create()?;
        if !is_kept {
            maps.pin(&folder)?;
        }
        program.pin(&folder)?;
        links.pin()?;
        let handshakes = pin_handshakes(handshakes, &folder)?;
        // Maps that are in use change last: what is refused before has changed nothing.
        if is_kept {
            set_policy(&mut maps)?;
        }
        Ok(handshakes)
    });
    let handshakes_uncounted = match attached {
        Ok(handshakes) => handshakes.err().map(|error| error.in_a_line()),
        Err(error) => {
            let error = links.undo(error);
            if is_first {
                // The first error is the one to tell. What stays behind is unfinished: the next
                // start makes it anew.
                link::remove(&folder).ok();
            }
            return Err(error);
        }
    };
    let (funnel, rows) = (maps.funnel()?, maps.numbered()?);
    let interfaces = links.finish()?;
    Ok(Attached { funnel, rows, interfaces, left_out: targets.left_out, counters, handshakes_uncounted })
}

fn attach(
    links: &mut Links<'_>,
    program: &mut Program,
    config: &config::Guard,
    targets: &Targets,
) -> Result<(), Error> {
    let program = program.xdp()?.fd().map_err(|error| Error::from_loading(error.into()))?;
    if targets.have_no_route() {
        links.keep_all();
    }
    for device in &targets.devices {
        if !links.keep(device, |xdp| link::suits(config.xdp, xdp)) {
            links.attach(program.as_fd(), device, config.xdp)?;
        }
    }
    links.replace(program.as_fd())
}

fn pin_handshakes(
    handshakes: Result<handshakes::Attachment, Error>,
    folder: &Folder,
) -> Result<Result<(), Error>, Error> {
    if handshakes.is_err() {
        folder.unlink(&folder.handshakes())?; // whatever it holds tells of nothing any more
    }
    Ok(handshakes.and_then(|attachment| attachment.pin(folder)))
}

/// Puts the guard that is pinned on those of the configured interfaces that have come (back), in
/// the policy that it has; and lets go of those that have no default route any more, where it
/// follows these.
///
/// Returns the interfaces' states, and those that the program was put on.
///
/// Errors: rtnetlink's, no permission, or links in another network namespace.
pub fn attach_missing(config: &config::Guard) -> Result<(Vec<InterfaceState>, Vec<Interface>), Error> {
    let folder = Folder::named(&config.pin);
    let _lock = pins::lock()?;
    let mut targets = Targets::of(&config.interfaces)?;
    let has_no_route = targets.have_no_route();
    let devices = std::mem::take(&mut targets.devices);
    let Ok(program) = bpf::open_program(&folder.program()) else {
        // Detached by an operator, who knows how to attach it.
        let unattached = devices.into_iter().map(|device| (device.name, Reason::Unattached));
        return Ok((states(Vec::new(), targets.left_out.into_iter().chain(unattached)), Vec::new()));
    };
    let mut links = Links::new(&folder, &targets.machine)?;
    if has_no_route {
        links.keep_all();
    }
    for device in &devices {
        let attached = match links.keep(device, |_| true) {
            true => Ok(()),
            false => links.attach(program.as_fd(), device, config.xdp),
        };
        if let Err(error) = attached.map_err(|error| links.put_back_after(error)) {
            targets.left_out.push((device.name.clone(), Reason::Refused(error.in_a_line())));
        }
    }
    links.pin()?;
    let added = links.added();
    let interfaces = match config.interfaces {
        config::Interfaces::DefaultRoutes => links.finish()?,
        config::Interfaces::Listed(_) => links.leave(),
    };
    Ok((states(interfaces, targets.left_out), added))
}

/// The states of the configured interfaces.
///
/// Errors: rtnetlink's, or no permission.
pub fn interfaces(config: &config::Guard) -> Result<Vec<InterfaceState>, Error> {
    let targets = Targets::of(&config.interfaces)?;
    let attached = link::attached(&Folder::named(&config.pin))?;
    let (mut guarded, mut left_out) = (Vec::new(), targets.left_out);
    for device in targets.devices {
        match attached.iter().find(|interface| interface.name == device.name) {
            Some(interface) => guarded.push(interface.clone()),
            None => left_out.push((device.name, Reason::Unattached)),
        }
    }
    Ok(states(guarded, left_out))
}

/// The interfaces on which the guard of this folder is, of this process or another.
///
/// Errors: no permission to look.
pub fn attached(pin: &PinName) -> Result<Vec<Interface>, Error> {
    link::attached(&Folder::named(pin))
}

fn states(
    guarded: Vec<Interface>,
    left_out: impl IntoIterator<Item = (String, Reason)>,
) -> Vec<InterfaceState> {
    let unguarded = left_out.into_iter().map(|(name, reason)| InterfaceState::Unguarded { name, reason });
    guarded.into_iter().map(InterfaceState::Guarded).chain(unguarded).collect()
}

/// A guard that an earlier start has left, and that goes on.
pub struct EarlierGuard {
    pub interfaces: Vec<Interface>,
    pub mode: Option<config::Mode>,
    /// As [`Attached::funnel`] and [`Attached::rows`], where its maps are of this version's layout.
    pub maps: Option<(OwnedFd, Vec<(Network, u32)>)>,
}

/// To what it is attached.
impl fmt::Display for EarlierGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guard of an earlier start goes on, attached to {}", in_words(&self.interfaces))?;
        self.mode.map_or(Ok(()), |mode| write!(f, ", mode {mode}"))
    }
}

/// The guard that is attached, by this process or another; `None`: there is none.
///
/// Errors: no permission to look.
pub fn earlier(pin: &PinName) -> Result<Option<EarlierGuard>, Error> {
    let folder = Folder::named(pin);
    let interfaces = link::attached(&folder)?;
    if interfaces.is_empty() {
        return Ok(None);
    }
    let maps = Maps::writable(&folder).ok();
    let mode = maps.as_ref().and_then(|maps| policy::mode(maps.settings().ok()?.mode));
    let maps = maps.and_then(|maps| Some((maps.funnel().ok()?, maps.numbered().ok()?)));
    Ok(Some(EarlierGuard { interfaces, mode, maps }))
}

/// Puts other prefixes in force in a guard that is pinned: without losing a count, and without a
/// moment in which an address that stays is a stranger's. Whose counts are where from now on.
///
/// Errors: no permission, or maps in another version's layout.
pub fn set_prefixes(pin: &PinName, prefixes: &Table) -> Result<Vec<(Network, u32)>, Error> {
    let folder = Folder::named(pin);
    let _lock = pins::lock()?;
    let mut maps = Maps::writable(&folder)?;
    maps.set_prefixes(prefixes)?;
    maps.numbered()
}

/// Whether a guard is pinned there, attached or not. The package makes the folder before there is
/// one.
///
/// Errors: no permission to look.
pub fn is_pinned(pin: &PinName) -> Result<bool, Error> {
    Folder::named(pin).has_program()
}

/// How much of the kernel's memory the maps of a guard take, in bytes, attached or not. `None`:
/// there is none.
///
/// Errors: no permission, or maps in another version's layout.
pub fn memory(pin: &PinName) -> Result<Option<u64>, Error> {
    let folder = Folder::named(pin);
    if !folder.exists()? {
        return Ok(None);
    }
    Maps::read_only(&folder)?.memory().map(Some)
}

/// Detaches the program from every interface and removes the pin folder with all counters. The
/// names of the interfaces that were let go; none when there was nothing to detach.
///
/// Errors: no permission, or a file in the folder that hookgate did not put there.
pub fn detach(pin: &PinName) -> Result<Vec<String>, Error> {
    let folder = Folder::named(pin);
    if !folder.exists()? {
        return Ok(Vec::new());
    }
    let _lock = pins::lock()?;
    link::remove(&folder)
}
