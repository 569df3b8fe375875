//! What happens to a Debian in which the package is installed, used, upgraded and purged.

use std::path::Path;

use anyhow::Result;
use harness_core::TempDir;

use super::checks::CHECKS;
use crate::overlay_root::{self, Network};
use crate::test_summary::TestSummary;

/// Goes into the root with the packages and the script.
const ENTER: &str = r#"
cp "$first" run/first.deb
cp "$second" run/second.deb
printf '%s' "$script" >run/script
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 chroot . sh /run/script
"#;

/// The tests, each in a Debian as it was.
const SCRIPTS: [&str; 3] =
    [include_str!("installed.sh"), include_str!("certbot.sh"), include_str!("stopwatch.sh")];

/// # Errors
/// The namespaces can't be had.
pub fn test(root: &Path, first: &Path, second: &Path, summary: &mut TestSummary) -> Result<()> {
    SCRIPTS.iter().try_for_each(|script| run(script, root, first, second, summary))
}

fn run(script: &str, root: &Path, first: &Path, second: &Path, summary: &mut TestSummary) -> Result<()> {
    let overlay = TempDir::new("package")?;
    let mut shell = overlay_root::shell(
        overlay.path(),
        root,
        Network::Own,
        &[("first", first), ("second", second)],
        ENTER,
    );
    shell.env("script", format!("{CHECKS}{script}finish\n"));
    summary.run(shell, Some("the Debian package ... FAILED: it ended before its tests did"))
}
