//! Small Debians, each made once by debootstrap and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{cache, install};

/// A root to be made.
pub struct Root<'a> {
    /// In the cache.
    pub name: &'a str,
    pub suite: &'a str,
    /// Packages beside the smallest set, separated by commas.
    pub packages: &'a str,
    /// What it is for, as the end of a sentence that begins "installing debootstrap".
    pub purpose: &'a str,
    /// Files that a whole one has.
    pub files: [&'a str; 2],
}

impl Root<'_> {
    /// `finish` changes the root before it is kept.
    ///
    /// # Errors
    /// There is no debootstrap, or no archive; or those of `finish`.
    pub fn find_or_make(&self, finish: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        if !harness_core::in_path("debootstrap") {
            install::packages(self.purpose, &["debootstrap"])?;
        }
        let works = |root: &Path| self.files.iter().all(|file| root.join(file).exists());
        cache::find_or_make(self.name, works, |aside, home| {
            let place = home.display();
            eprintln!(
                "xtask: fetching a small Debian once, {}, into {place} (150 MB to download)",
                self.suite
            );
            let mut debootstrap = Command::new("debootstrap");
            debootstrap.args(["--variant=minbase", &format!("--include={}", self.packages), self.suite]);
            debootstrap.arg(aside).arg(install::mirror());
            harness_core::run(debootstrap)?;
            finish(aside)
        })
    }
}
