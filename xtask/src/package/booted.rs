//! The package under a real systemd, in an emulated machine: on Debian's own kernel, where what the
//! pages say about it is tried too, and on one that is too old for the guard.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use harness_core::{TempDir, Workspace, assignments};

use super::checks::CHECKS;
use crate::arch::Arch;
use crate::docs;
use crate::test_summary::TestSummary;
use crate::vm::{self, Debian};

const SYSTEMD: &str = include_str!("systemd.sh");
const RAN: &str = concat!(
    "ran package \"$system, emulated\" \"under its unit: restarted when it dies or hangs, upgraded without a ",
    "failed request, started by its socket; what the pages say, typed\"\n"
);
/// By the host's clock: the machine is slow.
const LIMIT: Duration = Duration::from_secs(3600);

/// # Errors
/// The machine can't be had.
pub fn test(
    workspace: &Workspace,
    root: &Path,
    first: &Path,
    second: &Path,
    summary: &mut TestSummary,
) -> Result<()> {
    if Arch::host()? != Arch::Amd64 {
        summary.skip("the Debian package under systemd: machines are emulated on amd64".to_owned());
        return Ok(());
    }
    let debian = Debian::find_or_fetch()?;
    let packages = [("lower", root), ("first", first), ("second", second)];
    let pages = docs::for_package(workspace)?;
    run(&debian, &format!("{SYSTEMD}{pages}{RAN}"), &packages, LIMIT, summary)?;
    run(&debian.with_old_kernel()?, include_str!("old_kernel.sh"), &packages, LIMIT, summary)
}

/// `packages`: a small Debian, and what is installed there, by what the script of `boot.sh` calls
/// them.
///
/// # Errors
/// The machine can't be started.
pub fn run(
    debian: &Debian,
    tests: &str,
    packages: &[(&str, &Path)],
    limit: Duration,
    summary: &mut TestSummary,
) -> Result<()> {
    let dir = TempDir::new("booted")?;
    let tests = dir.write("tests", format!("{CHECKS}{tests}finish\n"))?;
    let (modules, busybox, line) = (debian.modules(), debian.guest_busybox(), debian.line());
    let others = [("tests", tests.as_path()), ("modules", &modules), ("busybox", &busybox), ("line", line)];
    let script = assignments(packages.iter().chain(&others)) + include_str!("boot.sh");
    vm::boot(debian, 1, &script, limit, summary)
}
