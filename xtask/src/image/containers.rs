//! The image in a container engine that needs no daemon (podman with crun), on a machine of its
//! own: namespaces in which nothing of this machine is seen or left behind.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use harness_core::{TempDir, Workspace, is_root};

use super::build;
use crate::arch::Arch;
use crate::test_summary::TestSummary;
use crate::{install, python};

/// What is started, and Debian's package that has it.
const PROGRAMS: [(&str, &str); 13] = [
    ("bpftool", "bpftool"),
    ("curl", "curl"),
    ("conmon", "conmon"),
    ("crun", "crun"),
    ("ip", "iproute2"),
    ("netavark", "netavark"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("podman", "podman"),
    ("pip3", "python3-pip"),
    ("skopeo", "skopeo"),
    ("nsenter", "util-linux"),
    ("yamllint", "yamllint"),
];
/// The engine's default seccomp filter, and that it takes images from anywhere.
const FILES: [(&str, &str); 2] = [
    ("/usr/share/containers/seccomp.json", "golang-github-containers-common"),
    ("/etc/containers/policy.json", "golang-github-containers-image"),
];
/// That of Debian 12 gives a container on the machine's network a second one.
const COMPOSE: [&str; 2] = ["podman-compose", "1.6.0"];
/// Mounts, and a network without a way out: everything goes with the last process inside.
const ENTER: &str = r#"
set -e
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t bpf -o mode=700 bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
ip link set lo up
cd "$dir"
set +e
"#;
const SCRIPT: &str = concat!(
    include_str!("../retry_until.sh"),
    include_str!("../check.sh"),
    include_str!("engine.sh"),
    include_str!("containers.sh"),
    include_str!("matrix.sh"),
);

/// Runs this machine's image in a container engine.
///
/// # Errors
/// The image can't be made, or the engine can't be had.
pub fn test(workspace: &Workspace, summary: &mut TestSummary) -> Result<()> {
    if !is_root() {
        summary.skip("the container image: needs root".to_owned());
        return Ok(());
    }
    let programs = PROGRAMS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package);
    let files = FILES.iter().filter(|(file, _)| !Path::new(file).exists());
    let missing: Vec<&str> = programs.chain(files.map(|(_, package)| *package)).collect();
    if !missing.is_empty() {
        install::packages("to run the image", &missing)?;
    }
    let compose = compose()?;
    let image = build::layout(workspace, &[Arch::host()?])?;
    let dir = TempDir::new("image")?;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "sh", "-c"]);
    unshare.arg([ENTER, SCRIPT, "finish\n"].concat());
    unshare.env("image", image).env("dir", dir.path()).env("packaging", workspace.root.join("packaging"));
    unshare.env("compose", compose).env("version", env!("CARGO_PKG_VERSION"));
    let shell = harness_core::wrapped("setpriv", &["--pdeathsig", "KILL", "--"], &unshare);
    summary.run(shell, Some("the container image ... FAILED: it ended before its tests did"))
}

/// podman-compose, with what it needs: a reader of YAML.
fn compose() -> Result<PathBuf> {
    let [package, version] = COMPOSE;
    python::find_or_fetch(package, version, |home| {
        let mut python = python::python(home);
        python.arg(home.join("podman_compose.py")).arg("--help");
        harness_core::run(python).is_ok()
    })
}

/// netavark is started by podman alone, and lies where no PATH leads.
fn is_there(program: &str) -> bool {
    harness_core::in_path(program) || Path::new("/usr/lib/podman").join(program).exists()
}
