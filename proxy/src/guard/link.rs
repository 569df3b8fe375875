//! The program on its interfaces: a change of what holds it there, which can be undone.

use std::os::fd::AsFd as _;

use rustix::io::Errno;

use super::attachment::{self, Attachment, Programs, Refused};
use super::error::Error;
use super::interface::{Interface, ModeRefusal, Xdp};
use super::kernel_drops;
use super::netdev::{self, Device};
use super::netlink::Refusal;
use super::occupant;
use super::pins::Folder;
use crate::config::XdpMode;

/// Removes everything that hookgate put in a folder, links first, and the folder. The interfaces
/// whose links it held.
///
/// Errors: also that other programs' files keep the folder; hookgate's are gone then.
pub fn remove(folder: &Folder) -> Result<Vec<String>, Error> {
    let mut released = Vec::new();
    for interface in folder.links()? {
        // A file that only has the name of a link is another program's.
        if let Ok(pinned) = Attachment::open(folder, interface) {
            released.push(pinned.interface.name.clone());
            pinned.release(folder)?;
        }
    }
    let machine = netdev::list().map_err(Error::Netlink)?;
    attachment::release_strays(folder, &machine, &[])?;
    folder.remove_answers(&machine)?;
    kernel_drops::release(folder)?;
    folder.remove_without_links(released)
}

/// A change of the links, which can be undone until [`Links::finish`].
pub struct Links<'f> {
    folder: &'f Folder,
    /// All devices of this network namespace.
    devices: &'f [Device],
    /// The pinned programs, which ran before.
    former: Option<Programs>,
    /// Links that are neither kept nor released yet.
    pinned: Vec<Attachment>,
    /// Links that stay, and the names that their interfaces have now.
    kept: Vec<(Attachment, String)>,
    new: Vec<Attachment>,
    /// Links that were released to make room for a new one, and their interfaces' indices.
    released: Vec<(Interface, u32)>,
}

impl<'f> Links<'f> {
    /// `devices`: all of this network namespace.
    ///
    /// Errors: a link holds the program on an interface of another one.
    pub fn new(folder: &'f Folder, devices: &'f [Device]) -> Result<Self, Error> {
        let pinned = attachment::pinned(folder)?;
        let is_here = |own: &&Attachment| devices.iter().any(|device| own.is_on(device));
        let mut elsewhere = pinned.iter().filter(|own| own.is_attached() && !is_here(own));
        if let Some(elsewhere) = elsewhere.next() {
            let interface = elsewhere.interface.name.clone();
            return Err(Error::OtherNamespace { folder: folder.path().into(), interface });
        }
        let former = Programs::pinned(folder);
        let (kept, new, released) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { folder, devices, former, pinned, kept, new, released })
    }

    /// Keeps the link that holds the program on this interface, in a mode that suits; whether there
    /// is one.
    pub fn keep(&mut self, device: &Device, suits: impl Fn(Xdp) -> bool) -> bool {
        let is_on = |own: &Attachment| own.index() == Some(device.index) && suits(own.interface.xdp);
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
    pub fn attach(&mut self, programs: &Programs, device: &Device, wanted: XdpMode) -> Result<(), Error> {
        occupant::ensure_no_other_guard(self.folder, device)?;
        while let Some(at) = self.pinned.iter().position(|own| self.is_in_the_way(own, device)) {
            let own = self.pinned.swap_remove(at);
            let former = (own.interface.clone(), own.index().unwrap_or_default());
            own.release(self.folder)?;
            self.released.push(former);
        }
        let attached = match wanted {
            XdpMode::Native => self.attach_as(programs, device, None, Xdp::Native, &[]),
            // A kernel that takes no program for tc. Generic resets no card either.
            XdpMode::Tc if programs.tc.is_err() && device.has_ethernet() => {
                self.attach_as(programs, device, None, Xdp::Tc, &[Xdp::Generic])
            }
            XdpMode::Tc => self.attach_as(programs, device, None, Xdp::Tc, &[]),
            XdpMode::Generic => self.attach_as(programs, device, None, Xdp::Generic, &[]),
            XdpMode::Auto if device.has_ethernet() => {
                self.attach_as(programs, device, None, Xdp::Native, &[Xdp::Tc, Xdp::Generic])
            }
            XdpMode::Auto => self.attach_as(programs, device, Some(NO_ETHERNET.into()), Xdp::Tc, &[]),
        }?;
        self.new.push(attached);
        Ok(())
    }

    /// Puts the program on an interface in a mode, else in the first of the `worse` ones that the
    /// kernel takes. `reason`: why it is no better one.
    fn attach_as(
        &self,
        programs: &Programs,
        device: &Device,
        reason: Option<String>,
        xdp: Xdp,
        worse: &[Xdp],
    ) -> Result<Attachment, Error> {
        match (attach_one(self.folder, programs, device, xdp), worse) {
            (Ok(mut attached), _) => {
                attached.interface.reason = reason;
                Ok(attached)
            }
            (Err(Error::Attach { why, .. }), [next, worse @ ..]) => {
                let reason =
                    reason.map_or_else(|| why.to_string(), |better| format!("{better}; {xdp}: {why}"));
                self.attach_as(programs, device, Some(reason), *next, worse)
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The kernel takes one mode at a time, and no program below another.
    fn is_in_the_way(&self, own: &Attachment, device: &Device) -> bool {
        let Some(index) = own.index() else { return false };
        let its = self.devices.iter().find(|device| device.index == index);
        index == device.index || its.is_some_and(|its| netdev::is_above(self.devices, its, device))
    }

    /// Puts the program in the place of the one that ran before, where a link is kept.
    pub fn replace(&self, programs: &Programs) -> Result<(), Error> {
        for (own, _) in &self.kept {
            let updated = own.update(programs, self.devices);
            updated.map_err(|source| Error::Link { path: self.folder.link(&own.interface), source })?;
        }
        Ok(())
    }

    /// Pins what is new.
    pub fn pin(&self) -> Result<(), Error> {
        for (own, name) in self.kept.iter().filter(|(own, name)| own.interface.name != *name) {
            own.rename(self.folder, name)?;
        }
        self.new.iter().try_for_each(|attached| attached.pin(self.folder))
    }

    /// The indices of the interfaces on which it is before anything is decided.
    pub fn indices(&self) -> Vec<u32> {
        self.pinned.iter().filter_map(Attachment::index).collect()
    }

    /// The interfaces on which the program was not before.
    pub fn added(&self) -> Vec<Interface> {
        self.new.iter().map(|attached| attached.interface.clone()).collect()
    }

    /// Leaves all other links as they are. Returns the interfaces that were kept or added.
    pub fn leave(self) -> Vec<Interface> {
        self.decided().1
    }

    /// Releases all other links. Returns the interfaces that were kept or added.
    pub fn finish(self) -> Result<Vec<Interface>, Error> {
        let (folder, devices) = (self.folder, self.devices);
        let (others, interfaces) = self.decided();
        let is_taken = |path| interfaces.iter().any(|interface| folder.link(interface) == path);
        for old in others {
            if !is_taken(folder.link(&old.interface)) {
                old.release(folder)?;
            }
        }
        attachment::release_strays(folder, devices, &interfaces)?;
        Ok(interfaces)
    }

    /// The other links, and the interfaces that were kept or added.
    fn decided(self) -> (Vec<Attachment>, Vec<Interface>) {
        let kept = self.kept.into_iter().map(|(own, name)| own.named(&name));
        (self.pinned, kept.chain(self.new.into_iter().map(|new| new.interface)).collect())
    }

    /// Restores the former links after `cause`. Returns the error to report.
    pub fn undo(mut self, cause: Error) -> Error {
        for attached in std::mem::take(&mut self.new) {
            attached.release(self.folder).ok();
        }
        for own in self.pinned.iter().filter(|own| !self.folder.link(&own.interface).exists()) {
            own.pin(self.folder).ok();
        }
        if let Some(former) = &self.former {
            self.replace(former).ok();
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
            let Some(device) = self.devices.iter().find(|device| device.index == index) else { continue };
            let mut attached = attach_one(self.folder, former, device, interface.xdp)?;
            attached.interface = interface;
            attached.pin(self.folder)?;
        }
        Ok(())
    }
}

/// Why `auto` takes tc where frames have no Ethernet header.
const NO_ETHERNET: &str = "its packets have no Ethernet header, which XDP needs";

fn attach_one(folder: &Folder, programs: &Programs, device: &Device, xdp: Xdp) -> Result<Attachment, Error> {
    let interface = device.name.clone();
    Attachment::create(folder, programs, device, xdp).map_err(|refused| match refused {
        Refused::Kernel(refusal) if xdp != Xdp::Tc && matches!(refusal.errno, Errno::BUSY | Errno::EXIST) => {
            occupant::in_the_way_of(device)
        }
        Refused::Kernel(refusal) => {
            let asked = (xdp == Xdp::Native).then(|| netdev::why_not_native(device, programs.xdp.as_fd()));
            let refusal = asked.flatten().unwrap_or(refusal);
            Error::Attach { interface, xdp, why: ModeRefusal { xdp, refusal } }
        }
        Refused::NoProgram(why) => {
            let refusal = Refusal { errno: Errno::NOENT, words: Some(why) };
            Error::Attach { interface, xdp, why: ModeRefusal { xdp, refusal } }
        }
    })
}

/// Whether a link in that mode is what the configuration asks for. `auto` keeps what it once found
/// possible.
pub fn suits(wanted: XdpMode, is: Xdp) -> bool {
    match wanted {
        XdpMode::Auto => true,
        XdpMode::Native => is == Xdp::Native,
        XdpMode::Tc => is == Xdp::Tc,
        XdpMode::Generic => is == Xdp::Generic,
    }
}
