//! A root that is thrown away: an overlay over another root, which only the processes inside see.

use harness_core::assignments;

use std::path::Path;
use std::process::Command;

/// Everything goes with the last process inside. Leaves the shell in the new root's folder.
const ENTER: &str = r#"
set -e
mount -t tmpfs tmpfs "$overlay"
mkdir "$overlay/upper" "$overlay/work" "$overlay/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$overlay/upper,workdir=$overlay/work" root "$overlay/root"
cd "$overlay/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t bpf -o mode=700 bpf sys/fs/bpf
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
ip link set lo up
"#;

/// The network of a root.
pub enum Network {
    /// Its own: only `lo`.
    Own,
    /// This machine's, to download from.
    Shared,
}

/// A shell with `overlay` (an empty folder) mounted over `lower`, which takes the steps in `inside`
/// with `paths` as its variables. It ends when we do.
pub fn shell(
    overlay: &Path,
    lower: &Path,
    network: Network,
    paths: &[(&str, &Path)],
    inside: &str,
) -> Command {
    let places = [("overlay", overlay), ("lower", lower)];
    let script = [&assignments(places.iter().chain(paths)), ENTER, inside].concat();
    let mut unshare = Command::new("unshare");
    if matches!(network, Network::Own) {
        unshare.arg("--net");
    }
    unshare.args(["--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    harness_core::wrapped("setpriv", &["--pdeathsig", "KILL", "--"], &unshare)
}
