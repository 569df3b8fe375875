//! The BPF file system, where the guard's maps and links are pinned.

use std::process::Command;

use anyhow::{Context, Result};

pub const PATH: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const MAGIC: u64 = 0xcafe_4a11;

/// # Errors
/// There is no such folder.
pub fn is_mounted() -> Result<bool> {
    // The list of mounts would name one, too, that lies hidden under another.
    let here = rustix::fs::statfs(PATH).with_context(|| format!("looking at {PATH}"))?;
    Ok(u64::try_from(here.f_type).is_ok_and(|magic| magic == MAGIC))
}

/// # Errors
/// Not root, or a kernel without it.
pub fn mount() -> Result<()> {
    let mut mount = Command::new("mount");
    mount.args(["-t", "bpf", "bpf", PATH]);
    harness_core::run(mount).map(|_| ())
}
