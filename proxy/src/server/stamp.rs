//! Whether files have changed, by what the file system knows of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

/// How often files are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

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

/// Some files, and how they were when somebody last cared.
#[derive(Clone)]
pub(super) struct Watch {
    list: Arc<dyn Fn() -> Vec<PathBuf> + Send + Sync>,
    seen: Vec<(Option<Stamp>, PathBuf)>,
}

impl Watch {
    /// `list` tells which files there are, each time anew.
    pub(super) fn new(list: impl Fn() -> Vec<PathBuf> + Send + Sync + 'static) -> Self {
        let mut watch = Self { list: Arc::new(list), seen: Vec::new() };
        watch.look();
        watch
    }

    /// Returns when they are no longer as they were.
    pub(super) async fn changed(&mut self) {
        loop {
            sleep(INTERVAL).await;
            if self.look() {
                return;
            }
        }
    }

    /// The same, once they have stayed so for a while: whoever writes may need a moment.
    pub(super) async fn settled(&mut self) {
        self.changed().await;
        loop {
            sleep(INTERVAL).await;
            if !self.look() {
                return;
            }
        }
    }

    /// Whether they have changed since the last look.
    fn look(&mut self) -> bool {
        let now: Vec<_> = (self.list)().into_iter().map(|path| (Stamp::of(&path), path)).collect();
        let changed = now != self.seen;
        self.seen = now;
        changed
    }
}
