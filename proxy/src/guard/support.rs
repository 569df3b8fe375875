//! What this binary, this kernel and this process can do.

use std::path::Path;

use hookgate_ebpf::abi::Settings;
use rustix::thread::{CapabilitySet, capabilities};

use super::{Error, pins, program};
use crate::config::Mode;

/// Errors: what keeps any guard from running here, whoever asks: a binary without the program, a kernel without BPF
/// (it makes the folder for pins itself, mounted or not).
pub fn is_supported() -> Result<(), Error> {
    program::embedded()?;
    if Path::new(pins::BPFFS).exists() { Ok(()) } else { Err(Error::NoBpf) }
}

/// The mode's number in the settings.
///
/// Errors: modes that nothing enforces yet. A guard that only seems to filter is worse than none.
pub fn enforced(mode: Mode) -> Result<u32, Error> {
    match mode {
        Mode::Observe => Ok(Settings::OBSERVE),
        Mode::Limit | Mode::Strict => Err(Error::NotEnforced(mode)),
    }
}

/// The mode of a number in the settings; `None` when a later version set it.
pub fn mode(number: u32) -> Option<Mode> {
    (number == Settings::OBSERVE).then_some(Mode::Observe)
}

pub fn is_permitted() -> Result<(), Error> {
    let held = capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    let bpf = held.intersects(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN);
    if bpf && held.contains(CapabilitySet::NET_ADMIN) { Ok(()) } else { Err(Error::NotPermitted) }
}
