//! Who has an XDP program on an interface.

use std::os::fd::AsFd as _;

use aya::programs::links::LinkType;
use aya::programs::{ProgramInfo, loaded_links, loaded_programs};

use super::attachment;
use super::error::Error;
use super::holder::Holder;
use super::netdev::{self, Device, XdpProgram};
use super::pins::Folder;
use crate::config::XdpMode;
use crate::sys::bpf;

/// Who is in the way of a guard in that mode, or is this guard.
///
/// Errors: no such interface here, or one that can't be guarded; also since another above it runs a
/// program.
pub fn holder(interface: &str, wanted: XdpMode) -> Result<Option<Holder>, Error> {
    let device = netdev::find(interface)?;
    if !device.has_ethernet() && !wanted.takes_bare_frames() {
        return Err(Error::NoEthernet { name: device.name });
    }
    if let Some(guard) = Folder::all().iter().find_map(|folder| guard_on(folder, &device)) {
        return Ok(Some(guard));
    }
    // Other programs come after tc's, or before.
    if wanted == XdpMode::Tc || !device.has_ethernet() {
        return Ok(None);
    }
    if let Some(program) = device.program {
        return Ok(Some(holder_on(&device, program)));
    }
    let devices = netdev::list().map_err(Error::Netlink)?;
    above(&devices, &device).map_or(Ok(None), Err)
}

/// Errors: the guard of another folder is on this interface. The kernel would let tc programs of
/// both count.
pub fn ensure_no_other_guard(own: &Folder, device: &Device) -> Result<(), Error> {
    let folders = Folder::all().into_iter().filter(|folder| folder.path() != own.path());
    match folders.into_iter().find_map(|folder| guard_on(&folder, device)) {
        Some(holder) => Err(Error::Held { interface: device.name.clone(), holder }),
        None => Ok(()),
    }
}

/// The guard of that folder, if it is on this interface.
fn guard_on(folder: &Folder, device: &Device) -> Option<Holder> {
    let pinned = attachment::pinned(folder).ok()?;
    let own = pinned.iter().find(|own| own.is_on(device))?;
    Some(Holder::Hookgate { folder: folder.path().into(), removal: own.removal() })
}

/// The error for an interface on which the kernel takes no program beside one that is there.
pub fn in_the_way_of(device: &Device) -> Error {
    let devices = netdev::list().unwrap_or_default();
    let interface = device.name.clone();
    let now = devices.iter().find(|now| now.index == device.index).unwrap_or(device);
    if let Some(program) = now.program {
        return Error::Held { interface, holder: holder_on(now, program) };
    }
    above(&devices, now).unwrap_or(Error::Held { interface, holder: Holder::Unknown })
}

/// The error for an interface below one that runs a program, if it is.
fn above(devices: &[Device], device: &Device) -> Option<Error> {
    let mut above = devices.iter().filter(|upper| netdev::is_above(devices, upper, device));
    let (upper, program) = above.find_map(|upper| Some((upper, upper.program?)))?;
    let (interface, holder) = (device.name.clone(), holder_on(upper, program));
    Some(Error::HeldAbove { interface, upper: upper.name.clone(), holder })
}

fn holder_on(device: &Device, program: XdpProgram) -> Holder {
    let XdpProgram { id, .. } = program;
    let removal = removal(device, program);
    let pinned = |folder: &Folder| ProgramInfo::from_pin(folder.program()).is_ok_and(|info| info.id() == id);
    if let Some(folder) = Folder::all().into_iter().find(pinned) {
        return Holder::Hookgate { folder: folder.path().into(), removal };
    }
    let info = loaded_programs().flatten().find(|info| info.id() == id);
    let name = info.as_ref().and_then(ProgramInfo::name_as_str).unwrap_or("without a name");
    Holder::Program { name: name.into(), id, removal }
}

/// The command that takes a program off an interface: a link's program goes with the link alone.
fn removal(device: &Device, XdpProgram { id, place }: XdpProgram) -> String {
    let is_on_device = |link: &u32| {
        let info = bpf::link_by_id(*link).and_then(|link| bpf::xdp_link_info(link.as_fd()));
        info.is_ok_and(|info| info.interface == Some(device.index))
    };
    let links = loaded_links().flatten();
    let of_program = links
        .filter(|link| link.program_id() == id && link.link_type().is_ok_and(|kind| kind == LinkType::Xdp));
    let mut ids = of_program.map(|link| link.id());
    match ids.find(is_on_device) {
        Some(link) => format!("bpftool link detach id {link}"),
        None => format!("ip link set dev {} {place} off", device.name),
    }
}
