//! A small Debian to install the package in, made once by debootstrap and kept in the cache.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{cache, install};

const SUITE: &str = "bookworm";
/// What a server has.
const SERVER: &str = "ca-certificates,curl,iproute2,systemd,systemd-sysv";
/// Whom hookgate works with: debootstrap does not get them configured, apt does.
const OTHERS: [&str; 2] = ["certbot", "pebble"];

/// # Errors
/// There is no debootstrap, or no archive.
pub fn find_or_make() -> Result<PathBuf> {
    if !harness::in_path("debootstrap") {
        install::packages("to test the package in a Debian of its own", &["debootstrap"])?;
    }
    let works = |root: &Path| root.join("usr/bin/certbot").exists() && root.join("usr/bin/pebble").exists();
    cache::find_or_make(&format!("debian-{SUITE}"), works, |aside, home| {
        eprintln!("xtask: fetching a small Debian once, into {} (150 MB to download)", home.display());
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args(["--variant=minbase", &format!("--include={SERVER}"), SUITE]);
        debootstrap.arg(aside).arg(install::mirror());
        harness::run(debootstrap)?;
        let mut install = Command::new("chroot");
        install.arg(aside).args(["apt-get", "install", "-y", "-qq", "--no-install-recommends"]).args(OTHERS);
        install.env("DEBIAN_FRONTEND", "noninteractive");
        harness::run(install)?;
        // Half of its size, and nothing that is installed.
        let archives = aside.join("var/cache/apt/archives");
        ensure!(archives.is_dir(), "debootstrap left no {}", archives.display());
        std::fs::remove_dir_all(&archives)?;
        Ok(std::fs::create_dir_all(archives.join("partial"))?)
    })
}
