//! The cgroup hierarchy (v2), to whose root the program is attached that is told of handshakes.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use super::error::Error;

/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const MAGIC: i64 = 0x6367_7270;

/// The root of the hierarchy, as far as this process sees it. Where none is mounted within its
/// reach (`ip netns exec` covers /sys with another one), it is mounted for this process alone, at
/// no path.
///
/// Errors: there is neither, or no permission.
pub fn root() -> Result<File, Error> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(Error::Mounts)?;
    let is_there = |path: &PathBuf| rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type == MAGIC);
    match roots(&mounts).find(is_there) {
        Some(path) => File::open(&path).map_err(|source| Error::Folder { doing: "open", path, source }),
        None => unmounted().map_err(|errno| Error::NoCgroup(errno.into())),
    }
}

/// fsmount(2): a mount that goes with its descriptor.
fn unmounted() -> rustix::io::Result<File> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    // The mount's own descriptor is only a path.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(&mount, ".", flags, Mode::empty())?.into())
}

/// Where the whole of a cgroup2 hierarchy is mounted, by proc_pid_mountinfo(5):
/// `31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw`.
fn roots(mountinfo: &str) -> impl Iterator<Item = PathBuf> + '_ {
    mountinfo.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, path) = (fields.next()?, fields.next()?);
        (file_system.split(' ').next() == Some("cgroup2") && root == "/").then(|| unescaped(path))
    })
}

/// Blanks and the like stand in octal there: `\040`.
fn unescaped(path: &str) -> PathBuf {
    let mut plain = String::new();
    let mut parts = path.split('\\');
    plain += parts.next().unwrap_or_default();
    for part in parts {
        let octal = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) if byte.is_ascii() => {
                plain.push(char::from(byte));
                plain += &part[3..];
            }
            _ => {
                plain.push('\\');
                plain += part;
            }
        }
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_found_among_other_mounts() {
        let mountinfo = "\
            31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw\n\
            42 31 0:38 /user.slice /mnt rw,relatime - cgroup2 cgroup2 rw\n\
            43 31 0:38 / /odd\\040place\\134x rw - cgroup2 none rw\n\
            44 31 0:39 / /cgroup2 rw - ext4 /dev/cgroup2 rw\n";
        let found: Vec<PathBuf> = roots(mountinfo).collect();
        assert_eq!(found, [PathBuf::from("/sys/fs/cgroup/unified"), PathBuf::from("/odd place\\x")]);
    }
}
