//! A small Debian to install the package in.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::debootstrap::Root;

const SUITE: &str = "bookworm";
/// What a server has.
const SERVER: &str = "ca-certificates,curl,iproute2,systemd,systemd-sysv";
/// The programs that hookgate works with. debootstrap can't configure them, apt can.
const OTHERS: [&str; 2] = ["certbot", "pebble"];

/// # Errors
/// There is no debootstrap, or no archive.
pub fn find_or_make() -> Result<PathBuf> {
    let root = Root {
        name: &format!("debian-{SUITE}"),
        suite: SUITE,
        packages: SERVER,
        purpose: "to test the package in a Debian of its own",
        files: ["usr/bin/certbot", "usr/bin/pebble"],
    };
    root.find_or_make(|root| {
        let mut install = Command::new("chroot");
        install.arg(root).args(["apt-get", "install", "-y", "-qq", "--no-install-recommends"]).args(OTHERS);
        install.env("DEBIAN_FRONTEND", "noninteractive");
        harness_core::run(install)?;
        // Half of its size, and nothing that is installed.
        let archives = root.join("var/cache/apt/archives");
        ensure!(archives.is_dir(), "debootstrap left no {}", archives.display());
        std::fs::remove_dir_all(&archives)?;
        Ok(std::fs::create_dir_all(archives.join("partial"))?)
    })
}
