//! What this binary, this kernel and this process can do.

use std::path::Path;

use hookgate_ebpf::tc::{ANSWERS, INCOMING};
use rustix::thread::{CapabilitySet, capabilities};

use super::error::Error;
use super::program::Program;
use super::{maps, pins, program};
use crate::config::{self, Mode};
use crate::prefixes::Table;

/// Errors: what keeps any guard from running here, for any user: a binary without the program, a
/// kernel without BPF (it makes the folder for pins itself, mounted or not).
pub fn ensure_supported() -> Result<(), Error> {
    program::embedded()?;
    if Path::new(pins::BPFFS).exists() { Ok(()) } else { Err(Error::NoBpf) }
}

/// Errors: a configuration that would most likely shut out its operator, or Meta.
pub fn ensure_none_locked_out(config: &config::Guard, prefixes: &Table) -> Result<(), Error> {
    const SSH: u16 = 22;
    match config.mode {
        Mode::Strict if config.ports.contains(&SSH) => Err(Error::LocksOutSsh),
        Mode::Strict if prefixes.is_empty() => Err(Error::LocksOutMeta),
        _ => Ok(()),
    }
}

/// Why the kernel does not take some of the programs, where it takes the XDP program.
pub struct Missing {
    /// Handshakes can't be counted.
    pub handshakes: Option<Error>,
    /// Failed handshakes can't be classified.
    pub answers: Option<Error>,
    /// tc can't filter.
    pub tc: Option<Error>,
}

/// Whether the kernel takes the programs: they are loaded with maps of their own, and let go.
///
/// Errors: why it does not take the XDP program.
pub fn probe() -> Result<Missing, Error> {
    ensure_supported()?;
    ensure_permitted()?;
    let mut program =
        Program::load(program::embedded()?, None, maps::counters_capacity(Table::builtin().len())?)?;
    let handshakes = program.begin_sweeps().and_then(|()| program.load_handshakes().map(drop));
    let answers = program.load_tc(ANSWERS).err();
    let tc = program.load_tc(INCOMING).err();
    Ok(Missing { handshakes: handshakes.err(), answers, tc })
}

/// Errors: a capability is missing. That they are there proves nothing: they may not count in this
/// user namespace.
pub fn ensure_permitted() -> Result<(), Error> {
    let held = capabilities(None).map(|sets| sets.effective).unwrap_or(CapabilitySet::empty());
    let is_root = held.contains(CapabilitySet::SYS_ADMIN);
    let lacks: Vec<&str> = [
        (CapabilitySet::BPF, is_root, "CAP_BPF"),
        (CapabilitySet::PERFMON, is_root, "CAP_PERFMON"),
        (CapabilitySet::NET_ADMIN, false, "CAP_NET_ADMIN"),
    ]
    .into_iter()
    .filter(|(capability, is_covered, _)| !is_covered && !held.contains(*capability))
    .map(|(.., name)| name)
    .collect();
    if lacks.is_empty() { Ok(()) } else { Err(Error::NotPermitted { lacks }) }
}
