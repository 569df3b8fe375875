use std::io;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

/// Locks one byte of a file, for as long as what was opened here is open or mapped anywhere.
/// Returns whether no other has it.
///
/// Errors: fcntl(2).
pub fn lock_byte(file: BorrowedFd<'_>, at: u16) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&byte(at))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether another has that byte. Asking locks nothing.
///
/// Errors: fcntl(2).
pub fn is_byte_locked(file: BorrowedFd<'_>, at: u16) -> io::Result<bool> {
    let mut lock = byte(at);
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn byte(at: u16) -> libc::flock {
    libc::flock {
        // Their types differ from that of the constants, which are all small.
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::from(at),
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::sys::Shared;

    #[test]
    fn a_lock_lasts_as_long_as_the_mapping() {
        let path = std::env::temp_dir().join(format!("hookgate-byte-lock-{}", std::process::id()));
        let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let (first, second) = (open().unwrap(), open().unwrap());
        first.set_len(4096).unwrap();
        let is_locked = |file: &File, at| is_byte_locked(file.as_fd(), at).unwrap();
        assert!(lock_byte(first.as_fd(), 3).unwrap());
        assert!(!is_locked(&first, 3), "it is its own");
        assert!(is_locked(&second, 3) && !is_locked(&second, 2));
        assert!(!lock_byte(second.as_fd(), 3).unwrap());
        let mapped = Shared::map(first.as_fd(), 8).unwrap();
        drop(first);
        assert!(is_locked(&second, 3), "what was opened is mapped");
        drop(mapped);
        assert!(!is_locked(&second, 3));
        std::fs::remove_file(&path).unwrap();
    }
}
