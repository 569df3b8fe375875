//! The Debians to install in.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::debootstrap::Root;
use crate::{cache, install};

/// What a server has, and python3, which serves the repository.
const SERVER: &str = "adduser,ca-certificates,curl,iproute2,python3,systemd,systemd-sysv";
/// By which others set machines up, what judges it, and gpg, which verifies.
const OTHERS_HABITS: [&str; 6] = ["ansible-core", "ansible-lint", "cloud-init", "gpg", "gpgv", "python3-apt"];

/// # Errors
/// There is no debootstrap, or no archive.
pub fn server(suite: &str) -> Result<PathBuf> {
    let root = Root {
        name: &format!("apt-{suite}"),
        suite,
        packages: SERVER,
        purpose: "to install from the repository in a Debian of its own",
        files: ["usr/bin/curl", "usr/bin/python3"],
    };
    root.find_or_make(|_| Ok(()))
}

/// The same with [`OTHERS_HABITS`].
///
/// # Errors
/// As [`server`].
pub fn with_others_habits(suite: &str) -> Result<PathBuf> {
    let works = |root: &Path| {
        let programs = ["bin/ansible-playbook", "bin/ansible-lint", "bin/cloud-init", "bin/gpg", "bin/gpgv"];
        let module = "lib/python3/dist-packages/apt/__init__.py";
        programs.iter().chain([&module]).all(|file| root.join("usr").join(file).exists())
    };
    let server = server(suite)?;
    cache::find_or_make(&format!("apt-{suite}-with-ansible-and-cloud-init"), works, |aside, home| {
        eprintln!("xtask: fetching Ansible and cloud-init once, into {} (100 MB)", home.display());
        let mut copy = Command::new("cp");
        copy.args(["-a", "--no-target-directory"]).arg(&server).arg(aside);
        harness_core::run(copy)?;
        let mut add = install::unattended("chroot");
        add.arg(aside).args(["apt-get", "install", "-y", "-qq", "--no-install-recommends"]);
        add.args(OTHERS_HABITS);
        install::finish(add)
    })
}
