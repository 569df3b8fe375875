use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

const FILE_MODE: u32 = 0o600;

/// A file for this process's user alone. No link is followed.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(FILE_MODE).custom_flags(no_link).open(path)
}
