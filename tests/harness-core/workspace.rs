use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

/// Where things are; asked of cargo, which knows about `CARGO_TARGET_DIR` and its configuration
/// files.
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
}

impl Workspace {
    /// # Errors
    /// No cargo.
    pub fn find() -> Result<Self> {
        let mut cargo = crate::cargo();
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        let metadata = metadata(cargo, &["--no-deps"])?;
        let path =
            |key: &str| metadata.get(key).and_then(Value::as_str).map(PathBuf::from).context("no workspace");
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// cargo, in the root of the workspace.
    pub fn cargo(&self) -> Command {
        let mut cargo = crate::cargo();
        cargo.current_dir(&self.root);
        cargo
    }

    /// Every package that the lock file names, as `cargo metadata` describes them.
    ///
    /// # Errors
    /// cargo can't read the workspace.
    pub fn packages(&self) -> Result<Vec<Value>> {
        let metadata = metadata(self.cargo(), &["--locked", "--all-features"])?;
        metadata.get("packages").and_then(Value::as_array).cloned().context("cargo metadata without packages")
    }
}

fn metadata(mut cargo: Command, args: &[&str]) -> Result<Value> {
    cargo.args(["metadata", "--quiet", "--format-version", "1"]).args(args);
    serde_json::from_str(&crate::run(cargo)?).context("reading what cargo metadata said")
}
