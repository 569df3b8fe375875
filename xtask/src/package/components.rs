//! The list of components as the package has it.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use harness_core::TempDir;

use super::tree::DOCUMENTS;
use crate::sbom;
use crate::test_summary::TestSummary;

/// # Errors
/// The package can't be unpacked, or as [`sbom::validate`].
pub fn validate(package: &Path, summary: &mut TestSummary) -> Result<()> {
    let folder = TempDir::new("unpacked")?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(package).arg(folder.path());
    harness_core::run(unpack)?;
    let sbom = folder.path().join(DOCUMENTS).join(sbom::FILE);
    sbom::validate(&[("the Debian package", &sbom)], summary)
}
