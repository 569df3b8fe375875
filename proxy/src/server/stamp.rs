//! Whether files have changed, by what the file system knows of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// How often files are looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Stamp {
    /// `None` while there is no such file, which is how some tools replace one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

/// Some files, and how they were when somebody last cared.
pub(super) struct Watch<L> {
    list: L,
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

impl<L: Fn() -> Vec<PathBuf>> Watch<L> {
    /// `list` tells which files there are, each time anew.
    pub(super) fn new(list: L) -> Self {
        let seen = stamps(&list);
        Self { list, seen }
    }

    /// Returns when they are no longer as they were, and have stayed so for a while: whoever writes may need a moment.
    pub(super) async fn changed(&mut self) {
        let mut before = stamps(&self.list);
        loop {
            sleep(INTERVAL).await;
            let now = stamps(&self.list);
            if now == before && now != self.seen {
                self.seen = now;
                return;
            }
            before = now;
        }
    }
}

fn stamps(list: &impl Fn() -> Vec<PathBuf>) -> Vec<(PathBuf, Option<Stamp>)> {
    list().into_iter().map(|path| (Stamp::of(&path), path)).map(|(stamp, path)| (path, stamp)).collect()
}
