//! The file in which workers count the POSTs that are under way: it outlives all processes. Each
//! supervisor has a slot in it for its workers, and a lock on that slot which ends with the last
//! of its processes.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{MemfdFlags, fstatfs, ftruncate, memfd_create};

use super::private_file::open_or_create;
use crate::observe::{OPEN_POSTS_FILE, OpenPosts};
use crate::server::ipc::OpenPostsSlots;
use crate::sys::{is_byte_locked, lock_byte};

/// ext2 to ext4, XFS, and tmpfs (statfs(2)).
const FILE_SYSTEMS: [u32; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

pub(super) struct OpenPostsFile {
    file: File,
    slot: u16,
    /// Why it is in memory alone.
    without_disk: Option<String>,
}

impl OpenPostsFile {
    /// `folder`: `None` for a file in memory.
    ///
    /// Errors: no memory.
    pub(super) fn open(folder: Option<&Path>) -> io::Result<Self> {
        let without_disk = match folder.map(|folder| Self::on_disk(&folder.join(OPEN_POSTS_FILE))) {
            Some(Ok(opened)) => return Ok(opened),
            Some(Err(error)) => Some(error.to_string()),
            // The history's file says why.
            None => None,
        };
        let file = memfd_create(OPEN_POSTS_FILE, MemfdFlags::CLOEXEC)?;
        ftruncate(&file, OpenPosts::BYTES)?;
        Ok(Self { file: file.into(), slot: 0, without_disk })
    }

    fn on_disk(path: &Path) -> io::Result<Self> {
        let mut file = open_or_create(path)?;
        let fault = |what: &str| io::Error::other(format!("{}: {what}", path.display()));
        // Where each write takes new room, a full disk would end a process that writes to memory.
        let is_in_place =
            u32::try_from(fstatfs(&file)?.f_type).is_ok_and(|kind| FILE_SYSTEMS.contains(&kind));
        if !is_in_place {
            // Another configuration may have it on another file system.
            fs::remove_file(path).ok();
            return Err(fault("not on ext4, XFS or tmpfs"));
        }
        let zeros = vec![0; usize::try_from(OpenPosts::BYTES).map_err(io::Error::other)?];
        let length = file.metadata()?.len();
        if length == 0
            && let Err(error) = file.write_all(&zeros).and_then(|()| file.sync_data())
        {
            // Part of a file would be of no use at the next start. That the first error is the one
            // to tell does not depend on this.
            fs::remove_file(path).ok();
            return Err(error);
        }
        if length != 0 && length != OpenPosts::BYTES {
            return Err(fault("not of this version; remove it"));
        }
        let slot = (0..OpenPosts::SLOTS).find_map(|slot| match lock_byte(file.as_fd(), slot) {
            Ok(false) => None,
            Ok(true) => Some(Ok(slot)),
            Err(error) => Some(Err(error)),
        });
        let slot = slot.transpose()?.ok_or_else(|| fault("too many processes have it"))?;
        Ok(Self { file, slot, without_disk: None })
    }

    /// For a worker, when those before it have ended.
    pub(super) fn share(&self) -> io::Result<(OpenPostsSlots, OwnedFd)> {
        let has_ended =
            |slot: &u16| is_byte_locked(self.file.as_fd(), *slot).is_ok_and(|is_locked| !is_locked);
        let ended = (0..OpenPosts::SLOTS).filter(has_ended).collect();
        let slots = OpenPostsSlots { own: self.slot, ended, without_disk: self.without_disk.clone() };
        Ok((slots, self.file.try_clone()?.into()))
    }
}
