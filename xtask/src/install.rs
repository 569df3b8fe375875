//! Debian packages: installed as root after one line that says what and how big, never at the cost of another package.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace::is_root;

/// Programs of the demo and the tests, and the packages that bring them.
pub const PROGRAMS: [(&str, &str); 8] = [
    ("bpftool", "bpftool"),
    ("curl", "curl"),
    ("dnsmasq", "dnsmasq-base"),
    ("ethtool", "ethtool"),
    ("ip", "iproute2"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("tcpdump", "tcpdump"),
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
/// Not root, no apt-get, no network, or something would have to go: the error holds the command to run by hand.
pub fn packages(purpose: &str, packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get install --no-install-recommends --no-remove {}", packages.join(" "));
    if !is_root() {
        bail!("{} missing {purpose}; run: sudo {by_hand}", packages.join(", "));
    }
    install(purpose, packages)
        .with_context(|| format!("installing what is missing {purpose}; by hand: {by_hand}"))
}

fn install(purpose: &str, packages: &[&str]) -> Result<()> {
    let size = match size(packages) {
        Some(size) => size,
        None => {
            harness::run(apt_get(&["update", "-qq"], &[])?)?;
            size(packages).with_context(|| format!("this system has no {}", packages.join(" or no ")))?
        }
    };
    eprintln!("xtask: installing {} {purpose} ({size})", packages.join(", "));
    if harness::run(apt_get(&["install", "-y", "-qq"], packages)?).is_err() {
        // Lists of another day name files that the mirror has no more.
        harness::run(apt_get(&["update", "-qq"], &[])?)?;
        harness::run(apt_get(&["install", "-y", "-qq"], packages)?)?;
    }
    Ok(())
}

/// What apt-get says about download and disk; `None` when it does not know the packages, or would remove others.
fn size(packages: &[&str]) -> Option<String> {
    let mut ask = apt_get(&["install", "--assume-no"], packages).ok()?;
    let output = String::from_utf8(ask.output().ok()?.stdout).ok()?;
    let line = |start: &str| output.lines().find_map(|line| line.strip_prefix(start));
    let download = line("Need to get ")?.split(" of ").next()?;
    let disk = line("After this operation, ")?.split(" of ").next()?;
    Some(format!("{download} to download, {disk} on disk"))
}

/// apt-get that asks nothing and removes nothing. A package's service is not started: a machine on which hookgate is
/// tried has not asked for an nginx on port 80.
fn apt_get(verb: &[&str], packages: &[&str]) -> Result<Command> {
    const WITHOUT_SERVICES: &str = r#"
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap 'rm -f $policy' EXIT
            printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
        fi
        apt-get "$@""#;
    if !harness::in_path("apt-get") {
        bail!("no apt-get here: install them with the system's own package manager");
    }
    let mut command = Command::new("sh");
    command.args(["-c", WITHOUT_SERVICES, "apt-get"]);
    command.args(["--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=300"]);
    command.args(verb).args(packages);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    Ok(command)
}
