//! The XDP guard's user side: loads the program, attaches it, keeps it pinned, and reads what it
//! counted.
//!
//! Everything lives in pins under `/sys/fs/bpf/<pin>/`, nothing in this process: the guard goes on
//! when it ends.

mod answers;
mod attachment;
mod blocks;
mod btf;
mod cgroup;
mod clock;
mod clsact;
mod delays;
mod diagnostics;
mod earlier;
mod error;
mod fdinfo;
mod handshake_times;
mod handshakes;
mod holder;
mod interface;
mod kernel_counters;
mod kernel_drops;
mod link;
mod log;
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
mod sampling;
mod stats;
mod support;
mod targets;
mod tc;
mod watch;

pub use blocks::{Rehearsal, Sender, StrangerNetwork, rehearsal};
pub use delays::{Delays, Percentiles};
pub use diagnostics::Diagnostics;
pub use earlier::{EarlierGuard, earlier};
pub use error::Error;
pub use handshake_times::handshake_times;
pub use holder::Holder;
pub use interface::{Interface, InterfaceState, Reason, Xdp, in_words, interface_in_words};
pub use kernel_counters::{KernelCounters, kernel_counters};
pub use kernel_drops::KernelDrops;
pub use log::{
    Cause, LogEntry, LogReader, RENEWAL_INTERVAL as LOG_RENEWAL_INTERVAL, SNAP_BYTES, event_name, reason_name,
};
pub use maps::Continuity;
pub use occupant::holder;
pub use reader::{Counts, DroppedBy, FailedBy, LateBy, Suspect, Unproven};
pub use sampling::{AttemptClass, Sampled};
pub use stats::{Detail, Stats, read};
pub use support::{Missing, ensure_none_locked_out, ensure_supported, probe};
pub use targets::{Absence, configured, stacked};
pub use watch::Watch;

use std::fmt;
use std::os::fd::OwnedFd;

use hookgate_ebpf::tc::ANSWERS;

use crate::config::{self, PinName};
use crate::prefixes::{Network, Table};
use crate::sys;
use attachment::Programs;
use clock::Clock;
use link::Links;
use maps::Maps;
use netdev::Device;
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
    /// Why what leaves is not seen, and failed handshakes are not classified, where that is so.
    pub answers_unseen: Option<String>,
    /// Why the kernel's drops are not counted, although it tells of them.
    pub drops_uncounted: Option<String>,
    /// What the programs say of themselves; or why they do not.
    pub diagnostics: Result<Diagnostics, String>,
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
        match (&self.handshakes_uncounted, &self.answers_unseen) {
            (Some(why), _) => write!(f, "; handshakes are not counted: {why}"),
            (None, Some(why)) => write!(f, "; failed handshakes are not classified: {why}"),
            (None, None) => Ok(()),
        }?;
        if let Some(why) = &self.drops_uncounted {
            write!(f, "; the kernel's drops are not counted: {why}")?;
        }
        let Err(why) = &self.diagnostics else { return Ok(()) };
        write!(f, "; its own diagnostics are not logged: {why}")
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
    let targets = Targets::of(config)?;
    targets.ensure_attachable(absence)?;

    let counters = maps::continuity(&folder)?;
    let is_kept = counters == Continuity::Kept;
    let rows = maps::counters_capacity(prefixes.len())?;
    let mut program = Program::load(object, is_kept.then_some(&folder), rows)?;
    let programs = Programs::load(&mut program)?;
    let mut maps = Maps::of(&mut program)?;
    maps.ensure_room(config, prefixes)?;
    let netns = sys::netns_cookie().map_err(Error::Netns)?;
    let mut links = Links::new(&folder, &targets.machine)?;
    // Before the first SYN can come in: one that is followed must not complete unnoticed.
    let handshakes = handshakes::attach(&mut program, &folder, counters);
    let counted_netns = handshakes.is_ok().then_some(netns);
    let is_first = !folder.exists()?;
    // What a kill leaves on an interface, a detach finds by the folder.
    folder.create()?;
    let home = answers::Home::new(folder.path());
    let mut change = answers::Change::new(&home);
    let mut answers = see_answers(&mut program, &mut change, &links, &targets);
    let set_policy = |maps: &mut Maps, sees_answers| {
        maps.set_netns(counted_netns)?;
        maps.set_sees_answers(sees_answers)?;
        maps.set(config, prefixes)
    };
    let attached = begin_if_new(is_kept, &mut maps, |maps| set_policy(maps, answers.is_ok()))
        .and_then(|()| attach(&mut links, &programs, config, &targets))
        .and_then(|()| {
            if !is_kept {
                maps.pin(&folder)?;
            }
            program.pin(&folder)?;
            programs.pin(&folder)?;
            if let Err(error) = pin_answers(&answers, &mut change) {
                answers = Err(error);
            }
            links.pin()?;
            let handshakes = pin_handshakes(handshakes, &folder)?;
            // Maps that are in use change last: what is refused before has changed nothing.
            match is_kept {
                true => set_policy(&mut maps, answers.is_ok())?,
                false => maps.set_sees_answers(answers.is_ok())?,
            }
            Ok(handshakes)
        });
    let handshakes_uncounted = match attached {
        Ok(handshakes) => handshakes.err().map(|error| error.in_a_line()),
        Err(error) => {
            let error = links.undo(error);
            change.undo();
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
    match &answers {
        Ok(_) => release_answers(&folder, &targets, &interfaces)?,
        Err(_) => folder.remove_answers(&targets.machine)?,
    }
    let answers_unseen = answers.err().map(|error| error.in_a_line());
    let drops_uncounted = match kernel_drops::attach(&mut program, &mut maps, &folder, netns) {
        Ok(()) | Err(Error::NoDropReasons) => None,
        Err(error) => Some(error.in_a_line()),
    };
    let left_out = targets.left_out;
    let diagnostics = program.diagnostics;
    Ok(Attached {
        funnel,
        rows,
        interfaces,
        left_out,
        counters,
        handshakes_uncounted,
        answers_unseen,
        drops_uncounted,
        diagnostics,
    })
}

/// Fresh maps are made ready before a program uses them.
fn begin_if_new(
    is_kept: bool,
    maps: &mut Maps,
    set_policy: impl FnOnce(&mut Maps) -> Result<(), Error>,
) -> Result<(), Error> {
    if is_kept {
        return Ok(());
    }
    set_policy(maps)?;
    maps.begin(Clock::read().wall)
}

/// Puts the program on what leaves, before the first SYN can come in.
///
/// Errors: an interface on which it can't be. It may be on the others.
fn see_answers(
    program: &mut Program,
    change: &mut answers::Change<'_>,
    links: &Links<'_>,
    targets: &Targets,
) -> Result<tc::Programs, Error> {
    let answers = program.load_tc(ANSWERS)?;
    let devices = match targets.have_no_route() {
        true => targets.with_indices(&links.indices()),
        false => targets.devices.clone(),
    };
    let attached = devices.iter().map(|device| change.attach(&answers, device.index, device.has_ethernet()));
    let refused = attached.filter_map(Result::err).last();
    refused.map_or(Ok(answers), |why| Err(targets.unseen(why)))
}

fn pin_answers(answers: &Result<tc::Programs, Error>, change: &mut answers::Change<'_>) -> Result<(), Error> {
    let Ok(answers) = answers else { return Ok(()) };
    change.pin(answers).map_err(|why| Error::Answers { interface: "any interface".into(), why })
}

/// Takes it off all interfaces but those.
fn release_answers(folder: &Folder, targets: &Targets, guarded: &[Interface]) -> Result<(), Error> {
    let machine: Vec<u32> = targets.machine.iter().map(|device| device.index).collect();
    let released = answers::Home::new(folder.path()).release_others(&machine, &targets.indices(guarded));
    released.map_err(|source| Error::Folder { doing: "release links in", path: folder.path().into(), source })
}

fn attach(
    links: &mut Links<'_>,
    programs: &Programs,
    config: &config::Guard,
    targets: &Targets,
) -> Result<(), Error> {
    if targets.have_no_route() {
        links.keep_all();
    }
    for device in &targets.devices {
        if !links.keep(device, |xdp| link::suits(config.xdp, xdp)) {
            links.attach(programs, device, config.xdp)?;
        }
    }
    links.replace(programs)
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
/// Errors: rtnetlink's, no permission, or links in another network namespace.
pub fn attach_missing(config: &config::Guard) -> Result<Look, Error> {
    let folder = Folder::named(&config.pin);
    let _lock = pins::lock()?;
    let mut targets = Targets::of(config)?;
    let has_no_route = targets.have_no_route();
    let devices = std::mem::take(&mut targets.devices);
    let Some(programs) = Programs::pinned(&folder) else {
        // Detached by an operator, who knows how to attach it.
        let unattached = devices.into_iter().map(|device| (device.name, Reason::Unattached));
        let states = states(Vec::new(), targets.left_out.into_iter().chain(unattached));
        return Ok(Look { states, added: Vec::new(), answers_unseen: None });
    };
    let mut links = Links::new(&folder, &targets.machine)?;
    let answers_unseen = see_missing_answers(&folder, &targets, &devices, &links)?;
    if has_no_route {
        links.keep_all();
    }
    for device in &devices {
        let attached = match links.keep(device, |_| true) {
            true => Ok(()),
            false => links.attach(&programs, device, config.xdp),
        };
        if let Err(error) = attached.map_err(|error| links.put_back_after(error)) {
            targets.left_out.push((device.name.clone(), Reason::Refused(error.in_a_line())));
        }
    }
    links.pin()?;
    let added = links.added();
    let interfaces = match config.interfaces {
        config::Interfaces::DefaultRoutes => {
            let interfaces = links.finish()?;
            release_answers(&folder, &targets, &interfaces)?;
            interfaces
        }
        config::Interfaces::Listed(_) => links.leave(),
    };
    Ok(Look { states: states(interfaces, targets.left_out), added, answers_unseen })
}

/// What a look at the interfaces has found, and done.
pub struct Look {
    pub states: Vec<InterfaceState>,
    /// The interfaces that the program was put on.
    pub added: Vec<Interface>,
    /// As [`Attached::answers_unseen`].
    pub answers_unseen: Option<String>,
}

/// Puts the pinned program on what leaves through those interfaces from which it is missing. Why
/// failed handshakes can't be classified, where they can't.
///
/// Errors: no permission.
fn see_missing_answers(
    folder: &Folder,
    targets: &Targets,
    devices: &[Device],
    links: &Links<'_>,
) -> Result<Option<String>, Error> {
    // Of another version's layout.
    let Ok(mut maps) = Maps::writable(folder) else { return Ok(None) };
    let home = answers::Home::new(folder.path());
    let seen = match home.programs() {
        None => Err(Error::HandshakesRefused),
        Some(programs) => {
            let mut change = answers::Change::new(&home);
            let devices = match devices {
                [] => targets.with_indices(&links.indices()),
                devices => devices.to_vec(),
            };
            let missing = devices.iter().filter(|device| !home.is_on(device.index));
            let attached =
                missing.map(|device| change.attach(&programs, device.index, device.has_ethernet()));
            let refused = attached.filter_map(Result::err).last().or(change.pin_links().err());
            refused.map_or(Ok(()), |why| Err(targets.unseen(why)))
        }
    };
    if (maps.settings()?.sees_answers != 0) != seen.is_ok() {
        maps.set_sees_answers(seen.is_ok())?;
    }
    let why = match seen {
        Ok(()) => maps.why_unclassified()?,
        Err(error) => Some(error),
    };
    Ok(why.map(|error| error.in_a_line()))
}

/// The states of the configured interfaces.
///
/// Errors: rtnetlink's, or no permission.
pub fn interfaces(config: &config::Guard) -> Result<Vec<InterfaceState>, Error> {
    let targets = Targets::of(config)?;
    let attached = attachment::attached(&Folder::named(&config.pin))?;
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
    attachment::attached(&Folder::named(pin))
}

fn states(
    guarded: Vec<Interface>,
    left_out: impl IntoIterator<Item = (String, Reason)>,
) -> Vec<InterfaceState> {
    let unguarded = left_out.into_iter().map(|(name, reason)| InterfaceState::Unguarded { name, reason });
    guarded.into_iter().map(InterfaceState::Guarded).chain(unguarded).collect()
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
