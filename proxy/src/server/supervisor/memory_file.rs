use std::fs::File;
use std::io::{self, Seek as _, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

/// A file in memory that the worker can read from its start, and not change.
pub(super) fn in_memory(
    name: &str,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    let mut buffered = io::BufWriter::new(file);
    write(&mut buffered)?;
    let mut file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    file.rewind()?;
    Ok(file.into())
}
