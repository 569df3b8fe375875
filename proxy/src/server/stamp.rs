//! Whether files have changed, by what the file system knows of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// `None` while there is no such file, which is how some tools replace one.
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

/// Some files, and how they were when they were last looked at.
pub(super) struct Watch {
    list: Box<dyn Fn() -> Vec<PathBuf>>,
    seen: Vec<(Option<Stamp>, PathBuf)>,
    /// They have changed, and may change further: whoever writes may need a moment.
    is_unsettled: bool,
}

impl Watch {
    /// `list` tells which files there are, each time anew.
    pub(super) fn new(list: impl Fn() -> Vec<PathBuf> + 'static) -> Self {
        let mut watch = Self { list: Box::new(list), seen: Vec::new(), is_unsettled: false };
        watch.changed();
        watch
    }

    /// Whether they have changed since the last look.
    pub(super) fn changed(&mut self) -> bool {
        let now: Vec<_> = (self.list)().into_iter().map(|path| (Stamp::of(&path), path)).collect();
        let changed = now != self.seen;
        self.seen = now;
        changed
    }

    /// Whether they have changed, and then stayed so from one look to the next.
    pub(super) fn settled(&mut self) -> bool {
        let changed = self.changed();
        let settled = self.is_unsettled && !changed;
        self.is_unsettled = changed;
        settled
    }
}
