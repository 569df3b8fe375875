//! What holds a program on an interface that it filters: a link, or a filter in clsact. It is
//! pinned under the interface's name, so that it outlives this process.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use hookgate_ebpf::tc::INCOMING;
use rustix::io::Errno;

use super::clsact::{self, Place};
use super::error::Error;
use super::interface::{Interface, Xdp};
use super::netdev::{self, Device};
use super::netlink::Refusal;
use super::pins::Folder;
use super::program::Program;
use super::{reason, tc};
use crate::sys::bpf::{self, Direction, LinkInfo};

/// The programs that may filter what comes in.
pub struct Programs {
    pub xdp: OwnedFd,
    /// Or why there is none.
    pub tc: Result<tc::Programs, String>,
}

impl Programs {
    /// Without tc's the others do, where they can.
    pub fn load(program: &mut Program) -> Result<Self, Error> {
        let tc = program.load_tc(INCOMING).map_err(|error| error.in_a_line());
        let xdp = program.xdp()?.fd().and_then(|fd| Ok(fd.as_fd().try_clone_to_owned()?));
        Ok(Self { xdp: xdp.map_err(|error| Error::from_loading(error.into()))?, tc })
    }

    /// Pins tc's for interfaces that come later.
    pub fn pin(&self, folder: &Folder) -> Result<(), Error> {
        match &self.tc {
            Ok(tc) => tc.pin(folder.path(), INCOMING),
            Err(_) => INCOMING.iter().try_for_each(|name| tc::unlink(&folder.path().join(name))),
        }
        .map_err(|source| Error::Folder {
            doing: "pin programs in",
            path: folder.path().into(),
            source,
        })
    }

    /// The pinned ones; `None`: there are none, or no permission.
    pub fn pinned(folder: &Folder) -> Option<Self> {
        let xdp = bpf::open_program(&folder.program()).ok()?;
        let tc = tc::Programs::pinned(folder.path(), INCOMING);
        Some(Self { xdp, tc: tc.ok_or_else(|| "the guard was attached without its tc program".into()) })
    }
}

/// A program on an interface.
pub struct Attachment {
    pub interface: Interface,
    hold: Hold,
}

enum Hold {
    Xdp(OwnedFd, LinkInfo),
    Tcx(OwnedFd, LinkInfo),
    /// No descriptor holds a filter. Instead of a link, its interface's index is pinned, as text.
    Filter {
        index: u32,
        name: String,
    },
}

/// Why a program is not on an interface.
pub enum Refused {
    /// The kernel says no.
    Kernel(Refusal),
    /// There is no program for that mode.
    NoProgram(String),
}

impl Attachment {
    /// Puts a program on an interface. It must be pinned, or released.
    pub fn create(folder: &Folder, programs: &Programs, device: &Device, xdp: Xdp) -> Result<Self, Refused> {
        let errno =
            |error: io::Error| Refused::Kernel(Errno::from_io_error(&error).unwrap_or(Errno::IO).into());
        let hold = match xdp {
            Xdp::Native | Xdp::Generic => {
                let link = bpf::create_xdp_link(programs.xdp.as_fd(), device.index, flags(xdp));
                let link = link.map_err(errno)?;
                let info = bpf::xdp_link_info(link.as_fd()).map_err(errno)?;
                Hold::Xdp(link, info)
            }
            Xdp::Tc => {
                let programs = programs.tc.as_ref().map_err(|why| Refused::NoProgram(why.clone()))?;
                let (index, name) = (device.index, filter_name(folder));
                let place = Place { interface: index, direction: Direction::In, name: &name };
                match tc::attach(place, programs.of(device.has_ethernet())).map_err(Refused::Kernel)? {
                    tc::Hold::Link(link) => {
                        let info = bpf::tcx_link_info(link.as_fd()).map_err(errno)?;
                        Hold::Tcx(link, info)
                    }
                    tc::Hold::Filter { .. } => Hold::Filter { index, name },
                }
            }
        };
        Ok(Self { interface: Interface { name: device.name.clone(), xdp, reason: None }, hold })
    }

    /// Errors: what is pinned there holds no program.
    pub fn open(folder: &Folder, interface: Interface) -> Result<Self, Error> {
        let path = folder.link(&interface);
        let hold = open(&path, folder, interface.xdp).map_err(|source| Error::Link { path, source })?;
        let reason = reason::read(folder, &interface.name).filter(|_| interface.xdp != Xdp::Native);
        Ok(Self { interface: Interface { reason, ..interface }, hold })
    }

    /// Whether there still is an interface that it holds the program on.
    pub fn is_attached(&self) -> bool {
        self.index().is_some()
    }

    /// That interface's index.
    pub fn index(&self) -> Option<u32> {
        match &self.hold {
            Hold::Xdp(_, info) | Hold::Tcx(_, info) => info.interface,
            Hold::Filter { index, name } => {
                let place = Place { interface: *index, direction: Direction::In, name };
                clsact::is_attached(place).unwrap_or(false).then_some(*index)
            }
        }
    }

    /// Whether it is on this interface. Indices mean something in one network namespace alone, so
    /// the program must be there.
    pub fn is_on(&self, device: &Device) -> bool {
        if self.index() != Some(device.index) {
            return false;
        }
        match &self.hold {
            Hold::Xdp(_, info) => device.program.is_some_and(|program| program.id == info.program),
            Hold::Tcx(_, info) => bpf::tcx_programs(device.index, Direction::In)
                .is_ok_and(|programs| programs.contains(&info.program)),
            Hold::Filter { .. } => true,
        }
    }

    /// Puts another program in the place of the one that runs, in one step. `devices`: all of this
    /// network namespace.
    pub fn update(&self, programs: &Programs, devices: &[Device]) -> io::Result<()> {
        let updated = match &self.hold {
            Hold::Xdp(link, _) => bpf::update_link(link.as_fd(), programs.xdp.as_fd()),
            Hold::Tcx(..) | Hold::Filter { .. } => {
                let index = self.index();
                let Some(device) = devices.iter().find(|device| Some(device.index) == index) else {
                    return Ok(()); // It has gone meanwhile.
                };
                let programs = programs.tc.as_ref().map_err(|why| io::Error::other(why.clone()))?;
                self.update_tc(programs.of(device.has_ethernet()))
            }
        };
        match updated {
            // The same.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOLINK) => Ok(()),
            updated => updated,
        }
    }

    fn update_tc(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        match &self.hold {
            Hold::Xdp(link, _) | Hold::Tcx(link, _) => bpf::update_link(link.as_fd(), program),
            Hold::Filter { index, name } => {
                let place = Place { interface: *index, direction: Direction::In, name };
                clsact::attach(place, program).map(drop).map_err(|refusal| refusal.errno.into())
            }
        }
    }

    /// Pins it under the name of its interface, in the place of what has that name: of an interface
    /// that is gone, or has another name now.
    pub fn pin(&self, folder: &Folder) -> Result<(), Error> {
        let path = folder.link(&self.interface);
        folder.unlink(&path)?;
        match &self.hold {
            Hold::Xdp(link, _) | Hold::Tcx(link, _) => {
                bpf::pin(link.as_fd(), &path).map_err(|source| Error::Link { path, source })?;
            }
            Hold::Filter { index, .. } => reason::write(&path, &index.to_string())?,
        }
        reason::keep(folder, &self.interface);
        Ok(())
    }

    /// Moves the pin to the name that its interface has now.
    pub fn rename(&self, folder: &Folder, name: &str) -> Result<(), Error> {
        // The reason, if any, is only words.
        fs::rename(folder.reason(&self.interface.name), folder.reason(name)).ok();
        let (from, to) = (folder.link(&self.interface), folder.link(&self.named(name)));
        fs::rename(from, &to).map_err(|source| Error::Folder { doing: "rename to", path: to, source })
    }

    pub fn named(&self, name: &str) -> Interface {
        Interface { name: name.to_owned(), ..self.interface.clone() }
    }

    /// Takes the program off its interface, if it still is on one. Done when this returns: the
    /// kernel detaches at once when a descriptor is the last to go, but some time later when a pin
    /// is.
    pub fn release(self, folder: &Folder) -> Result<(), Error> {
        folder.unlink(&folder.link(&self.interface))?;
        if self.interface.xdp != Xdp::Native {
            folder.unlink(&folder.reason(&self.interface.name))?;
        }
        self.detach().map_err(Error::Netlink)
    }

    /// The same without touching pins.
    pub fn detach(self) -> io::Result<()> {
        let Hold::Filter { index, name } = &self.hold else { return Ok(()) };
        let place = Place { interface: *index, direction: Direction::In, name };
        clsact::detach(place).map(drop).map_err(|refusal| refusal.errno.into())
    }

    /// The command that takes it off its interface.
    pub fn removal(&self) -> String {
        match &self.hold {
            Hold::Xdp(_, info) | Hold::Tcx(_, info) => format!("bpftool link detach id {}", info.link),
            Hold::Filter { index, name } => {
                let place = Place { interface: *index, direction: Direction::In, name };
                clsact::removal(place, &self.interface.name).unwrap_or_default()
            }
        }
    }
}

fn open(path: &Path, folder: &Folder, xdp: Xdp) -> io::Result<Hold> {
    let link = bpf::open_link(path)?;
    if xdp != Xdp::Tc {
        let info = bpf::xdp_link_info(link.as_fd())?;
        return Ok(Hold::Xdp(link, info));
    }
    if let Ok(info) = bpf::tcx_link_info(link.as_fd()) {
        return Ok(Hold::Tcx(link, info));
    }
    let index = reason::read_text(path).and_then(|text| text.parse().ok());
    let index = index.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no link of a tc program"))?;
    Ok(Hold::Filter { index, name: filter_name(folder) })
}

/// What holds the programs of a folder, also where interfaces are gone.
pub fn pinned(folder: &Folder) -> Result<Vec<Attachment>, Error> {
    folder.links()?.into_iter().map(|interface| Attachment::open(folder, interface)).collect()
}

/// The interfaces on which the program of a folder is.
pub fn attached(folder: &Folder) -> Result<Vec<Interface>, Error> {
    let attached = pinned(folder)?.into_iter().filter(Attachment::is_attached);
    Ok(attached.map(|pinned| pinned.interface).collect())
}

/// Takes filters off interfaces of which nothing is pinned: those of an attach that was killed.
/// `kept`: the interfaces that keep theirs.
pub fn release_strays(folder: &Folder, devices: &[Device], kept: &[Interface]) -> Result<(), Error> {
    let name = filter_name(folder);
    let is_kept = |device: &Device| {
        kept.iter().any(|interface| interface.xdp == Xdp::Tc && interface.name == device.name)
    };
    for device in devices.iter().filter(|device| !is_kept(device)) {
        let place = Place { interface: device.index, direction: Direction::In, name: &name };
        clsact::detach(place).map_err(|refusal| Error::Netlink(refusal.errno.into()))?;
    }
    Ok(())
}

/// What the program's filters are called in clsact.
fn filter_name(folder: &Folder) -> String {
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{name}/{}", INCOMING[0])
}

fn flags(xdp: Xdp) -> u32 {
    if xdp == Xdp::Generic { netdev::XDP_FLAGS_SKB_MODE } else { netdev::XDP_FLAGS_DRV_MODE }
}
