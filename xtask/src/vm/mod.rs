//! Tests on the kernel that most users run, Debian 12's, on Debian 13's, and on the oldest that the
//! guard knows, in an emulated machine. Its files are the host's, read through virtiofs under a
//! layer in memory: whatever a test needs on the host it has there, at the same path.

mod debian;
mod guest;
mod initramfs;
mod suite;

use std::time::Duration;

use anyhow::{Result, ensure};
use harness_core::{Workspace, is_root, quoted, quoted_path};

use crate::build::Built;
use crate::test_summary::TestSummary;
pub use debian::Debian;
pub use guest::run as boot;
use suite::{Extent, Selected};

/// For one test binary, by the guest's clock: each of the guard's 70 tests takes half a minute.
const LIMIT: Duration = Duration::from_secs(3600);
/// For the guest altogether, by the host's.
const MACHINE_LIMIT: Duration = Duration::from_secs(3 * 3600);
const QUICK_MACHINE_LIMIT: Duration = Duration::from_secs(600);
/// As the firmware of some providers announces, one of which is there: the kernel keeps memory for
/// each.
const MANY_PROCESSORS: u32 = 128;

/// Which tests, and where.
pub struct Wanted<'a> {
    /// The few that show within a minute or so whether it works at all.
    pub quick: bool,
    /// How the kernel's version begins; all kernels without it.
    pub kernel: Option<&'a str>,
    /// One of these is in a test's name; all tests without them.
    pub words: &'a [String],
}

/// Runs the suite in a guest, and counts how it went.
///
/// # Errors
/// The guest or the tests can't be had. That a guest does not get to its end is a failed test.
pub fn test(
    workspace: &Workspace,
    built: &Built,
    wanted: &Wanted<'_>,
    summary: &mut TestSummary,
) -> Result<()> {
    ensure!(is_root(), "an emulated machine that reads all of the host's files needs root: run it with sudo");
    let extents = match wanted.quick {
        true => &[Extent::Quick][..],
        false => &[Extent::All, Extent::Quick, Extent::OnOtherKernels],
    };
    let debian = Debian::find_or_fetch()?;
    let mut is_any = false;
    for &extent in extents {
        let selected = suite::select(workspace, extent, wanted.words)?;
        if selected.is_empty() {
            continue;
        }
        let mut run = |debian: &Debian, processors, jit_harden, limit| {
            if wanted.kernel.is_some_and(|version| !debian.release().starts_with(version)) {
                return Ok(());
            }
            is_any = true;
            println!("\nLinux {} in an emulated machine", debian.release());
            let script = script(workspace, built, debian, jit_harden, &selected);
            guest::run(debian, processors, &script, limit, summary)
        };
        match extent {
            Extent::All => run(&debian, 1, 2, MACHINE_LIMIT)?,
            Extent::Quick => run(&debian, MANY_PROCESSORS, 2, QUICK_MACHINE_LIMIT)?,
            Extent::OnOtherKernels => {
                run(&debian.with_newer_kernel()?, 1, 2, MACHINE_LIMIT)?;
                // With 2 the oldest crashes when a timer calls a program.
                run(&debian.with_oldest_kernel()?, 1, 0, MACHINE_LIMIT)?;
            }
        }
    }
    ensure!(is_any, "no test like {:?} runs in an emulated machine with such a kernel", wanted.words);
    summary.skip_elsewhere();
    Ok(())
}

/// What a guest runs.
fn script(
    workspace: &Workspace,
    built: &Built,
    debian: &Debian,
    jit_harden: u8,
    selected: &[Selected],
) -> String {
    let mut script = format!(
        "BUSYBOX={} MODULES={} JIT_HARDEN={jit_harden}\n{}export HOOKGATE_BIN={}\ncd {}\n",
        quoted_path(&debian.busybox()),
        quoted_path(&debian.modules()),
        include_str!("tests.sh"),
        quoted_path(&built.binary),
        quoted_path(&workspace.root.join("tests"))
    );
    for run in selected {
        let tests = run.tests.iter().map(|test| quoted(test)).collect::<Vec<_>>().join(" ");
        let (binary, limit) = (quoted_path(&run.binary), LIMIT.as_secs());
        let function = run.how.function();
        script += &format!("{function} {} {limit} {binary} --color never --exact {tests}\n", run.name);
    }
    script + "finish\n"
}
