//! Signed checksums of everything in a folder: packages, what they are made of, images.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::signer::Signer;

const SUMS: &str = "SHA256SUMS";
/// What is signed by itself.
const LISTS: &str = "dists";

/// Writes `SHA256SUMS`, and its signature beside it, into `folder`.
///
/// # Errors
/// A file can't be read or written, or those of gpg.
pub fn write(folder: &Path, signer: &Signer) -> Result<()> {
    let mut files = Vec::new();
    collect(folder, folder, &mut files)?;
    files.sort();
    ensure!(!files.is_empty(), "{} is empty", folder.display());
    let mut sha256sum = Command::new("sha256sum");
    sha256sum.arg("--").args(&files).current_dir(folder).env("LC_ALL", "C");
    let path = folder.join(SUMS);
    fs::write(&path, harness_core::run(sha256sum)?).with_context(|| format!("writing {}", path.display()))?;
    signer.sign_beside(&path, &folder.join(format!("{SUMS}.asc")))
}

/// By their names in `base`.
fn collect(base: &Path, folder: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        let name = path.strip_prefix(base)?.to_string_lossy().into_owned();
        if path.is_dir() && name != LISTS {
            collect(base, &path, files)?;
        } else if path.is_file() && !name.starts_with(SUMS) {
            files.push(name);
        }
    }
    Ok(())
}
