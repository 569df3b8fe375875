//! A file of figures: made and allocated here, written by the worker.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, ftruncate, memfd_create};
use rustix::io::Errno;

use super::open_posts::OpenPostsFile;
use super::private_file::open_or_create;
use crate::server::ipc::OpenPostsSlots;

const FOLDER_MODE: u32 = 0o700;
const SET_ASIDE: &str = "bad";

/// What the worker writes figures to, for the life of this process.
pub(super) struct InsightFile {
    name: &'static str,
    /// All of its room.
    bytes: u64,
    folder: Option<PathBuf>,
    /// Whether it replaces a process that has the file in use.
    has_predecessor: bool,
    opened: Option<Opened>,
    open_posts: Option<OpenPostsFile>,
}

struct Opened {
    file: OwnedFd,
    /// Why it is in memory alone.
    without_disk: Option<String>,
    /// The process before this one may still write to it.
    is_shared: bool,
}

impl InsightFile {
    /// `folder`: `[insight] state`; `None`: figures are kept in memory alone.
    pub(super) fn new(
        name: &'static str,
        bytes: u64,
        folder: Option<PathBuf>,
        has_predecessor: bool,
    ) -> Self {
        Self { name, bytes, folder, has_predecessor, opened: None, open_posts: None }
    }

    /// The same without a disk.
    pub(super) fn in_memory(&self) -> Self {
        Self::new(self.name, self.bytes, None, false)
    }

    /// The file, why it will be gone with this process, if so, and whether the process before this
    /// one may still write to it.
    ///
    /// Errors: no memory.
    pub(super) fn open(&mut self) -> io::Result<(OwnedFd, Option<String>, bool)> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open_anew()?,
        };
        let opened = self.opened.insert(opened);
        Ok((opened.file.try_clone()?, opened.without_disk.clone(), opened.is_shared))
    }

    /// The file of POSTs under way: beside the history, or in memory as that is.
    ///
    /// Errors: no memory.
    pub(super) fn open_posts(&mut self) -> io::Result<(OpenPostsSlots, OwnedFd)> {
        let (_, without_disk, _) = self.open()?;
        let file = match self.open_posts.take() {
            Some(file) => file,
            None => OpenPostsFile::open(self.folder.as_deref().filter(|_| without_disk.is_none()))?,
        };
        self.open_posts.insert(file).share()
    }

    /// Takes a damaged file out of the way; the next one is new.
    pub(super) fn set_aside(&mut self) -> io::Result<PathBuf> {
        self.opened = None;
        let folder = self.folder.as_ref().ok_or(ErrorKind::NotFound)?;
        let (file, bad) = (folder.join(self.name), folder.join(format!("{}.{SET_ASIDE}", self.name)));
        fs::rename(file, &bad)?;
        Ok(bad)
    }

    /// Removes what was set aside.
    pub(super) fn remove_aside(&self) -> io::Result<()> {
        let folder = self.folder.as_ref().ok_or(ErrorKind::NotFound)?;
        fs::remove_file(folder.join(format!("{}.{SET_ASIDE}", self.name)))
    }

    fn open_anew(&self) -> io::Result<Opened> {
        let without_disk = match &self.folder {
            None => None,
            Some(folder) => match self.on_disk(folder) {
                Ok((file, is_shared)) => {
                    return Ok(Opened { file: file.into(), without_disk: None, is_shared });
                }
                Err(error) => Some(format!("{}: {error}", folder.join(self.name).display())),
            },
        };
        let file = memfd_create(self.name, MemfdFlags::CLOEXEC)?;
        ftruncate(&file, self.bytes)?;
        Ok(Opened { file, without_disk, is_shared: false })
    }

    fn on_disk(&self, folder: &Path) -> io::Result<(File, bool)> {
        prepare(folder)?;
        let path = folder.join(self.name);
        let mut file = open_or_create(&path)?;
        let is_shared = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if !self.has_predecessor => {
                let text = "another hookgate has it; give each its own [insight] state";
                return Err(io::Error::new(ErrorKind::WouldBlock, text));
            }
            Err(TryLockError::WouldBlock) => true,
        };
        if file.metadata()?.len() == 0
            && let Err(error) = allocate(&mut file, self.bytes)
        {
            // Part of a file would be damage at the next start. That the first error is the one to
            // tell does not depend on this.
            fs::remove_file(&path).ok();
            return Err(error);
        }
        Ok((file, is_shared))
    }
}

/// Makes the folder for this process's user alone. The one above may hold files for others.
fn prepare(folder: &Path) -> io::Result<()> {
    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Takes all of its room, so that a disk which fills up later takes none of it.
fn allocate(file: &mut File, bytes: u64) -> io::Result<()> {
    match fallocate(&*file, FallocateFlags::empty(), 0, bytes) {
        // A file system that can't, such as ZFS.
        Err(Errno::OPNOTSUPP) => {
            let zeros = vec![0; 1 << 16];
            let mut left = bytes;
            while left > 0 {
                let now = left.min(1 << 16);
                file.write_all(zeros.get(..usize::try_from(now).unwrap_or(0)).unwrap_or_default())?;
                left -= now;
            }
            Ok(())
        }
        outcome => Ok(outcome?),
    }
}
