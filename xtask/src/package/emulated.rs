//! The package for another processor than this machine's, under systemd and with packets, in an
//! emulated machine of that processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use harness_core::{Workspace, assignments, is_root};

use super::{booted, components, pack};
use crate::arch::Arch;
use crate::archive::{Archive, Origin, unpack};
use crate::test_summary::TestSummary;
use crate::vm::Debian;
use crate::{cache, docs, install, release};

const SUITE: &str = "bookworm";
const PACKAGES: &str = "adduser,ca-certificates,curl,iproute2,openssl,python3,systemd,systemd-sysv";
/// The authority of the stopwatch: a program and the C library, so unpacking is enough.
const AUTHORITY: &str = "pebble";
/// What docs/install.md has typed there.
const STEPS: &str = "install_from_the_package_alone";
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
    let tests =
        format!("cat >/run/steps <<'EOF'\n{}EOF\n{}", steps(workspace, arch)?, include_str!("arm64.sh"));
    booted::run(&debian, &tests, &packages, LIMIT, summary)
}

/// The commands from the package to the first webhook, as the page has them for amd64.
fn steps(workspace: &Workspace, arch: Arch) -> Result<String> {
    let typed = docs::marked(workspace, "needs=package")?;
    let (_, text) = typed.into_iter().find(|(name, _)| name == STEPS).context("the page has no steps")?;
    Ok(text.replace(&format!("_{}.deb", Arch::Amd64), &format!("_{arch}.deb")))
}

/// A small Debian of the other processor, in the cache.
fn find_or_make(debian: &Debian) -> Result<PathBuf> {
    if !harness_core::in_path("debootstrap") {
        install::packages("to test the package in a Debian of its own", &["debootstrap"])?;
    }
    let arch = debian.arch;
    let works = |root: &Path| {
        let has = |file| root.join(file).exists();
        has("usr/bin/curl") && has("usr/bin/pebble") && !has(UNFINISHED)
    };
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
        harness_core::run(second_stage)?;
        let scratch = aside.join("archives");
        let archive = Archive::read(&Origin::debian().for_arch(arch), SUITE, &scratch)?;
        archive.download(AUTHORITY, &scratch)?;
        unpack(&scratch, aside)
    })
}
