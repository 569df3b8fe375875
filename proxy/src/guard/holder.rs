use std::fmt;
use std::path::PathBuf;

use aya::programs::{ProgramInfo, loaded_programs};

use super::pins::Folder;
use super::{Error, netdev};

/// Whose XDP program sits on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A hookgate's, with its pins in another folder.
    Hookgate(PathBuf),
    /// Somebody else's.
    Program {
        name: String,
        id: u32,
    },
    Unknown,
}

/// Whose XDP program an interface runs, if any.
///
/// Errors: no such interface here.
pub fn holder(interface: &str) -> Result<Option<Holder>, Error> {
    let device = netdev::find(interface)?;
    Ok(device.program.map(|_| Holder::of(device.index)))
}

impl Holder {
    /// Who holds the interface with that index, as far as the kernel tells.
    pub fn of(index: u32) -> Self {
        let devices = netdev::list().unwrap_or_default();
        let device = devices.into_iter().find(|device| device.index == index);
        let Some(id) = device.and_then(|device| device.program) else { return Self::Unknown };
        let pinned =
            |folder: &Folder| ProgramInfo::from_pin(folder.program()).is_ok_and(|info| info.id() == id);
        if let Some(folder) = Folder::all().into_iter().find(pinned) {
            return Self::Hookgate(folder.path().into());
        }
        let info = loaded_programs().flatten().find(|info| info.id() == id);
        let name = info.as_ref().and_then(ProgramInfo::name_as_str).unwrap_or("without a name");
        Self::Program { name: name.into(), id }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hookgate(folder) => {
                write!(f, "the guard of another hookgate, pinned in {}", folder.display())
            }
            Self::Program { name, id } => write!(f, "the XDP program {name} (id {id})"),
            Self::Unknown => f.write_str("an XDP program that can't be named"),
        }
    }
}
