//! What is made once and outlives the clone: a folder each, under the user's cache.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The folder `name` of the cache, made by `make` where `works` says that there is none that can be
/// used.
///
/// # Errors
/// Those of `make`; or what it made does not work.
pub fn find_or_make(
    name: &str,
    works: impl Fn(&Path) -> bool,
    make: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<PathBuf> {
    let base = base()?;
    let home = base.join(name);
    if works(&home) {
        return Ok(home);
    }
    std::fs::create_dir_all(&base).with_context(|| format!("creating {}", base.display()))?;
    let lock = File::create(base.join(format!("{name}.lock")))?;
    lock.lock().with_context(|| format!("waiting for another process that makes {}", home.display()))?;
    if !works(&home) {
        // Made aside and moved into place whole, so that an interrupted one leaves nothing that
        // looks like one.
        let aside = base.join(format!("{name}.new"));
        remove(&aside)?;
        std::fs::create_dir(&aside).with_context(|| format!("creating {}", aside.display()))?;
        make(&aside, &home)?;
        remove(&home)?;
        std::fs::rename(&aside, &home).with_context(|| format!("moving {} into place", aside.display()))?;
    }
    ensure!(works(&home), "what was put into {} does not run", home.display());
    Ok(home)
}

fn base() -> Result<PathBuf> {
    let set = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let base = set.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(base.context("no HOME, so no place for a cache")?.join("hookgate"))
}

fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}
