//! What the guest's kernel finds in memory: as much as it takes to reach the host's files.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness_core::TempDir;

use super::debian::Debian;
use crate::arch::Arch;

/// Those that are asked for. Some kernels have some of them built in.
const MODULES: [&str; 4] = ["virtio_pci", "virtio_console", "virtiofs", "overlay"];

/// An archive in `dir`, with a script for the shell that finds itself in the host's files.
///
/// # Errors
/// A file can't be read or written.
pub fn write(debian: &Debian, tests: &str, dir: &TempDir) -> Result<PathBuf> {
    let root = dir.path().join("initramfs");
    put(&debian.guest_busybox(), &root.join("bin/busybox"))?;
    if debian.arch != Arch::host()? {
        // It can't start the host's.
        std::fs::write(root.join("brings-programs"), "")?;
    }
    std::fs::write(root.join("tests"), tests)?;
    let init = root.join("init");
    std::fs::write(&init, include_str!("init.sh"))?;
    std::fs::set_permissions(&init, std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(root.join("modules"), put_modules(&debian.modules(), &root)?.join(" "))?;

    let archive = root.with_extension("cpio");
    let mut pack = Command::new(debian.busybox());
    pack.args(["sh", "-c", r#"cd "$1" && "$0" find . | "$0" cpio -o -H newc >"$2""#]);
    pack.arg(debian.busybox()).arg(&root).arg(&archive);
    harness_core::run(pack)?;
    Ok(archive)
}

/// The modules, those that they need, and the list that says which these are. The names of those
/// that are not built in.
fn put_modules(from: &Path, root: &Path) -> Result<Vec<&'static str>> {
    let to = root.join("lib/modules").join(from.file_name().context("modules without a release")?);
    let list = from.join("modules.dep");
    put(&list, &to.join("modules.dep"))?;
    let needs = std::fs::read_to_string(&list).with_context(|| format!("reading {}", list.display()))?;
    let built_in = std::fs::read_to_string(from.join("modules.builtin")).unwrap_or_default();
    let mut names = Vec::new();
    for name in MODULES {
        let file = format!("/{name}.ko");
        if built_in.lines().any(|path| path.ends_with(&file)) {
            continue;
        }
        names.push(name);
        let line =
            needs.lines().find(|line| line.split(':').next().is_some_and(|path| path.ends_with(&file)));
        let line = line.with_context(|| format!("{} names no {name}.ko", list.display()))?;
        for path in line.split([':', ' ']).filter(|path| !path.is_empty()) {
            put(&from.join(path), &to.join(path))?;
        }
    }
    Ok(names)
}

fn put(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(from, to).map(|_| ()).with_context(|| format!("copying {}", from.display()))
}
