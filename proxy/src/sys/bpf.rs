//! bpf(2), as far as aya does not speak it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Pod;
use aya::maps::{MapData, MapError, MapType};

// linux/bpf.h
const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_XDP: u32 = 6;
const BPF_LINK_TYPE_TCX: u32 = 11;
/// Attach types.
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
/// BPF_MPROG_MAX of linux/bpf_mprog.h.
const MAX_TCX_PROGRAMS: usize = 64;
/// Before all other programs of that place.
const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_RDONLY: u32 = 1 << 3;

/// Which packets of an interface a tc program sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

impl Direction {
    fn attach_type(self) -> u32 {
        match self {
            Self::In => BPF_TCX_INGRESS,
            Self::Out => BPF_TCX_EGRESS,
        }
    }
}

/// A pinned map, for reading alone: it can't be changed through this descriptor.
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

/// A pinned program.
///
/// Errors: there is none, or no permission.
pub fn open_program(path: &Path) -> io::Result<OwnedFd> {
    open(path, 0)
}

/// Attaches an XDP program to an interface, for as long as the link is open or pinned. `flags`:
/// `XDP_FLAGS_…`.
///
/// Errors: the interface has a program, or its driver does not take this one.
pub fn create_xdp_link(program: BorrowedFd<'_>, interface: u32, flags: u32) -> io::Result<OwnedFd> {
    create_link(program, interface, BPF_XDP, flags)
}

/// Attaches a tc program to an interface, before all others, for as long as the link is open or
/// pinned.
///
/// Errors: `InvalidInput` before Linux 6.6, or no permission.
pub fn create_tcx_link(program: BorrowedFd<'_>, interface: u32, direction: Direction) -> io::Result<OwnedFd> {
    create_link(program, interface, direction.attach_type(), BPF_F_BEFORE)
}

/// The ids of the programs that are attached to an interface of this network namespace as
/// [`create_tcx_link`] attaches them.
///
/// Errors: `InvalidInput` before Linux 6.6, or no permission.
pub fn tcx_programs(interface: u32, direction: Direction) -> io::Result<Vec<u32>> {
    /// The part of `union bpf_attr` for BPF_PROG_QUERY.
    #[repr(C)]
    struct Attributes {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        reserved: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut ids = [0u32; MAX_TCX_PROGRAMS];
    let mut attributes = Attributes {
        target_ifindex: interface,
        attach_type: direction.attach_type(),
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: ids.len() as u32,
        reserved: 0,
        prog_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: the attributes are this command's; `ids` has room for `count` numbers and lives on.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    Ok(ids.into_iter().take(attributes.count as usize).collect())
}

fn create_link(program: BorrowedFd<'_>, interface: u32, attach_type: u32, flags: u32) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` for BPF_LINK_CREATE.
    #[repr(C)]
    struct Attributes {
        prog_fd: i32,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
    }
    let prog_fd = program.as_raw_fd();
    let mut attributes = Attributes { prog_fd, target_ifindex: interface, attach_type, flags };
    // SAFETY: the attributes are this command's, and point to nothing.
    unsafe { bpf_descriptor(BPF_LINK_CREATE, &mut attributes) }
}

/// Keeps a link, map or program at `path` in a BPF file system.
///
/// Errors: something is there, or no permission.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    /// The part of `union bpf_attr` for BPF_OBJ_PIN.
    #[repr(C)]
    struct Attributes {
        pathname: u64,
        bpf_fd: i32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pathname = path.as_ptr().expose_provenance() as u64;
    let mut attributes = Attributes { pathname, bpf_fd: object.as_raw_fd(), file_flags: 0 };
    // SAFETY: the attributes are this command's, and `path` is a C string that outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut attributes) }.map(|_| ())
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

/// What the kernel tells of a link that holds a program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    pub link: u32,
    pub program: u32,
    /// The interface's index in the network namespace that it belongs to; `None`: it is gone.
    pub interface: Option<u32>,
}

/// Errors: it holds no XDP program.
pub fn xdp_link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    interface_link_info(link, BPF_LINK_TYPE_XDP)
}

/// Errors: it holds no tc program.
pub fn tcx_link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    interface_link_info(link, BPF_LINK_TYPE_TCX)
}

fn interface_link_info(link: BorrowedFd<'_>, expected: u32) -> io::Result<LinkInfo> {
    // `struct bpf_link_info` in words: type, id, program, padding, then what depends on the type.
    let mut info = [0u32; 16];
    info_of(link, &mut info)?;
    let [kind, link, program, _, interface, ..] = info;
    if kind != expected {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a link of such a program"));
    }
    Ok(LinkInfo { link, program, interface: (interface != 0).then_some(interface) })
}

/// Whether the kernel hides the constants of this process's programs (net.core.bpf_jit_harden). The
/// setting itself can be read in the first network namespace alone; a loaded program is longer than
/// it was where the kernel has done so.
///
/// Errors: no permission to load programs, or no memory.
pub fn blinds_constants() -> io::Result<bool> {
    /// The part of `union bpf_attr` for BPF_PROG_LOAD, up to what is not needed.
    #[repr(C)]
    struct Attributes {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
    }
    /// `struct bpf_insn` as numbers: `r0 = 2` (XDP_PASS), `exit`.
    const INSTRUCTIONS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    const LICENSE: &CStr = c"GPL";
    let instructions = INSTRUCTIONS;
    let mut attributes = Attributes {
        prog_type: BPF_PROG_TYPE_XDP,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
    };
    // SAFETY: the attributes are this command's, and point to `insn_cnt` instructions and a C
    // string that outlive the call.
    let program = unsafe { bpf_descriptor(BPF_PROG_LOAD, &mut attributes) }?;
    // `struct bpf_prog_info` in words: type, id, tag (2), length in machine code, length in BPF
    // instructions.
    let mut info = [0u32; 6];
    info_of(program.as_fd(), &mut info)?;
    let [.., bytes] = info;
    Ok(bytes as usize > size_of_val(&instructions))
}

/// Another process's link, by its id.
///
/// Errors: it is gone, or no permission.
pub fn link_by_id(id: u32) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` for BPF_LINK_GET_FD_BY_ID.
    #[repr(C)]
    struct Attributes {
        link_id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let mut attributes = Attributes { link_id: id, next_id: 0, open_flags: 0 };
    // SAFETY: the attributes are this command's, and point to nothing.
    unsafe { bpf_descriptor(BPF_LINK_GET_FD_BY_ID, &mut attributes) }
}

/// A new map with one element of `bytes` bytes.
///
/// Errors: no permission, or no memory.
pub fn create_array(bytes: u32) -> io::Result<OwnedFd> {
    /// The part of `union bpf_attr` for BPF_MAP_CREATE.
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    }
    let key_size = size_of::<u32>() as u32;
    let mut attributes =
        Attributes { map_type: BPF_MAP_TYPE_ARRAY, key_size, value_size: bytes, max_entries: 1 };
    // SAFETY: the attributes are this command's, and point to nothing.
    unsafe { bpf_descriptor(BPF_MAP_CREATE, &mut attributes) }
}

/// Every entry of a hash map, each once, and in bounded time whatever is changed meanwhile: the
/// kernel hands over whole buckets at a time, and keeps the place by bucket, not by key.
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
        // SAFETY: the attributes are this command's. What they point to is writable during the call
        // and has room for `count` keys and values of the map's sizes (checked above), and for two
        // places of a hash map.
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

/// The beginning of what the kernel tells of a link or a program, in words.
fn info_of(object: BorrowedFd<'_>, info: &mut [u32]) -> io::Result<()> {
    /// The part of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
    #[repr(C)]
    struct Attributes {
        bpf_fd: i32,
        info_len: u32,
        info: u64,
    }
    let mut attributes = Attributes {
        bpf_fd: object.as_raw_fd(),
        info_len: size_of_val(info) as u32,
        info: info.as_mut_ptr().expose_provenance() as u64,
    };
    // SAFETY: the attributes are this command's; the kernel writes at most `info_len` bytes to
    // `info`, which lives on.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }.map(drop)
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
    unsafe { bpf_descriptor(BPF_OBJ_GET, &mut attributes) }
}

/// For a command that returns a new descriptor, which is close-on-exec.
///
/// # Safety
/// As for [`bpf`], and `command` is such a one.
unsafe fn bpf_descriptor<A>(command: libc::c_long, attributes: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller vouches for it.
    let fd = unsafe { bpf(command, attributes) }?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attributes` are what the kernel expects of `command`; pointers in them are valid during the
/// call.
unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes at most `size` bytes of `attributes`, and what the caller
    // vouches for.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    /// The guests of `cargo xtask test --vm` have it on and off.
    #[test]
    fn blinding_is_found_as_it_is_set() {
        let setting = |name: &str| fs::read_to_string(format!("/proc/sys/net/core/{name}"));
        let settings =
            setting("bpf_jit_enable").and_then(|enabled| Ok((enabled, setting("bpf_jit_harden")?)));
        match (settings, blinds_constants()) {
            // 1 spares processes with the capability, and programs can't be loaded without.
            (Ok((enabled, hardened)), Ok(found)) => {
                assert_eq!(found, enabled.trim() != "0" && hardened.trim() == "2");
            }
            (_, Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => panic!("{error}"),
            (settings, found) => {
                // Past the test runner, which keeps what passing tests print.
                let why = format!("needs root in the first network namespace: {settings:?}, {found:?}");
                let _ = writeln!(io::stderr(), "ELSEWHERE: sys::bpf::blinding_is_found_as_it_is_set: {why}");
            }
        }
    }
}
