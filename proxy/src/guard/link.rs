//! The program on its interfaces: a link each, pinned, so that it outlives this process and can be updated in place.

use std::fs;
use std::io::{self, ErrorKind};

use aya::programs::ProgramError;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::{XdpError, XdpLink, XdpMode};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::holder::Holder;
use super::netdev::Device;
use super::pins::Folder;
use super::program::Program;
use super::{Error, Interface, netdev};
use crate::config;

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Xdp {
    /// In the interface's driver.
    Native,
    /// In the network stack, for any interface.
    Generic,
}

impl std::fmt::Display for Xdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// The program on one interface. A link that is new goes with this value unless it is pinned.
pub struct Attachment {
    pub interface: Interface,
    new: Option<FdLink>,
}

/// Puts the program on each interface. On an error those that are new let go again.
pub fn attach_all(
    program: &mut Program,
    config: &config::Guard,
    folder: &Folder,
) -> Result<Vec<Attachment>, Error> {
    let devices = config.interfaces.iter().map(|name| netdev::find(name)).collect::<Result<Vec<_>, _>>()?;
    let pinned = folder.links()?;
    let attachments = devices.iter().map(|device| {
        for old in pinned.iter().filter(|old| old.name == device.name) {
            if suits(config.xdp, old.xdp) && update(program, folder, old, device.index)? {
                return Ok(Attachment { interface: old.clone(), new: None });
            }
            release(folder, old)?;
        }
        attach(program, device, config.xdp)
    });
    attachments.collect()
}

/// Pins what is new, and lets go of interfaces that are no longer named.
pub fn pin_all(attachments: Vec<Attachment>, folder: &Folder) -> Result<(), Error> {
    let kept: Vec<Interface> = attachments.iter().map(|attachment| attachment.interface.clone()).collect();
    for Attachment { interface, new } in attachments {
        let path = folder.link(&interface);
        if let Some(link) = new {
            link.pin(&path).map_err(|source| Error::Pin { path, source })?;
        }
    }
    for old in folder.links()?.iter().filter(|old| !kept.contains(old)) {
        release(folder, old)?;
    }
    Ok(())
}

/// Takes a pinned link's program off its interface, if it still is on one. Done when this returns: the kernel detaches
/// at once when a descriptor is the last to go, but some time later when a pin is.
pub fn release(folder: &Folder, interface: &Interface) -> Result<(), Error> {
    let path = folder.link(interface);
    let link = PinnedLink::from_pin(&path).map_err(|source| Error::Link { path: path.clone(), source })?;
    folder.unlink(&path)?;
    drop(link);
    Ok(())
}

/// The index of the interface on which a pinned link holds the program; `None` when that is gone.
pub fn interface_index(folder: &Folder, interface: &Interface) -> Result<Option<u32>, Error> {
    let path = folder.link(interface);
    let of_link = |link: PinnedLink| {
        let link = FdLink::from(link);
        let id = link.info()?.id();
        index_from_fdinfo(id).map_err(|io_error| {
            LinkError::SyscallError(aya::sys::SyscallError { call: "read /proc/self/fdinfo", io_error })
        })
    };
    PinnedLink::from_pin(&path).and_then(of_link).map_err(|source| Error::Link { path, source })
}

/// The kernel tells a link's interface to its holders, in the descriptor's own description.
fn index_from_fdinfo(link_id: u32) -> io::Result<Option<u32>> {
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let text = match fs::read_to_string(entry?.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue, // closed meanwhile
            text => text?,
        };
        if field(&text, "link_id") == Some(link_id) {
            return Ok(field(&text, "ifindex").filter(|&index| index != 0));
        }
    }
    Ok(None)
}

fn field(fdinfo: &str, name: &str) -> Option<u32> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().parse().ok()
}

/// Puts the program in place of the one that a pinned link holds. False when that link no longer is on this interface.
fn update(program: &mut Program, folder: &Folder, old: &Interface, index: u32) -> Result<bool, Error> {
    if interface_index(folder, old)? != Some(index) {
        return Ok(false);
    }
    let path = folder.link(old);
    let link = PinnedLink::from_pin(&path).map(FdLink::from).and_then(XdpLink::try_from);
    let link = link.map_err(|source| Error::Link { path, source })?;
    let xdp = program.xdp()?;
    match xdp.attach_to_link(link).and_then(|id| xdp.take_link(id)) {
        Ok(_) => Ok(true),                                               // the pin keeps it
        Err(error) if errno(&error) == Some(Errno::NOLINK) => Ok(false), // gone since we looked
        Err(source) => Err(Error::Attach { interface: old.name.clone(), xdp: old.xdp, source }),
    }
}

fn attach(program: &mut Program, device: &Device, wanted: config::XdpMode) -> Result<Attachment, Error> {
    match wanted {
        config::XdpMode::Native => attach_as(program, device, Xdp::Native),
        config::XdpMode::Generic => attach_as(program, device, Xdp::Generic),
        config::XdpMode::Auto => match attach_as(program, device, Xdp::Native) {
            Err(Error::Attach { .. }) => attach_as(program, device, Xdp::Generic),
            decided => decided,
        },
    }
}

fn attach_as(program: &mut Program, device: &Device, mode: Xdp) -> Result<Attachment, Error> {
    let flags = match mode {
        Xdp::Native => XdpMode::Driver,
        Xdp::Generic => XdpMode::Skb,
    };
    let xdp = program.xdp()?;
    let link = xdp.attach_to_if_index(device.index, flags).and_then(|id| xdp.take_link(id));
    let link = link.map_err(|source| match errno(&source) {
        Some(Errno::BUSY | Errno::EXIST) => {
            Error::Held { interface: device.name.clone(), holder: Holder::of(device.index) }
        }
        _ => Error::Attach { interface: device.name.clone(), xdp: mode, source },
    })?;
    let link = FdLink::try_from(link).map_err(|_| Error::NoLinks)?;
    Ok(Attachment { interface: Interface { name: device.name.clone(), xdp: mode }, new: Some(link) })
}

/// Whether a link in that mode is what the configuration asks for. `auto` keeps what it once found possible.
fn suits(wanted: config::XdpMode, is: Xdp) -> bool {
    match wanted {
        config::XdpMode::Auto => true,
        config::XdpMode::Native => is == Xdp::Native,
        config::XdpMode::Generic => is == Xdp::Generic,
    }
}

fn errno(error: &ProgramError) -> Option<Errno> {
    let raw = match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    };
    raw.map(Errno::from_raw_os_error)
}
