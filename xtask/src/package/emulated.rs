//! The package for another processor than this machine's, under systemd and with packets, in an
//! emulated machine of that processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use harness_core::{Workspace, assignments, is_root};

use super::{booted, components, pack};
use crate::arch::Arch;
use crate::test_summary::TestSummary;
use crate::vm::Debian;
use crate::{cache, install, release};

const SUITE: &str = "bookworm";
const PACKAGES: &str = "adduser,ca-certificates,curl,iproute2,openssl,python3,systemd,systemd-sysv";
/// A folder that the second stage of debootstrap removes when it is done.
const UNFINISHED: &str = "debootstrap";
/// By the host's clock.
const LIMIT: Duration = Duration::from_secs(3600);

/// Packs two revisions for `arch`, and installs, uses, upgrades and purges them in such a machine.
///
/// # Errors
/// The packages or the machine can't be had.
pub fn test(workspace: &Workspace, arch: Arch, summary: &mut TestSummary) -> Result<()> {
    if !is_root() {
        summary.skip(format!("the Debian package for {arch}: needs root"));
        return Ok(());
    }
    if arch != Arch::Arm64 {
        summary.skip(format!("the Debian package for {arch}: machines are emulated on amd64"));
        return Ok(());
    }
    let debian = Debian::find_or_fetch()?.for_arm64()?;
    let root = find_or_make(&debian)?;
    let binary = release::binary(workspace, arch)?;
    let [first, second] = [1, 2].map(|revision| pack::pack(workspace, arch, &binary, revision));
    let (first, second) = (first?, second?);
    components::validate(&first, summary)?;
    let packages = [("lower", root.as_path()), ("first", &first), ("second", &second)];
    booted::run(&debian, include_str!("arm64.sh"), &packages, LIMIT, summary)
}

/// A small Debian of the other processor, in the cache.
fn find_or_make(debian: &Debian) -> Result<PathBuf> {
    if !harness_core::in_path("debootstrap") {
        install::packages("to test the package in a Debian of its own", &["debootstrap"])?;
    }
    let arch = debian.arch;
    let works = |root: &Path| root.join("usr/bin/curl").exists() && !root.join(UNFINISHED).exists();
    cache::find_or_make(&format!("debian-{SUITE}-{arch}"), works, |aside, home| {
        let place = home.display();
        eprintln!("xtask: making a small Debian for {arch} once, into {place} (100 MB to download)");
        let mut first_stage = Command::new("debootstrap");
        first_stage.args(["--foreign", "--arch", arch.name(), "--variant=minbase"]);
        first_stage.arg(format!("--include={PACKAGES}")).arg(SUITE).arg(aside).arg(install::mirror());
        harness_core::run(first_stage)?;
        // In a container, debootstrap makes a link of it.
        let proc = aside.join("proc");
        if proc.is_symlink() {
            fs::remove_file(&proc)?;
            fs::create_dir(&proc)?;
        }
        let mut second_stage = Command::new("sh");
        let paths = [("root", aside), ("emulator", &release::emulator()?)];
        second_stage.args(["-c", &(assignments(&paths) + include_str!("second_stage.sh"))]);
        harness_core::run(second_stage).map(|_| ())
    })
}
