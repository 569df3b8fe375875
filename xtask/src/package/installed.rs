//! What happens to a Debian in which the package is installed, used, upgraded and purged.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use harness::TempDir;

use crate::aftermath::quoted_path;
use crate::tally::Tally;

/// Goes into a root that only this process and its children see, over the one that is kept; all of it goes with them.
const ENTER: &str = r#"
set -e
mount -t tmpfs tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay -o "lowerdir=$lower,upperdir=$layer/upper,workdir=$layer/work" root "$layer/root"
mount -t proc proc "$layer/root/proc"
mount -t sysfs sysfs "$layer/root/sys"
mount -t bpf -o mode=700 bpf "$layer/root/sys/fs/bpf"
mount --rbind /dev "$layer/root/dev"
mount -t tmpfs tmpfs "$layer/root/run"
mount -t tmpfs tmpfs "$layer/root/tmp"
ip link set lo up
cp "$first" "$layer/root/run/first.deb"
cp "$second" "$layer/root/run/second.deb"
printf '%s' "$script" >"$layer/root/run/script"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 chroot "$layer/root" sh /run/script
"#;

/// The tests, each in a Debian as it was.
const SCRIPTS: [&str; 3] =
    [include_str!("installed.sh"), include_str!("certbot.sh"), include_str!("stopwatch.sh")];

/// # Errors
/// The namespaces can't be had.
pub fn test(root: &Path, first: &Path, second: &Path, tally: &mut Tally) -> Result<()> {
    SCRIPTS.iter().try_for_each(|script| run(script, root, first, second, tally))
}

fn run(script: &str, root: &Path, first: &Path, second: &Path, tally: &mut Tally) -> Result<()> {
    let layer = TempDir::new("package")?;
    let variables = [("layer", layer.path()), ("lower", root), ("first", first), ("second", second)];
    let mut enter: String =
        variables.iter().map(|(name, path)| format!("{name}={}\n", quoted_path(path))).collect();
    enter += ENTER;
    let (output, input) = std::io::pipe()?;
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--mount",
        "--net",
        "--ipc",
        "--uts",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        &enter,
    ]);
    unshare.env("script", format!("{}{script}finish\n", include_str!("checks.sh")));
    unshare.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    let mut child = unshare.spawn().context("starting unshare")?;
    drop(unshare); // and with it our copies of the pipe's end
    let followed = tally.follow(output)?;
    if !child.wait()?.success() && !followed.any_failed {
        println!("test the Debian package ... FAILED: it ended before its tests did");
        tally.fail();
    }
    Ok(())
}
