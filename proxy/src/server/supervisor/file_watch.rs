//! Watching files for changes, by their metadata.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The metadata that changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// `None` while there is no such file: some tools delete a file before they write the new one.
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

/// Some files, and their stamps at the last check.
pub(super) struct FileWatch {
    list: Box<dyn Fn() -> Vec<PathBuf>>,
    seen: Vec<(Option<Stamp>, PathBuf)>,
    /// They changed at the last check, and may still be written to.
    is_changing: bool,
}

impl FileWatch {
    /// `list` names the files; it is called at each check.
    pub(super) fn new(list: impl Fn() -> Vec<PathBuf> + 'static) -> Self {
        let mut watch = Self { list: Box::new(list), seen: Vec::new(), is_changing: false };
        watch.changed();
        watch
    }

    /// Whether they have changed since the last check.
    pub(super) fn changed(&mut self) -> bool {
        let now: Vec<_> = (self.list)().into_iter().map(|path| (Stamp::of(&path), path)).collect();
        let changed = now != self.seen;
        self.seen = now;
        changed
    }

    /// Whether they have changed, and were the same in the last two checks.
    pub(super) fn changed_and_stable(&mut self) -> bool {
        let changed = self.changed();
        let is_stable = self.is_changing && !changed;
        self.is_changing = changed;
        is_stable
    }
}
