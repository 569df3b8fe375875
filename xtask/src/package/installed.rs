//! What happens to a Debian in which the package is installed, used, upgraded and purged.

use std::path::Path;

use anyhow::Result;
use harness::TempDir;

use super::CHECKS;
use crate::layer::{self, Network};
use crate::tally::Tally;

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
pub fn test(root: &Path, first: &Path, second: &Path, tally: &mut Tally) -> Result<()> {
    SCRIPTS.iter().try_for_each(|script| run(script, root, first, second, tally))
}

fn run(script: &str, root: &Path, first: &Path, second: &Path, tally: &mut Tally) -> Result<()> {
    let layer = TempDir::new("package")?;
    let mut shell =
        layer::shell(layer.path(), root, Network::Own, &[("first", first), ("second", second)], ENTER);
    shell.env("script", format!("{CHECKS}{script}finish\n"));
    tally.run(shell, Some("the Debian package ... FAILED: it ended before its tests did"))
}
