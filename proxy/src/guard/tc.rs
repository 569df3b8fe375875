//! A tc program on an interface: held by a link from Linux 6.6 on, by a filter in clsact before.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;

use super::clsact::{self, Place};
use super::netlink::Refusal;
use crate::sys::bpf;

/// One program, for interfaces with Ethernet and for those without.
#[derive(Debug)]
pub struct Programs {
    pub ethernet: OwnedFd,
    pub bare: OwnedFd,
}

impl Programs {
    /// The pinned ones; `None`: there are none, or no permission.
    pub fn pinned(folder: &Path, names: [&str; 2]) -> Option<Self> {
        let [ethernet, bare] = names.map(|name| bpf::open_program(&folder.join(name)).ok());
        Some(Self { ethernet: ethernet?, bare: bare? })
    }

    /// Pins them in the place of the former ones.
    pub fn pin(&self, folder: &Path, names: [&str; 2]) -> io::Result<()> {
        let [ethernet, bare] = names.map(|name| folder.join(name));
        pin(&ethernet, self.ethernet.as_fd())?;
        pin(&bare, self.bare.as_fd())
    }

    pub fn of(&self, has_ethernet: bool) -> BorrowedFd<'_> {
        if has_ethernet { self.ethernet.as_fd() } else { self.bare.as_fd() }
    }
}

/// What holds a program on an interface.
pub enum Hold {
    Link(OwnedFd),
    /// `was_there`: it had another program before.
    Filter {
        was_there: bool,
    },
}

/// Puts a program in a place where no link of this hookgate's holds one.
pub fn attach(place: Place<'_>, program: BorrowedFd<'_>) -> Result<Hold, Refusal> {
    match bpf::create_tcx_link(program, place.interface, place.direction) {
        Ok(link) => {
            // One that a former kernel needed.
            clsact::detach(place).ok();
            Ok(Hold::Link(link))
        }
        // A kernel without such links knows neither the program's place nor, before, the flag.
        Err(error) if error.kind() == ErrorKind::InvalidInput => {
            clsact::attach(place, program).map(|was_there| Hold::Filter { was_there })
        }
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into()),
    }
}

/// In the place of what is pinned there.
pub fn pin(path: &Path, object: BorrowedFd<'_>) -> io::Result<()> {
    unlink(path).and_then(|()| bpf::pin(object, path))
}

/// Removes a file if it is there.
pub fn unlink(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
