//! Copies ACL, SELinux label and other extended attributes (xattr(7)) to a replacement file.

use std::fs::File;
use std::io;

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// The longest value, and the longest list of names, in bytes (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const MAX_BYTES: usize = 64 * 1024;
const ACL: &[u8] = b"system.posix_acl_access";
/// Checksums of the content, which the kernel computes.
const OF_CONTENT: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// Removes from `new` what it inherited from its folder: a default ACL would grant rights.
pub(super) fn drop_inherited(old: &File, new: &File) -> io::Result<()> {
    let of_old = names(old)?;
    // A security label can't be removed, only replaced.
    let is_inherited = |name: &Vec<u8>| !of_old.contains(name) && !name.starts_with(b"security.");
    for name in names(new)?.iter().filter(|name| is_inherited(name)) {
        fremovexattr(new, &**name).map_err(|error| cannot_keep(name, error))?;
    }
    Ok(())
}

/// Copies the attributes of `old` to `new`.
pub(super) fn copy(old: &File, new: &File) -> io::Result<()> {
    for name in names(old)?.iter().filter(|name| !OF_CONTENT.contains(&&***name)) {
        let copied = value(old, name).and_then(|own| match value(new, name) {
            Ok(same) if same == own => Ok(()),
            _ => fsetxattr(new, &**name, &own, XattrFlags::empty()),
        });
        copied.map_err(|error| cannot_keep(name, error))?;
    }
    Ok(())
}

fn names(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut list = vec![0; MAX_BYTES];
    let length = match flistxattr(file, &mut list[..]) {
        // The file system has no attributes.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        length => length?,
    };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

fn value(file: &File, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; MAX_BYTES];
    let length = fgetxattr(file, name, &mut value[..])?;
    value.truncate(length);
    Ok(value)
}

fn cannot_keep(name: &[u8], error: Errno) -> io::Error {
    let what = match name {
        ACL => "ACL".to_owned(),
        b"security.selinux" => "SELinux label".to_owned(),
        other => format!("attribute {}", String::from_utf8_lossy(other)),
    };
    io::Error::other(format!("its {what} can't be kept: {}: edit it by hand", io::Error::from(error)))
}
