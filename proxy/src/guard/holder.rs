use std::fmt;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use aya::programs::links::LinkType;
use aya::programs::{ProgramInfo, loaded_links, loaded_programs};

use super::netdev::{Device, XdpProgram};
use super::pins::Folder;
use super::{Error, netdev};
use crate::sys::bpf;

/// Whose XDP program sits on an interface, and the command that takes it off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A hookgate's, with its pins in another folder.
    Hookgate {
        folder: PathBuf,
        removal: String,
    },
    /// Another program's.
    Program {
        name: String,
        id: u32,
        removal: String,
    },
    Unknown,
}

/// Whose XDP program an interface runs, if any.
///
/// Errors: no such interface here, or one that can't be guarded; also since another above it runs a
/// program.
pub fn holder(interface: &str) -> Result<Option<Holder>, Error> {
    let device = netdev::find(interface)?;
    if !device.has_ethernet() {
        return Err(Error::NoEthernet { name: device.name });
    }
    if let Some(program) = device.program {
        return Ok(Some(Holder::of(&device, program)));
    }
    let devices = netdev::list().map_err(Error::Netlink)?;
    Holder::above(&devices, &device).map_or(Ok(None), Err)
}

impl Holder {
    /// The error for an interface on which the kernel takes no program beside one that is there.
    pub fn in_the_way_of(device: &Device) -> Error {
        let devices = netdev::list().unwrap_or_default();
        let interface = device.name.clone();
        let now = devices.iter().find(|now| now.index == device.index).unwrap_or(device);
        if let Some(program) = now.program {
            return Error::Held { interface, holder: Self::of(now, program) };
        }
        Self::above(&devices, now).unwrap_or(Error::Held { interface, holder: Self::Unknown })
    }

    /// The error for an interface below one that runs a program, if it is.
    fn above(devices: &[Device], device: &Device) -> Option<Error> {
        let mut above = devices.iter().filter(|upper| netdev::is_above(devices, upper, device));
        let (upper, program) = above.find_map(|upper| Some((upper, upper.program?)))?;
        let (interface, holder) = (device.name.clone(), Self::of(upper, program));
        Some(Error::HeldAbove { interface, upper: upper.name.clone(), holder })
    }

    fn of(device: &Device, program: XdpProgram) -> Self {
        let XdpProgram { id, .. } = program;
        let removal = removal(device, program);
        let pinned =
            |folder: &Folder| ProgramInfo::from_pin(folder.program()).is_ok_and(|info| info.id() == id);
        if let Some(folder) = Folder::all().into_iter().find(pinned) {
            return Self::Hookgate { folder: folder.path().into(), removal };
        }
        let info = loaded_programs().flatten().find(|info| info.id() == id);
        let name = info.as_ref().and_then(ProgramInfo::name_as_str).unwrap_or("without a name");
        Self::Program { name: name.into(), id, removal }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Hookgate { removal, .. } => {
                format!("detach that first (`hookgate guard detach` with its configuration, or `{removal}`)")
            }
            Self::Program { removal, .. } => format!("detach that first (`{removal}`)"),
            Self::Unknown => "run this as root to see whose it is".to_owned(),
        }
    }
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

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hookgate { folder, .. } => {
                write!(f, "the guard of another hookgate, pinned in {}", folder.display())
            }
            Self::Program { name, id, .. } => write!(f, "the XDP program {name} (id {id})"),
            Self::Unknown => f.write_str("an XDP program that can't be named"),
        }
    }
}
