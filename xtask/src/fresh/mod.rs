//! Machines that have never seen hookgate: the README's first command, in small roots of
//! distributions.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use harness_core::{TempDir, Workspace, is_root};

use crate::debootstrap::Root;
use crate::ebpf;
use crate::overlay_root::{self, Network};
use crate::test_summary::TestSummary;

/// Goes into the root: the sources and a Rust toolchain without rustup are all that is brought
/// along.
const ENTER: &str = r#"
mkdir -p opt/rust mnt/source
mount --bind "$rust" opt/rust
mount --bind "$source" mnt/source
cp /etc/resolv.conf etc/resolv.conf
# Where a company's gateway looks into TLS, this machine's authorities include its own.
cp "$authorities" etc/ssl/certs/ca-certificates.crt
printf '%s' "$script" >run/script
exec env -i PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 chroot . sh /run/script
"#;
const SCRIPT: &str =
    concat!(include_str!("../retry_until.sh"), include_str!("../check.sh"), include_str!("checks.sh"));

/// What a machine needs to compile Rust.
const PACKAGES: &str = "ca-certificates,curl,gcc,git,iproute2,libc6-dev";

/// The steps of a test in a root of that suite.
const ROOTS: [(&str, &str, &str); 3] = [
    // Its lists are of the day of its release: the compiler that they know is too old.
    ("debian-12-old-lists", "bookworm", "old_lists\nfirst_run\ncompile\n"),
    ("debian-13", "trixie", "first_run\n"),
    ("no-compiler-for-bpf", "bookworm", "without_apt\nfirst_run\n"),
];

/// Runs `cargo xtask run` in each root, with a stopwatch.
///
/// # Errors
/// A root can't be made.
pub fn test(workspace: &Workspace, summary: &mut TestSummary) -> Result<()> {
    if !is_root() {
        summary.skip("fresh machines: needs root".to_owned());
        return Ok(());
    }
    ROOTS.iter().try_for_each(|(name, suite, steps)| run(workspace, name, suite, steps, summary))
}

fn run(workspace: &Workspace, name: &str, suite: &str, steps: &str, summary: &mut TestSummary) -> Result<()> {
    let (root, overlay) = (find_or_make(suite)?, TempDir::new("fresh")?);
    // The toolchain that compiles us.
    let rust = ebpf::sysroot(Path::new("rustc"))?;
    ensure!(rust.join("bin/cargo").exists(), "no cargo in {}", rust.display());
    let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
    let paths =
        [("rust", rust.as_path()), ("source", workspace.root.as_path()), ("authorities", authorities)];
    let mut shell = overlay_root::shell(overlay.path(), &root, Network::Shared, &paths, ENTER);
    shell.env("script", format!("root={name}\n{SCRIPT}{steps}finish\n"));
    summary.run(shell, Some(&format!("fresh::{name} ... FAILED: it ended before its tests did")))
}

/// A small Debian. Its package lists are those of its release, without later updates.
fn find_or_make(suite: &str) -> Result<PathBuf> {
    let root = Root {
        name: &format!("fresh-{suite}"),
        suite,
        packages: PACKAGES,
        purpose: "to try hookgate on fresh machines",
        files: ["usr/bin/git", "usr/bin/curl"],
    };
    root.find_or_make(|_| Ok(()))
}
