use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::memory_control;
use harness_core::{Cleanup, quoted_path, wait_until};

/// A control group that counts the memory of one peer: the kernel's for it too, and pages of files
/// that it wrote.
pub struct Cgroup {
    dir: PathBuf,
    used: &'static str,
    peak: &'static str,
    /// Version 1 forgets its peak when zero is written there; with version 2 that of the start may
    /// stay.
    forgets: bool,
}

impl Cgroup {
    /// `None` where the machine counts no memory by groups.
    ///
    /// # Errors
    /// Not root.
    pub fn new(name: &str, cleanup: &Cleanup) -> Result<Option<Self>> {
        let Some([parent, limit]) = memory_control() else {
            eprintln!("bench: SKIPPED: no control groups for memory here, so no cgroup figures for {name}");
            return Ok(None);
        };
        let dir = Path::new(parent).join(format!("hookgate-bench-{}-{name}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
        // Processes that are killed with us are inside for a moment longer.
        let rmdir = format!("rmdir {} 2>/dev/null", quoted_path(&dir));
        cleanup
            .add(&format!("test -d {} && {{ {rmdir} || {{ sleep 1; {rmdir}; }}; }}", quoted_path(&dir)))?;
        let forgets = limit == "memory.limit_in_bytes";
        let (used, peak) = match forgets {
            true => ("memory.usage_in_bytes", "memory.max_usage_in_bytes"),
            false => ("memory.current", "memory.peak"),
        };
        Ok(Some(Self { dir, used, peak, forgets }))
    }

    /// Where a process writes its number to be inside.
    pub fn door(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// What it uses now. The peak counts from here on.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn used_kib(&self) -> Result<u64> {
        if self.forgets {
            let path = self.dir.join(self.peak);
            fs::write(&path, "0").with_context(|| format!("writing {}", path.display()))?;
        }
        self.kib(self.used)
    }

    /// # Errors
    /// The kernel does not say.
    pub fn peak_kib(&self) -> Result<u64> {
        self.kib(self.peak)
    }

    fn kib(&self, file: &str) -> Result<u64> {
        let path = self.dir.join(file);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let bytes: u64 = text.trim().parse().with_context(|| format!("{} holds {text:?}", path.display()))?;
        Ok(bytes / 1024)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has just ended may still be counted.
        let removed = wait_until("the cgroup is empty", Duration::from_secs(2), || {
            Ok(fs::remove_dir(&self.dir).is_ok())
        });
        if removed.is_err() {
            eprintln!("bench: {} stays behind: somebody is still inside", self.dir.display());
        }
    }
}
