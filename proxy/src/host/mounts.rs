//! What is mounted, by proc_pid_mountinfo(5): `31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2
//! cgroup2 rw`.

use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub struct Mounts(Vec<Mount>);

#[derive(Debug)]
struct Mount {
    /// What of the file system is mounted.
    root: String,
    at: PathBuf,
    kind: String,
    is_read_only: bool,
}

impl Mounts {
    /// Paths with blanks stay in the kernel's own spelling (`\040`): none of ours has one.
    pub fn parse(mountinfo: &str) -> Self {
        let mount = |line: &str| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ').skip(3);
            let (root, at, options) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Mount {
                root: root.to_owned(),
                at: at.into(),
                kind: after.split(' ').next()?.to_owned(),
                is_read_only: options.split(',').any(|option| option == "ro"),
            })
        };
        Self(mountinfo.lines().filter_map(mount).collect())
    }

    /// The same without what another mount covers, as far as `kinds` go: a look at a network's file
    /// system may take long.
    pub fn without_covered(mut self, kinds: &[&str]) -> Self {
        self.0.retain(|mount| !kinds.contains(&&*mount.kind) || mount.at.exists());
        self
    }

    /// Whether the root is a part of a file system, or layers of several, as engines make it.
    pub fn has_made_up_root(&self) -> bool {
        self.holding(Path::new("/")).is_some_and(|mount| mount.root != "/" || mount.kind == "overlay")
    }

    /// Where file systems of a type are mounted.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Path> {
        self.0.iter().filter(move |mount| mount.kind == kind).map(|mount| mount.at.as_path())
    }

    /// What a file that an engine has mounted is on the machine.
    pub fn source_of(&self, file: &str) -> Option<&str> {
        self.0.iter().find(|mount| mount.at == Path::new(file)).map(|mount| mount.root.as_str())
    }

    /// Whether the root can't be written in.
    pub fn has_read_only_root(&self) -> bool {
        self.holding(Path::new("/")).is_some_and(|mount| mount.is_read_only)
    }

    /// Whether `folder` is on a mount of its own that outlives the container.
    pub fn is_volume(&self, folder: &Path) -> bool {
        self.holding(folder).is_some_and(|mount| mount.at != Path::new("/") && mount.kind != "tmpfs")
    }

    /// The mount that a path is on: of several at one place, the last is seen.
    fn holding(&self, path: &Path) -> Option<&Mount> {
        let above = self.0.iter().filter(|mount| path.starts_with(&mount.at));
        above.max_by_key(|mount| mount.at.components().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Docker 28, read-only, with a volume and a tmpfs.
    const DOCKER: &str = "\
        522 381 0:62 / / ro,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n\
        523 522 0:65 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw\n\
        524 522 0:66 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755\n\
        526 522 0:59 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro\n\
        527 526 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n\
        530 522 0:67 / /run/hookgate rw,nosuid - tmpfs tmpfs rw\n\
        533 522 8:1 /var/lib/docker/volumes/state/_data /var/lib/hookgate rw,relatime - ext4 /dev/sda1 rw\n";

    #[test]
    fn volumes_and_a_read_only_root_are_seen() {
        let mounts = Mounts::parse(DOCKER);
        assert!(mounts.has_read_only_root() && mounts.has_made_up_root());
        assert!(mounts.is_volume(Path::new("/var/lib/hookgate/insight")));
        assert!(!mounts.is_volume(Path::new("/var/lib/other")));
        assert!(!mounts.is_volume(Path::new("/run/hookgate")));
        assert_eq!(mounts.of_kind("cgroup2").collect::<Vec<_>>(), [Path::new("/sys/fs/cgroup")]);
        assert_eq!(mounts.of_kind("bpf").count(), 0);
    }

    #[test]
    fn the_root_of_a_machine_is_written_in() {
        let mounts = Mounts::parse("24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n");
        assert!(!mounts.has_read_only_root() && !mounts.has_made_up_root());
    }
}
