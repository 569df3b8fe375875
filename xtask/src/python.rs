//! Programs in Python, from PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::cache;

/// A package with what it needs, in the cache; `works` says whether it does.
///
/// # Errors
/// There is no pip, or it can't fetch the package.
pub fn find_or_fetch(package: &str, version: &str, works: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    cache::find_or_make(&format!("{package}-{version}"), works, |aside, home| {
        eprintln!("xtask: fetching {package} once, into {}", home.display());
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--root-user-action", "ignore", "--target"]);
        pip.arg(aside).arg(format!("{package}=={version}"));
        harness_core::run(pip).map(drop)
    })
}

/// Python, which looks for modules in `home` first.
pub fn python(home: &Path) -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", home);
    python
}
