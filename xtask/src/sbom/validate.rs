//! Documents as others read them: by the SPDX project's own tools.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use harness_core::TempDir;

use crate::python;
use crate::test_summary::TestSummary;

const TOOLS: &str = "spdx-tools";
const VERSION: &str = "0.8.3";

/// Counts, for each document with its name, whether it is valid. The tools are fetched with pip,
/// into the cache.
///
/// # Errors
/// A file can't be read, or the tools find nothing wrong with a document that is not valid.
pub fn validate(documents: &[(&str, &Path)], summary: &mut TestSummary) -> Result<()> {
    let tools = match python::find_or_fetch(TOOLS, VERSION, works) {
        Ok(tools) => tools,
        Err(e) => {
            summary.skip(format!("the SBOM: python3 with pip can't fetch {TOOLS}: {e:#}"));
            return Ok(());
        }
    };
    for (name, file) in documents {
        let text = std::fs::read_to_string(file)?;
        let findings = findings(&tools, &text)?;
        summary.add(&format!("the SBOM of {name}"), &findings);
        let spoilt = text.replacen("\"SPDX-2.3\"", "\"SPDX-9\"", 1).replacen("DESCRIBES", "LIKES", 1);
        ensure!(!self::findings(&tools, &spoilt)?.is_empty(), "{TOOLS} takes a document that is not valid");
    }
    Ok(())
}

fn findings(tools: &Path, document: &str) -> Result<Vec<String>> {
    let folder = TempDir::new("sbom")?;
    let file = folder.write(super::FILE, document)?;
    let output = pyspdxtools(tools).arg("-i").arg(file).output()?;
    if output.status.success() {
        return Ok(Vec::new());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(vec![format!("{TOOLS} refuses it: {said}")])
}

fn works(tools: &Path) -> bool {
    let mut help = pyspdxtools(tools);
    help.arg("--help");
    harness_core::run(help).is_ok()
}

fn pyspdxtools(tools: &Path) -> Command {
    let mut python = python::python(tools);
    python.args(["-m", "spdx_tools.spdx.clitools.pyspdxtools"]);
    python
}
