//! The package under a real systemd, on Debian's own kernel, in an emulated machine; and what the pages say about it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use harness::TempDir;

use crate::aftermath::quoted_path;
use crate::docs;
use crate::tally::Tally;
use crate::vm::{self, Debian};
use crate::workspace::Workspace;

/// By the host's clock: the machine is slow.
const LIMIT: Duration = Duration::from_secs(1200);

/// # Errors
/// The machine can't be had.
pub fn test(
    workspace: &Workspace,
    root: &Path,
    first: &Path,
    second: &Path,
    tally: &mut Tally,
) -> Result<()> {
    let debian = Debian::find_or_fetch()?;
    let dir = TempDir::new("booted")?;
    let pages = docs::for_package(workspace)?;
    let tests = format!("{}{}{pages}finish\n", include_str!("checks.sh"), include_str!("systemd.sh"));
    let tests = dir.write("tests", tests)?;
    let (modules, busybox) = (debian.modules(), debian.busybox());
    let paths = [
        ("lower", root),
        ("first", first),
        ("second", second),
        ("tests", tests.as_path()),
        ("modules", &modules),
        ("busybox", &busybox),
    ];
    let mut script: String =
        paths.iter().map(|(name, path)| format!("{name}={}\n", quoted_path(path))).collect();
    script += include_str!("boot.sh");
    vm::boot(&debian, &script, LIMIT, tally)
}
