use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::{fs, io};

/// What the kernel tells in /proc/self/fdinfo of a descriptor, under `name`; `None`: no such line.
///
/// Errors: /proc can't be read.
pub fn field(fd: BorrowedFd<'_>, name: &str) -> io::Result<Option<String>> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
    Ok(text.lines().find_map(value))
}
