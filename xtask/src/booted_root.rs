//! A root that is thrown away and in which systemd runs, as in a container: for what takes units,
//! and no kernel of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use harness_core::{Cleanup, TempDir, quoted, quoted_path};

use crate::overlay_root::{self, Network};
use crate::test_summary::TestSummary;

/// Whether the tests have succeeded, by how the container's first process ended.
const POWERED_OFF: &str = "\"$@\"; [ $? -eq 130 ]";

/// A script that is run once the root has booted.
pub struct Booted<'a> {
    /// In the test runner's words.
    pub name: &'a str,
    /// The root underneath. It has systemd.
    pub root: &'a Path,
    /// Variables of `prepare`.
    pub paths: &'a [(&'a str, &'a Path)],
    /// Steps in the root's folder before it boots.
    pub prepare: &'a str,
    pub tests: &'a str,
    pub limit: Duration,
}

impl Booted<'_> {
    /// # Errors
    /// The namespaces can't be had.
    pub fn run(&self, summary: &mut TestSummary) -> Result<()> {
        let (overlay, files) = (TempDir::new("booted")?, TempDir::new("booted-files")?);
        let tests = files.write("tests", self.tests)?;
        let group = format!("hookgate-{}", std::process::id());
        let cleanup = Cleanup::new()?;
        cleanup.add(&remove_group(&group, files.path()))?;

        let inside = [self.prepare, include_str!("booted_root.sh")].concat();
        let paths = [self.paths, &[("tests", tests.as_path()), ("group", Path::new(&group))]].concat();
        let shell = overlay_root::shell(overlay.path(), self.root, Network::Own, &paths, &inside);
        let shell = harness_core::wrapped("sh", &["-c", POWERED_OFF, "sh"], &shell);
        let seconds = self.limit.as_secs().to_string();
        let shell = harness_core::wrapped("timeout", &["--kill-after=5", &seconds], &shell);
        let failed =
            format!("{} ... FAILED: it ended before its tests did, or took over {seconds} s", self.name);
        let result = summary.run(shell, Some(&failed));
        // Before the folder in which it works.
        drop(cleanup);
        result
    }
}

/// Removes what systemd leaves of control groups, which outlive those in them.
fn remove_group(group: &str, folder: &Path) -> String {
    const REMOVE: &str = "mount -t cgroup2 cgroup2 \"$0\" && cd \"$0\" || exit; \
        for _ in 1 2 3 4 5 6 7 8 9 10; do \
        [ -d \"$1\" ] || exit 0; find \"$1\" -depth -type d -exec rmdir {} + 2>/dev/null; sleep 0.2; \
        done; echo \"the control group $1 stays behind\" >&2";
    format!("unshare --mount sh -c {} {} {}", quoted(REMOVE), quoted_path(folder), quoted(group))
}
