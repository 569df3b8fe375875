//! Debian packages: installed as root after one line that says what and how big, never at the cost
//! of another package.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness_core::is_root;

/// Installs `packages`.
///
/// # Errors
/// Not root, no apt-get, no network, or something would have to go: one line, which ends with the
/// command for it.
pub fn packages(purpose: &str, packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let by_hand = format!("apt-get install --no-install-recommends --no-remove {names}");
    if !harness_core::in_path("apt-get") {
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

/// Downloads packages into `folder` as they are in the archive; apt verifies them. Nothing is
/// installed.
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

/// Refreshes the package lists before anything is chosen from them; with old ones, files are asked
/// for that the archive no longer has, and versions are chosen that newer ones have replaced. Says
/// so where they can't be refreshed.
pub fn refresh() {
    if let Err(e) = update() {
        eprintln!("xtask: the package lists can't be refreshed, those at hand are used: {e:#}");
    }
}

/// The version of a package that apt would install.
pub fn candidate(package: &str) -> Option<String> {
    let mut policy = unattended("apt-cache");
    policy.args(["policy", package]);
    let said = harness_core::run(policy).ok()?;
    let version = said.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// The version of a package that is installed.
pub fn installed(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status} ${Version}", package]);
    let said = harness_core::run(query).ok()?;
    Some(said.strip_prefix("installed ")?.to_owned())
}

/// What a package depends on, by name.
///
/// # Errors
/// apt does not know the package.
pub fn depends(package: &str) -> Result<Vec<String>> {
    let mut depends = unattended("apt-cache");
    depends.args(["depends", "--no-recommends", "--no-suggests", package]);
    let said = harness_core::run(depends)?;
    Ok(said.lines().filter_map(|line| Some(line.trim().strip_prefix("Depends: ")?.to_owned())).collect())
}

fn install(purpose: &str, packages: &[&str]) -> Result<()> {
    refresh();
    let size = size(packages)?;
    eprintln!("xtask: installing {} {purpose} ({size})", packages.join(", "));
    apt_get(&["install", "-y", "-qq"], packages)
}

/// What apt-get says about download and disk.
///
/// # Errors
/// apt-get's own first error: it does not know a package, or would have to remove one.
fn size(packages: &[&str]) -> Result<String> {
    // Installs nothing. `--assume-no` does, where apt-get has no reason to ask.
    let output =
        command(&["install", "-y", "--print-uris"], packages).output().context("starting apt-get")?;
    ensure!(output.status.success(), "{}", first_error(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let figure = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)?.split(" of ").next());
    let figures = figure("Need to get ").zip(figure("After this operation, "));
    let (download, disk) = figures.unwrap_or(("nothing", "nothing more"));
    Ok(format!("{download} to download, {disk} on disk"))
}

/// # Errors
/// apt-get's own first error.
fn apt_get(verb: &[&str], packages: &[&str]) -> Result<()> {
    finish(command(verb, packages))
}

/// The archive that this machine uses, where it is Debian 12's.
pub fn mirror() -> String {
    repository("bookworm", "http://deb.debian.org/debian")
}

/// Where this machine has security updates from, where it is Debian 12.
pub fn security_mirror() -> String {
    repository("bookworm-security", "http://deb.debian.org/debian-security")
}

fn repository(codename: &str, default: &str) -> String {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main"]);
    targets.arg(format!("Codename: {codename}"));
    let said = harness_core::run(targets).unwrap_or_default();
    said.lines().find(|line| line.starts_with("http")).unwrap_or(default).to_owned()
}

/// # Errors
/// apt-get's own first error.
pub fn finish(mut apt_get: Command) -> Result<()> {
    let output = apt_get.output().context("starting apt-get")?;
    ensure!(output.status.success(), "{}", first_error(&output.stderr));
    Ok(())
}

fn first_error(stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let why = stderr.lines().find_map(|line| line.strip_prefix("E: "));
    format!("apt-get: {}", why.unwrap_or("it failed and gave no reason"))
}

/// apt-get that asks nothing and removes nothing. A package's service is not started: a machine on
/// which hookgate is tried has not asked for an nginx on port 80.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// apt-get has no question about a package without dependencies that are missing, and installed
    /// it unasked.
    #[test]
    fn asking_for_a_size_installs_nothing() {
        const SMALL: &str = "sl";
        if candidate(SMALL).is_none() && is_root() {
            refresh();
        }
        if candidate(SMALL).is_none() {
            eprintln!("SKIPPED: asking_for_a_size_installs_nothing: apt does not know {SMALL}");
            return;
        }
        let status = || {
            let mut query = Command::new("dpkg-query");
            query.args(["--show", "--showformat=${Status}", SMALL]);
            harness_core::run(query).unwrap_or_default()
        };
        let before = status();
        assert!(size(&[SMALL]).unwrap().ends_with(" on disk"));
        assert_eq!(status(), before);
        let error = size(&["no-such-package-anywhere"]).unwrap_err().to_string();
        assert!(error.contains("Unable to locate package"), "{error}");
    }
}
