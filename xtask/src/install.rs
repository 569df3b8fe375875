//! Debian packages: installed as root after one line that says what and how big, never at the cost of another package.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::workspace::is_root;

/// Programs of the demo and the tests, and the packages that bring them.
pub const PROGRAMS: [(&str, &str); 17] = [
    ("bpftool", "bpftool"),
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("ethtool", "ethtool"),
    ("gdb", "gdb"),
    ("h2load", "nghttp2-client"),
    ("haproxy", "haproxy"),
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("pebble", "pebble"),
    ("pebble-challtestsrv", "pebble"),
    ("python3", "python3"),
    ("strace", "strace"),
    ("tcpdump", "tcpdump"),
    ("tmux", "tmux"),
];

/// Installs what is missing of [`PROGRAMS`].
///
/// # Errors
/// As [`packages`].
pub fn programs(purpose: &str) -> Result<()> {
    let missing =
        PROGRAMS.iter().filter(|(program, _)| !harness::in_path(program)).map(|(_, package)| *package);
    let missing = missing.collect::<Vec<_>>();
    if missing.is_empty() { Ok(()) } else { packages(purpose, &missing) }
}

/// Installs `packages`.
///
/// # Errors
/// Not root, no apt-get, no network, or something would have to go: one line, which ends with the command for it.
pub fn packages(purpose: &str, packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let by_hand = format!("apt-get install --no-install-recommends --no-remove {names}");
    if !harness::in_path("apt-get") {
        bail!("there is no apt-get here to install {names} {purpose}: install their like by hand");
    }
    if !is_root() {
        bail!("missing {purpose}: {names}; run: sudo {by_hand}");
    }
    install(purpose, packages)
        .map_err(|why| anyhow!("can't install {names} {purpose} ({why}); run: {by_hand}"))
}

/// Reads the archives' lists anew.
///
/// # Errors
/// apt-get's own first error.
pub fn update() -> Result<()> {
    apt_get(&["update", "-qq"], &[])
}

/// Downloads packages into `folder` as they are in the archive; apt verifies them. Nothing is installed.
///
/// # Errors
/// apt-get's own first error.
pub fn download(packages: &[&str], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut download = unattended("apt-get");
    download.args(["download", "-qq"]).args(packages).current_dir(folder);
    finish(download)
}

/// The same, with what they need and this system does not have.
///
/// # Errors
/// apt-get's own first error.
pub fn download_with_dependencies(packages: &[&str], folder: &Path) -> Result<()> {
    let partial = folder.join("partial");
    std::fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
    let mut install = unattended("apt-get");
    install.args(["install", "--download-only", "--reinstall", "--no-install-recommends", "-y", "-qq", "-o"]);
    install.arg(format!("Dir::Cache::archives={}", folder.display())).args(packages);
    finish(install)
}

fn install(purpose: &str, packages: &[&str]) -> Result<()> {
    let size = match size(packages)? {
        Some(size) => size,
        None => {
            update()?;
            size(packages)?.context("this system's package lists don't have them")?
        }
    };
    eprintln!("xtask: installing {} {purpose} ({size})", packages.join(", "));
    if apt_get(&["install", "-y", "-qq"], packages).is_err() {
        // Lists of another day name files that the mirror has no more.
        update()?;
        apt_get(&["install", "-y", "-qq"], packages)?;
    }
    Ok(())
}

/// What apt-get says about download and disk; `None` when it does not know the packages, or would remove others.
fn size(packages: &[&str]) -> Result<Option<String>> {
    let output = command(&["install", "--assume-no"], packages).output().context("starting apt-get")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)?.split(" of ").next());
    let figures = figure("Need to get ").zip(figure("After this operation, "));
    Ok(figures.map(|(download, disk)| format!("{download} to download, {disk} on disk")))
}

/// # Errors
/// apt-get's own first error.
fn apt_get(verb: &[&str], packages: &[&str]) -> Result<()> {
    finish(command(verb, packages))
}

/// The archive that this machine uses, where it is Debian 12's.
pub fn mirror() -> String {
    const ARCHIVE: &str = "http://deb.debian.org/debian";
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]);
    targets.arg("Codename: bookworm");
    let said = harness::run(targets).unwrap_or_default();
    said.lines().find(|line| line.starts_with("http")).unwrap_or(ARCHIVE).to_owned()
}

/// # Errors
/// apt-get's own first error.
pub fn finish(mut apt_get: Command) -> Result<()> {
    let output = apt_get.output().context("starting apt-get")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    let why = stderr.lines().find_map(|line| line.strip_prefix("E: "));
    ensure!(output.status.success(), "apt-get: {}", why.unwrap_or("it failed without a word"));
    Ok(())
}

/// apt-get that asks nothing and removes nothing. A package's service is not started: a machine on which hookgate is
/// tried has not asked for an nginx on port 80.
fn command(verb: &[&str], packages: &[&str]) -> Command {
    const WITHOUT_SERVICES: &str = r#"
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap 'rm -f $policy' EXIT
            printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
        fi
        apt-get "$@""#;
    let mut command = unattended("sh");
    command.args(["-c", WITHOUT_SERVICES, "apt-get"]);
    command.args(["--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(verb).args(packages);
    command
}

/// A program that asks nothing, and speaks as we read it.
pub fn unattended(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}
