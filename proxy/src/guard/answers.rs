//! The program that sees what leaves through guarded interfaces. Without it the guard counts
//! everything else.
//!
//! From Linux 6.6 on it is held by links, pinned by the interface's index; before, by filters in
//! clsact. Of the programs on an interface it comes first: one before it might let a frame go
//! without asking further ones.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::clsact;
use super::netlink::Refusal;
use crate::sys::bpf;

/// The pinned program.
const PROGRAM: &str = "answers";
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
        Self { folder: folder.to_owned(), filter: format!("{name}/{PROGRAM}") }
    }

    /// The pinned program; `None`: there is none, or no permission.
    pub fn program(&self) -> Option<OwnedFd> {
        bpf::open_program(&self.folder.join(PROGRAM)).ok()
    }

    /// Whether it is on an interface.
    pub fn is_on(&self, interface: u32) -> bool {
        let pinned = self.open(interface).is_some_and(|pinned| pinned.is_attached);
        pinned || clsact::is_attached(interface, &self.filter).unwrap_or(false)
    }

    /// Takes it off all interfaces but some, and removes its pins there. `machine`: the indices of
    /// all interfaces.
    pub fn release_others(&self, machine: &[u32], kept: &[u32]) -> io::Result<()> {
        for interface in self.pins()?.into_iter().filter(|interface| !kept.contains(interface)) {
            self.release(interface)?;
        }
        for interface in machine.iter().filter(|interface| !kept.contains(interface)) {
            clsact::detach(*interface, &self.filter).map_err(|refusal| io::Error::from(refusal.errno))?;
        }
        Ok(())
    }

    /// Takes it off all interfaces, and removes all pins of it.
    pub fn remove(&self, machine: &[u32]) -> io::Result<()> {
        self.release_others(machine, &[])?;
        unlink(&self.folder.join(PROGRAM))
    }

    /// The kernel detaches at once when a descriptor is the last to go, but some time later when a
    /// pin is.
    fn release(&self, interface: u32) -> io::Result<()> {
        let pinned = self.open(interface);
        let unlinked = unlink(&self.link(interface));
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

fn unlink(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A change, which can be undone until it is dropped.
pub struct Change<'h> {
    home: &'h Home,
    /// The pinned program, which ran before.
    former: Option<OwnedFd>,
    /// Links that had the former program.
    updated: Vec<PinnedLink>,
    new: Vec<(u32, OwnedFd)>,
    /// Interfaces with a filter, and whether it was there before.
    filters: Vec<(u32, bool)>,
    is_program_pinned: bool,
}

impl<'h> Change<'h> {
    pub fn new(home: &'h Home) -> Self {
        let (updated, new, filters) = (Vec::new(), Vec::new(), Vec::new());
        Self { home, former: home.program(), updated, new, filters, is_program_pinned: false }
    }

    /// Puts a program on an interface, in the place of the one that is there.
    pub fn attach(&mut self, program: BorrowedFd<'_>, interface: u32) -> Result<(), Unseen> {
        let pinned = self.home.open(interface).filter(|pinned| pinned.is_attached);
        if let Some(pinned) = pinned
            && bpf::update_link(pinned.link.as_fd(), program).is_ok()
        {
            self.updated.push(pinned);
            return Ok(());
        }
        match bpf::create_tcx_link(program, interface) {
            Ok(link) => {
                self.new.push((interface, link));
                // One that a former kernel needed.
                clsact::detach(interface, &self.home.filter).ok();
                return Ok(());
            }
            // A kernel without such links knows neither the program's place nor, before, the flag.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                return Err(Unseen { interface, cause: Cause::Kernel(errno.into()) });
            }
        }
        let attached = clsact::attach(interface, &self.home.filter, program);
        let was_there = attached.map_err(|refusal| Unseen { interface, cause: Cause::Kernel(refusal) })?;
        self.filters.push((interface, was_there));
        Ok(())
    }

    /// Pins the links that are new.
    pub fn pin_links(&self) -> Result<(), Unseen> {
        for (interface, link) in &self.new {
            let pinned = pin(&self.home.link(*interface), link.as_fd());
            pinned.map_err(|error| Unseen { interface: *interface, cause: Cause::Pin(error) })?;
        }
        Ok(())
    }

    /// Pins them, and the program in the place of the former one.
    pub fn pin(&mut self, program: BorrowedFd<'_>) -> Result<(), Unseen> {
        self.pin_links()?;
        self.is_program_pinned = true;
        let pinned = pin(&self.home.folder.join(PROGRAM), program);
        pinned.map_err(|error| Unseen { interface: 0, cause: Cause::Pin(error) })
    }

    /// The former program is where it was, and no other.
    pub fn undo(self) {
        for (interface, link) in self.new {
            unlink(&self.home.link(interface)).ok();
            drop(link);
        }
        let former = self.former.as_ref();
        for pinned in &self.updated {
            if let Some(former) = former {
                bpf::update_link(pinned.link.as_fd(), former.as_fd()).ok();
            } else {
                unlink(&self.home.link(pinned.interface)).ok();
            }
        }
        for (interface, was_there) in self.filters {
            match former.filter(|_| was_there) {
                Some(former) => clsact::attach(interface, &self.home.filter, former.as_fd()),
                None => clsact::detach(interface, &self.home.filter),
            }
            .ok();
        }
        if self.is_program_pinned {
            let path = self.home.folder.join(PROGRAM);
            match former {
                Some(former) => pin(&path, former.as_fd()),
                None => unlink(&path),
            }
            .ok();
        }
    }
}

/// In the place of what is pinned there.
fn pin(path: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    unlink(path).and_then(|()| bpf::pin(object, path))
}
