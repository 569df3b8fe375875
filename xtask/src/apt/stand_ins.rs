//! What tests put in the place of real keys, and of packages that can't be built here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::arch::Arch;

/// Makes a secret key, and returns its file in `folder`.
///
/// # Errors
/// Those of gpg.
pub fn key(folder: &Path, name: &str) -> Result<PathBuf> {
    // An agent of its own, which ends with the folder that it works in.
    const MAKE: &str = r#"
        home=$(mktemp -d) && trap 'gpgconf --homedir "$home" --kill all; rm -rf "$home"' EXIT
        gpg="gpg --homedir $home --batch --quiet"
        $gpg --passphrase '' --quick-generate-key "$1 <$1@example.com>" ed25519 sign never &&
            $gpg --armor --export-secret-keys >"$2""#;
    let file = folder.join(format!("{name}.key"));
    let mut make = Command::new("sh");
    make.args(["-c", MAKE, "sh", name]).arg(&file);
    harness_core::run(make)?;
    Ok(file)
}

/// A package without files, named as ours are; `committed` in seconds since 1970.
///
/// # Errors
/// Those of dpkg-deb.
pub fn package(folder: &Path, version: &str, arch: Arch, committed: u64) -> Result<PathBuf> {
    let tree = folder.join("tree");
    let control = tree.join("DEBIAN/control");
    fs::create_dir_all(tree.join("DEBIAN")).with_context(|| format!("creating {}", tree.display()))?;
    let text = format!(
        "Package: hookgate\nVersion: {version}\nArchitecture: {arch}\n\
         Maintainer: The hookgate authors <hookgate@example.invalid>\nDescription: a stand-in\n"
    );
    fs::write(&control, text).with_context(|| format!("writing {}", control.display()))?;
    let package = folder.join(format!("hookgate_{version}_{arch}.deb"));
    let mut dpkg_deb = Command::new("dpkg-deb");
    dpkg_deb.args(["--root-owner-group", "--build"]).arg(&tree).arg(&package);
    dpkg_deb.env("SOURCE_DATE_EPOCH", committed.to_string());
    harness_core::run(dpkg_deb)?;
    fs::remove_dir_all(&tree)?;
    Ok(package)
}
