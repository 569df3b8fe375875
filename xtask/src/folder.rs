//! Folders that are made anew each time.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Makes the folder, with nothing in it.
///
/// # Errors
/// What is there can't be removed, or it can't be made.
pub fn empty(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("emptying {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))
}
