//! bpf(2), as far as aya does not speak it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Pod;
use aya::maps::{MapData, MapError, MapType};

// linux/bpf.h
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
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
    let mut attributes =
        Attributes { link_fd: link.as_raw_fd(), new_prog_fd: program.as_raw_fd(), flags: 0, old_prog_fd: 0 };
    // SAFETY: the attributes are this command's, and point to nothing.
    unsafe { bpf(BPF_LINK_UPDATE, &mut attributes) }.map(|_| ())
}

/// Every entry of a hash map, each once, and in bounded time whatever is changed meanwhile: the kernel hands over whole
/// buckets at a time, and keeps the place by bucket, not by key.
///
/// Errors: keys or values of other sizes, a map of another kind, or no permission to read it.
pub fn entries<K, V>(map: &MapData) -> Result<Vec<(K, V)>, MapError>
where
    K: Pod + Default,
    V: Pod + Default,
{
    let info = map.info()?;
    if info.key_size() as usize != size_of::<K>() {
        return Err(MapError::InvalidKeySize { size: size_of::<K>(), expected: info.key_size() as usize });
    }
    if info.value_size() as usize != size_of::<V>() {
        return Err(MapError::InvalidValueSize {
            size: size_of::<V>(),
            expected: info.value_size() as usize,
        });
    }
    if !matches!(info.map_type()?, MapType::Hash | MapType::LruHash) {
        return Err(MapError::InvalidMapType { map_type: info.map_type()? as u32 });
    }
    let capacity = info.max_entries();
    /// The part of `union bpf_attr` for BPF_MAP_LOOKUP_BATCH.
    #[repr(C)]
    struct Attributes {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        count: u32,
        map_fd: u32,
        elem_flags: u64,
        flags: u64,
    }
    /// More than one bucket ever holds.
    const SLACK: u32 = 64;
    let room = capacity.saturating_add(SLACK);
    let (mut keys, mut values) = (vec![K::default(); room as usize], vec![V::default(); room as usize]);
    let mut entries = Vec::new();
    // A hash map's place is the number of a bucket.
    let mut places = [None, Some(0u32)];
    for _ in 0..=capacity {
        let [place, next] = &mut places;
        let mut attributes = Attributes {
            in_batch: place.as_ref().map_or(0, |place| (&raw const *place).expose_provenance() as u64),
            out_batch: next.as_mut().map_or(0, |next| (&raw mut *next).expose_provenance() as u64),
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: room,
            map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the attributes are this command's. What they point to is writable during the call and has room for
        // `count` keys and values of the map's sizes (checked above), and for two places of a hash map.
        let read = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) };
        let is_last = match read {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(MapError::IoError(error)),
        };
        let count = (attributes.count as usize).min(keys.len());
        entries.extend(keys[..count].iter().copied().zip(values[..count].iter().copied()));
        if is_last {
            return Ok(entries);
        }
        places[0] = places[1];
    }
    Err(MapError::IoError(io::Error::other("the map's entries do not end")))
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
    let mut attributes =
        Attributes { pathname: path.as_ptr().expose_provenance() as u64, bpf_fd: 0, file_flags };
    // SAFETY: the attributes are this command's, and `path` is a C string that outlives the call.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut attributes) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a new descriptor (opened close-on-exec), nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attributes` are what the kernel expects of `command`; pointers in them are valid during the call.
unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `size` bytes of `attributes`, and what the caller vouches for.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
