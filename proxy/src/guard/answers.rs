//! The program that sees what leaves through guarded interfaces. Without it the guard counts
//! everything else.
//!
//! Its links are pinned by the interface's index. Of the programs on an interface it comes first:
//! one before it might let a frame go without asking further ones.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use hookgate_ebpf::tc::ANSWERS;

use super::clsact::{self, Place};
use super::netlink::Refusal;
use super::tc::{self, Hold, Programs};
use crate::sys::bpf::{self, Direction};

const LINK: &str = "answers-";

/// Where it is kept.
#[derive(Clone, Debug)]
pub struct Home {
    folder: PathBuf,
    /// What its filters are called in clsact.
    filter: String,
}

/// Why what leaves through an interface is not seen.
#[derive(Debug)]
pub struct Unseen {
    pub interface: u32,
    cause: Cause,
}

#[derive(Debug)]
enum Cause {
    Kernel(Refusal),
    Pin(io::Error),
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Kernel(Refusal { words: Some(words), .. }) => f.write_str(words),
            Cause::Kernel(Refusal { errno, .. }) => write!(f, "{errno}"),
            Cause::Pin(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Unseen {}

struct PinnedLink {
    /// The interface's index, by the pin's name.
    interface: u32,
    link: OwnedFd,
    is_attached: bool,
}

impl Home {
    pub fn new(folder: &Path) -> Self {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        Self { folder: folder.to_owned(), filter: format!("{name}/{}", ANSWERS[0]) }
    }

    /// The pinned program; `None`: there is none, or no permission.
    pub fn programs(&self) -> Option<Programs> {
        Programs::pinned(&self.folder, ANSWERS)
    }

    /// Whether it is on an interface.
    pub fn is_on(&self, interface: u32) -> bool {
        let pinned = self.open(interface).is_some_and(|pinned| pinned.is_attached);
        pinned || clsact::is_attached(self.place(interface)).unwrap_or(false)
    }

    /// Takes it off all interfaces but some, and removes its pins there. `machine`: the indices of
    /// all interfaces.
    pub fn release_others(&self, machine: &[u32], kept: &[u32]) -> io::Result<()> {
        for interface in self.pins()?.into_iter().filter(|interface| !kept.contains(interface)) {
            self.release(interface)?;
        }
        for interface in machine.iter().filter(|interface| !kept.contains(interface)) {
            clsact::detach(self.place(*interface)).map_err(|refusal| io::Error::from(refusal.errno))?;
        }
        Ok(())
    }

    /// Takes it off all interfaces, and removes all pins of it.
    pub fn remove(&self, machine: &[u32]) -> io::Result<()> {
        self.release_others(machine, &[])?;
        ANSWERS.iter().try_for_each(|name| tc::unlink(&self.folder.join(name)))
    }

    fn place(&self, interface: u32) -> Place<'_> {
        Place { interface, direction: Direction::Out, name: &self.filter }
    }

    /// The kernel detaches at once when a descriptor is the last to go, but some time later when a
    /// pin is.
    fn release(&self, interface: u32) -> io::Result<()> {
        let pinned = self.open(interface);
        let unlinked = tc::unlink(&self.link(interface));
        drop(pinned);
        unlinked
    }

    fn open(&self, interface: u32) -> Option<PinnedLink> {
        let link = bpf::open_link(&self.link(interface)).ok()?;
        let info = bpf::tcx_link_info(link.as_fd()).ok()?;
        Some(PinnedLink { interface, link, is_attached: info.interface == Some(interface) })
    }

    /// The interfaces' indices in the pins' names.
    fn pins(&self) -> io::Result<Vec<u32>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        let names = names.collect::<io::Result<Vec<_>>>()?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(LINK)?.parse().ok()).collect())
    }

    fn link(&self, interface: u32) -> PathBuf {
        self.folder.join(format!("{LINK}{interface}"))
    }
}

/// A change, which can be undone until it is dropped.
pub struct Change<'h> {
    home: &'h Home,
    /// The pinned program, which ran before.
    former: Option<Programs>,
    /// Links that had the former program, and whether their interfaces have Ethernet.
    updated: Vec<(PinnedLink, bool)>,
    new: Vec<(u32, OwnedFd)>,
    /// Interfaces with a filter, whether they have Ethernet, and whether it was there before.
    filters: Vec<(u32, bool, bool)>,
    is_program_pinned: bool,
}

impl<'h> Change<'h> {
    pub fn new(home: &'h Home) -> Self {
        let (updated, new, filters) = (Vec::new(), Vec::new(), Vec::new());
        Self { home, former: home.programs(), updated, new, filters, is_program_pinned: false }
    }

    /// Puts the program on an interface, in the place of the one that is there.
    pub fn attach(&mut self, programs: &Programs, interface: u32, has_ethernet: bool) -> Result<(), Unseen> {
        let program = programs.of(has_ethernet);
        let pinned = self.home.open(interface).filter(|pinned| pinned.is_attached);
        if let Some(pinned) = pinned
            && bpf::update_link(pinned.link.as_fd(), program).is_ok()
        {
            self.updated.push((pinned, has_ethernet));
            return Ok(());
        }
        let attached = tc::attach(self.home.place(interface), program);
        match attached.map_err(|refusal| Unseen { interface, cause: Cause::Kernel(refusal) })? {
            Hold::Link(link) => self.new.push((interface, link)),
            Hold::Filter { was_there } => self.filters.push((interface, has_ethernet, was_there)),
        }
        Ok(())
    }

    /// Pins the links that are new.
    pub fn pin_links(&self) -> Result<(), Unseen> {
        for (interface, link) in &self.new {
            let pinned = tc::pin(&self.home.link(*interface), link.as_fd());
            pinned.map_err(|error| Unseen { interface: *interface, cause: Cause::Pin(error) })?;
        }
        Ok(())
    }

    /// Pins them, and the program in the place of the former one.
    pub fn pin(&mut self, programs: &Programs) -> Result<(), Unseen> {
        self.pin_links()?;
        self.is_program_pinned = true;
        let pinned = programs.pin(&self.home.folder, ANSWERS);
        pinned.map_err(|error| Unseen { interface: 0, cause: Cause::Pin(error) })
    }

    /// The former program is where it was, and no other.
    pub fn undo(self) {
        for (interface, link) in self.new {
            tc::unlink(&self.home.link(interface)).ok();
            drop(link);
        }
        let former = self.former.as_ref();
        for (pinned, has_ethernet) in &self.updated {
            if let Some(former) = former {
                bpf::update_link(pinned.link.as_fd(), former.of(*has_ethernet)).ok();
            } else {
                tc::unlink(&self.home.link(pinned.interface)).ok();
            }
        }
        for (interface, has_ethernet, was_there) in self.filters {
            let place = self.home.place(interface);
            match former.filter(|_| was_there) {
                Some(former) => clsact::attach(place, former.of(has_ethernet)),
                None => clsact::detach(place),
            }
            .ok();
        }
        if self.is_program_pinned {
            match former {
                Some(former) => former.pin(&self.home.folder, ANSWERS),
                None => ANSWERS.iter().try_for_each(|name| tc::unlink(&self.home.folder.join(name))),
            }
            .ok();
        }
    }
}
