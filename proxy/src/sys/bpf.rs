//! bpf(2), as far as aya does not speak it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

// linux/bpf.h
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_F_RDONLY: u32 = 1 << 3;

/// A pinned map, for reading alone: through this descriptor nobody can change it.
///
/// Errors: there is none, or no permission to read it.
pub fn open_map_read_only(path: &Path) -> io::Result<OwnedFd> {
    open(path, BPF_F_RDONLY)
}

/// A pinned map.
///
/// Errors: there is none, or no permission.
pub fn open_map(path: &Path) -> io::Result<OwnedFd> {
    open(path, 0)
}

/// A pinned link.
///
/// Errors: there is none, or no permission.
pub fn open_link(path: &Path) -> io::Result<OwnedFd> {
    open(path, 0)
}

/// Puts a program in the place of the one that a link holds, in one step.
///
/// Errors: the link is gone from what it was attached to, or the program is of another kind.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    /// The part of `union bpf_attr` for BPF_LINK_UPDATE.
    #[repr(C)]
    struct Attributes {
        link_fd: i32,
        new_prog_fd: i32,
        flags: u32,
        old_prog_fd: u32,
    }
    let attributes =
        Attributes { link_fd: link.as_raw_fd(), new_prog_fd: program.as_raw_fd(), flags: 0, old_prog_fd: 0 };
    // SAFETY: the attributes are this command's, and point to nothing.
    unsafe { bpf(BPF_LINK_UPDATE, &attributes) }.map(|_| ())
}

fn open(path: &Path, file_flags: u32) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` for BPF_OBJ_GET.
    #[repr(C)]
    struct Attributes {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Attributes { pathname: path.as_ptr().expose_provenance() as u64, bpf_fd: 0, file_flags };
    // SAFETY: the attributes are this command's, and `path` is a C string that outlives the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &attributes) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a new descriptor (opened close-on-exec), nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attributes` are what the kernel expects of `command`; pointers in them are valid during the call.
unsafe fn bpf<A>(command: libc::c_long, attributes: &A) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads `size` bytes of `attributes`, and what the caller vouches for.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
