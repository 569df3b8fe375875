//! The program on its interfaces: a link each, pinned, so that it outlives this process and can be
//! updated in place.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::error::Error;
use super::interface::{Interface, ModeRefusal, Xdp};
use super::netdev::{self, Device};
use super::pins::Folder;
use super::{kernel_drops, occupant, reason};
use crate::config;
use crate::sys::bpf::{self, LinkInfo};

/// A pinned link.
pub struct PinnedLink {
    pub interface: Interface,
    link: OwnedFd,
    info: LinkInfo,
}

impl PinnedLink {
    /// Whether there still is an interface that it holds the program on.
    pub fn is_attached(&self) -> bool {
        self.index().is_some()
    }

    /// That interface's index.
    pub fn index(&self) -> Option<u32> {
        self.info.interface
    }
}

/// The pinned links, also those whose interfaces are gone.
pub fn pinned(folder: &Folder) -> Result<Vec<PinnedLink>, Error> {
    folder.links()?.into_iter().map(|interface| open(folder, interface)).collect()
}

/// Errors: what is pinned there is no link of an XDP program.
pub fn open(folder: &Folder, interface: Interface) -> Result<PinnedLink, Error> {
    let path = folder.link(&interface);
    let link = bpf::open_link(&path).and_then(|link| Ok((bpf::xdp_link_info(link.as_fd())?, link)));
    let (info, link) = link.map_err(|source| Error::Link { path, source })?;
    let reason = reason::read(folder, &interface.name).filter(|_| interface.xdp == Xdp::Generic);
    Ok(PinnedLink { interface: Interface { reason, ..interface }, link, info })
}

/// The interfaces on which pinned links hold the program.
pub fn attached(folder: &Folder) -> Result<Vec<Interface>, Error> {
    let attached = pinned(folder)?.into_iter().filter(PinnedLink::is_attached);
    Ok(attached.map(|pinned| pinned.interface).collect())
}

/// Takes a pinned link's program off its interface, if it still is on one. Done when this returns:
/// the kernel detaches at once when a descriptor is the last to go, but some time later when a pin
/// is.
pub fn release(folder: &Folder, pinned: PinnedLink) -> Result<(), Error> {
    folder.unlink(&folder.link(&pinned.interface))?;
    if pinned.interface.xdp == Xdp::Generic {
        folder.unlink(&folder.reason(&pinned.interface.name))?;
    }
    drop(pinned);
    Ok(())
}

/// Removes everything that hookgate put in a folder, links first, and the folder. The interfaces
/// whose links it held.
///
/// Errors: also that other programs' files keep the folder; hookgate's are gone then.
pub fn remove(folder: &Folder) -> Result<Vec<String>, Error> {
    let mut released = Vec::new();
    for interface in folder.links()? {
        // A file that only has the name of a link is another program's.
        if let Ok(pinned) = open(folder, interface) {
            released.push(pinned.interface.name.clone());
            release(folder, pinned)?;
        }
    }
    folder.remove_answers(&netdev::list().map_err(Error::Netlink)?)?;
    kernel_drops::release(folder)?;
    folder.remove_without_links(released)
}

/// A change of the links, which can be undone until [`Links::finish`].
pub struct Links<'f> {
    folder: &'f Folder,
    /// All devices of this network namespace.
    devices: &'f [Device],
    /// The pinned program, which ran before.
    former: Option<OwnedFd>,
    /// Links that are neither kept nor released yet.
    pinned: Vec<PinnedLink>,
    /// Links that stay, and the names that their interfaces have now.
    kept: Vec<(PinnedLink, String)>,
    new: Vec<(Interface, OwnedFd)>,
    /// Links that were released to make room for a new one, and their interfaces' indices.
    released: Vec<(Interface, u32)>,
}

impl<'f> Links<'f> {
    /// `devices`: all of this network namespace.
    ///
    /// Errors: a link holds the program on an interface of another one.
    pub fn new(folder: &'f Folder, devices: &'f [Device]) -> Result<Self, Error> {
        let pinned = pinned(folder)?;
        // Indices of interfaces mean something in one namespace alone.
        let runs = |device: &Device, info: &LinkInfo| {
            Some(device.index) == info.interface
                && device.program.is_some_and(|program| program.id == info.program)
        };
        let is_here = |pinned: &&PinnedLink| devices.iter().any(|device| runs(device, &pinned.info));
        if let Some(elsewhere) = pinned.iter().filter(|pinned| pinned.is_attached()).find(|own| !is_here(own))
        {
            let interface = elsewhere.interface.name.clone();
            return Err(Error::OtherNamespace { folder: folder.path().into(), interface });
        }
        let former = bpf::open_program(&folder.program()).ok();
        let (kept, new, released) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { folder, devices, former, pinned, kept, new, released })
    }

    /// Keeps the link that holds the program on this interface, in a mode that suits; whether there
    /// is one.
    pub fn keep(&mut self, device: &Device, suits: impl Fn(Xdp) -> bool) -> bool {
        let is_on = |own: &PinnedLink| own.info.interface == Some(device.index) && suits(own.interface.xdp);
        let Some(at) = self.pinned.iter().position(is_on) else { return false };
        self.kept.push((self.pinned.swap_remove(at), device.name.clone()));
        true
    }

    /// Keeps every link that holds the program on an interface.
    pub fn keep_all(&mut self) {
        for own in std::mem::take(&mut self.pinned) {
            let name = own.interface.name.clone();
            match own.is_attached() {
                true => self.kept.push((own, name)),
                false => self.pinned.push(own),
            }
        }
    }

    /// Puts the program on an interface, in place of a link in another mode.
    ///
    /// Errors: why it can't run there.
    pub fn attach(
        &mut self,
        program: BorrowedFd<'_>,
        device: &Device,
        wanted: config::XdpMode,
    ) -> Result<(), Error> {
        while let Some(at) = self.pinned.iter().position(|own| self.is_in_the_way(own, device)) {
            let own = self.pinned.swap_remove(at);
            let former = (own.interface.clone(), own.info.interface.unwrap_or_default());
            release(self.folder, own)?;
            self.released.push(former);
        }
        let (interface, link) = match wanted {
            config::XdpMode::Native => attach_as(program, device, Xdp::Native),
            config::XdpMode::Generic => attach_as(program, device, Xdp::Generic),
            config::XdpMode::Auto => match attach_as(program, device, Xdp::Native) {
                Err(Error::Attach { why, .. }) => {
                    attach_as(program, device, Xdp::Generic).map(|(interface, link)| {
                        (Interface { reason: Some(why.to_string()), ..interface }, link)
                    })
                }
                decided => decided,
            },
        }?;
        self.new.push((interface, link));
        Ok(())
    }

    /// The kernel takes one mode at a time, and no program below another.
    fn is_in_the_way(&self, own: &PinnedLink, device: &Device) -> bool {
        let Some(index) = own.info.interface else { return false };
        let its = self.devices.iter().find(|device| device.index == index);
        index == device.index || its.is_some_and(|its| netdev::is_above(self.devices, its, device))
    }

    /// Puts the program in the place of the one that ran before, where a link is kept.
    pub fn replace(&self, program: BorrowedFd<'_>) -> Result<(), Error> {
        for (own, _) in &self.kept {
            match bpf::update_link(own.link.as_fd(), program) {
                // The interface has gone meanwhile.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOLINK) => {}
                updated => updated.map_err(|source| self.failed(&own.interface, source))?,
            }
        }
        Ok(())
    }

    /// Pins what is new.
    pub fn pin(&self) -> Result<(), Error> {
        for (own, name) in self.kept.iter().filter(|(own, name)| own.interface.name != *name) {
            // The interface was renamed. Its reason, if any, is only words.
            fs::rename(self.folder.reason(&own.interface.name), self.folder.reason(name)).ok();
            let (from, to) = (self.folder.link(&own.interface), self.folder.link(&own.named(name)));
            fs::rename(from, &to).map_err(|source| Error::Folder { doing: "rename to", path: to, source })?;
        }
        for (interface, link) in &self.new {
            self.pin_one(interface, link)?;
        }
        Ok(())
    }

    fn pin_one(&self, interface: &Interface, link: &OwnedFd) -> Result<(), Error> {
        let path = self.folder.link(interface);
        // The pin of an interface that is gone, or has another name now.
        self.folder.unlink(&path)?;
        bpf::pin(link.as_fd(), &path).map_err(|source| self.failed(interface, source))?;
        reason::keep(self.folder, interface);
        Ok(())
    }

    /// The indices of the interfaces on which it is before anything is decided.
    pub fn indices(&self) -> Vec<u32> {
        self.pinned.iter().filter_map(PinnedLink::index).collect()
    }

    /// The interfaces on which the program was not before.
    pub fn added(&self) -> Vec<Interface> {
        self.new.iter().map(|(interface, _)| interface.clone()).collect()
    }

    /// Leaves all other links as they are. Returns the interfaces that were kept or added.
    pub fn leave(self) -> Vec<Interface> {
        self.decided().1
    }

    /// Releases all other links. Returns the interfaces that were kept or added.
    pub fn finish(self) -> Result<Vec<Interface>, Error> {
        let folder = self.folder;
        let (others, interfaces) = self.decided();
        let is_taken = |path| interfaces.iter().any(|interface| folder.link(interface) == path);
        for old in others {
            if !is_taken(folder.link(&old.interface)) {
                release(folder, old)?;
            }
        }
        Ok(interfaces)
    }

    /// The other links, and the interfaces that were kept or added.
    fn decided(self) -> (Vec<PinnedLink>, Vec<Interface>) {
        let kept = self.kept.into_iter().map(|(own, name)| own.named(&name));
        (self.pinned, kept.chain(self.new.into_iter().map(|(new, _)| new)).collect())
    }

    /// Restores the former links after `cause`. Returns the error to report.
    pub fn undo(mut self, cause: Error) -> Error {
        for (interface, link) in std::mem::take(&mut self.new) {
            self.folder.unlink(&self.folder.link(&interface)).ok();
            drop(link);
        }
        for own in &self.pinned {
            let path = self.folder.link(&own.interface);
            if !path.exists() {
                bpf::pin(own.link.as_fd(), &path).ok();
            }
        }
        if let Some(former) = &self.former {
            self.replace(former.as_fd()).ok();
        }
        self.put_back_after(cause)
    }

    /// Attaches again what was released. Returns the error to report after `cause`.
    pub fn put_back_after(&mut self, cause: Error) -> Error {
        match self.put_back() {
            Ok(()) => cause,
            Err(error) => error.after(cause),
        }
    }

    /// Attaches again what was released.
    fn put_back(&mut self) -> Result<(), Error> {
        let Some(former) = self.former.as_ref().filter(|_| !self.released.is_empty()) else { return Ok(()) };
        for (interface, index) in std::mem::take(&mut self.released) {
            let link = bpf::create_xdp_link(former.as_fd(), index, flags(interface.xdp));
            self.pin_one(&interface, &link.map_err(|source| self.failed(&interface, source))?)?;
        }
        Ok(())
    }

    fn failed(&self, interface: &Interface, source: std::io::Error) -> Error {
        Error::Link { path: self.folder.link(interface), source }
    }
}

impl PinnedLink {
    fn named(&self, name: &str) -> Interface {
        Interface { name: name.to_owned(), ..self.interface.clone() }
    }
}

fn attach_as(program: BorrowedFd<'_>, device: &Device, xdp: Xdp) -> Result<(Interface, OwnedFd), Error> {
    let link =
        bpf::create_xdp_link(program, device.index, flags(xdp)).map_err(
            |error| match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
                Errno::BUSY | Errno::EXIST => occupant::in_the_way_of(device),
                errno => {
                    let asked = (xdp == Xdp::Native).then(|| netdev::why_not_native(device, program));
                    let why = ModeRefusal(asked.flatten().unwrap_or(errno.into()));
                    Error::Attach { interface: device.name.clone(), xdp, why }
                }
            },
        )?;
    Ok((Interface { name: device.name.clone(), xdp, reason: None }, link))
}

fn flags(xdp: Xdp) -> u32 {
    match xdp {
        Xdp::Native => netdev::XDP_FLAGS_DRV_MODE,
        Xdp::Generic => netdev::XDP_FLAGS_SKB_MODE,
    }
}

/// Whether a link in that mode is what the configuration asks for. `auto` keeps what it once found
/// possible.
pub fn suits(wanted: config::XdpMode, is: Xdp) -> bool {
    match wanted {
        config::XdpMode::Auto => true,
        config::XdpMode::Native => is == Xdp::Native,
        config::XdpMode::Generic => is == Xdp::Generic,
    }
}
